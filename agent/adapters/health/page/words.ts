import { formatDuration, type UnixSeconds } from '../../../core/time.ts'
import { html, type Html } from './html.ts'

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/** The seconds of a time in a status document; `Infinity` for one that is too far off for the calendar. */
export function secondsOf(time: string): UnixSeconds {
  const milliseconds = Date.parse(time)
  return Number.isNaN(milliseconds) ? Infinity : milliseconds / 1000
}

/** `23 Nov 2026`, UTC. */
export function day(time: string): string {
  const [, year, month, date] = /^(\d{4})-(\d\d)-(\d\d)T/.exec(time) ?? []
  if (year === undefined) return time
  return `${Number(date)} ${MONTHS[Number(month) - 1]} ${year}`
}

/** `14:43`, UTC; nothing for a time of another shape. */
export function minute(time: string): string {
  return /^\d{4}-\d\d-\d\dT(\d\d:\d\d)/.exec(time)?.[1] ?? ''
}

/** `14:43:05`, UTC. */
export function second(time: string): string {
  return /^\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\d)/.exec(time)?.[1] ?? time
}

/** `23 Nov 2026, 14:43`, machine-readable too. */
export function moment(time: string): Html {
  const clock = minute(time)
  return html`<time datetime="${time}">${day(time)}${clock === '' ? '' : `, ${clock}`}</time>`
}

/** `in 3d 5h`, `3d 5h ago`, `now`. */
export function distance(at: UnixSeconds, now: UnixSeconds): string {
  const rest = Math.round(at - now)
  if (rest === 0) return 'now'
  return rest > 0 ? `in ${formatDuration(rest)}` : `${formatDuration(-rest)} ago`
}

/** `1 host key`, `3 host keys`. */
export function count(number: number, one: string, several = `${one}s`): string {
  return `${number} ${number === 1 ? one : several}`
}
