import { formatDuration, type UnixSeconds } from '../../../core/time.ts'
import { html, type Html } from './html.ts'

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/** RFC 3339 as core writes it: a year past 9999 has a plus sign and more digits. */
const SHAPE = /^\+?(\d{4,})-(\d\d)-(\d\d)T((\d\d:\d\d):\d\d)/

const LONG_YEARS = 100
const YEAR_SECONDS = 31_556_952

/** `23 Nov 2026`, UTC. */
export function day(time: string): string {
  const [, year, month, date] = SHAPE.exec(time) ?? []
  if (year === undefined) return time
  return `${Number(date)} ${MONTHS[Number(month) - 1]} ${year}`
}

/** `14:43`, UTC; nothing for a time of another shape. */
export function minute(time: string): string {
  return SHAPE.exec(time)?.[5] ?? ''
}

/** `14:43:05`, UTC. */
export function second(time: string): string {
  return SHAPE.exec(time)?.[4] ?? time
}

/** `23 Nov 2026, 14:43`, machine-readable too. */
export function moment(time: string): Html {
  const clock = minute(time)
  return html`<time datetime="${time}">${day(time)}${clock === '' ? '' : `, ${clock}`}</time>`
}

/** `in 3d 5h`, `3d 5h ago`, `now`; `in 9974 years` where days say nothing. */
export function distance(at: UnixSeconds, now: UnixSeconds): string {
  const rest = Math.round(at - now)
  if (rest === 0) return 'now'
  const years = Math.round(Math.abs(rest) / YEAR_SECONDS)
  const words = years >= LONG_YEARS ? `${years} years` : formatDuration(Math.abs(rest))
  return rest > 0 ? `in ${words}` : `${words} ago`
}

/** `1 host key`, `3 host keys`. */
export function count(number: number, one: string, several = `${one}s`): string {
  return `${number} ${number === 1 ? one : several}`
}

/** `1m 15s behind ours`: where the issuer's clock is. */
export function aheadOrBehind(skew: number): string {
  return `${formatDuration(Math.abs(skew))} ${skew > 0 ? 'ahead of' : 'behind'} ours`
}
