import { formatDuration, type UnixSeconds } from '../../cert/time.ts'
import type { CertificateState } from '../../renewal/certificate-state.ts'
import type { CertificateStatus, RecentEvent, StatusDocument } from '../../renewal/status-document.ts'

/** Text that is HTML already; only {@link html} makes one. */
export class Html {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

type Part = string | number | Html | readonly Html[] | null

/** HTML from a template: what is put in is text and is escaped, unless it is {@link Html}; null puts in nothing. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return new Html(String.raw({ raw: strings }, ...parts.map(textOf)))
}

/** Remedies put commands between backticks: `<code>` here. */
export function prose(text: string): Html[] {
  return text.split('`').map((part, index) => (index % 2 === 1 ? html`<code>${part}</code>` : html`${part}`))
}

function textOf(part: Part): string {
  if (part === null) return ''
  if (part instanceof Html) return part.text
  if (typeof part === 'number') return String(part)
  return typeof part === 'string' ? escaped(part) : part.map(({ text }) => text).join('')
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

/**
 * Safe between tags and inside quoted attributes. What would hide text or turn its direction (control and format
 * characters) is shown as its number instead: names and messages come from elsewhere.
 */
function escaped(text: string): string {
  return text
    .replace(
      /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu,
      (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`,
    )
    .replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '')
}

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
  const text = years >= LONG_YEARS ? `${years} years` : formatDuration(Math.abs(rest))
  return rest > 0 ? `in ${text}` : `${text} ago`
}

/** `1 host key`, `3 host keys`. */
export function count(number: number, one: string, several = `${one}s`): string {
  return `${number} ${number === 1 ? one : several}`
}

/** `1m 15s behind ours`: where the issuer's clock is. */
export function aheadOrBehind(skew: number): string {
  return `${formatDuration(Math.abs(skew))} ${skew > 0 ? 'ahead of' : 'behind'} ours`
}

/**
 * The state as a colour and a sign, always beside a text that says the same.
 *
 * - `good`: as it should be
 * - `busy`: work in progress, nothing to do
 * - `warn`: an administrator should look
 * - `bad`: clients are, or soon will be, in trouble
 * - `idle`: nothing to judge
 */
export type Tone = 'good' | 'busy' | 'warn' | 'bad' | 'idle'

const TONES: Readonly<Record<CertificateState, Tone>> = {
  ignored: 'idle',
  absent: 'bad',
  expired: 'bad',
  invalid: 'bad',
  overdue: 'warn',
  unconfirmed: 'warn',
  due: 'busy',
  valid: 'good',
}

/** Of a host key: by its state, and worse where clients are shown no certificate at all. */
export function toneOf(certificate: CertificateStatus): Tone {
  return isBare(certificate) ? 'bad' : TONES[certificate.state]
}

/** A good certificate on disk, and sshd was seen to present none: clients are asked about the host key now. */
export function isBare({ state, served }: CertificateStatus): boolean {
  return (
    (state === 'unconfirmed' || state === 'overdue') && served?.matches === false && served.serial === null
  )
}

const STROKES: Readonly<Record<Tone, string>> = {
  good: 'M5 10.5l3.2 3.2L15 7',
  busy: 'M10 5.5V10l3 2',
  warn: 'M10 5.5v5.5M10 14v.4',
  bad: 'M6.5 6.5l7 7M13.5 6.5l-7 7',
  idle: 'M6 10h8',
}

/** A sign for the eye only. */
export function sign(tone: Tone): Html {
  return html`<svg class="sign" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
    <circle cx="10" cy="10" r="9.5" />
    <path d="${STROKES[tone]}" />
  </svg>`
}

const ICON_COLOURS: Readonly<Record<Tone, string>> = {
  good: '2f8f5b',
  busy: '3572b0',
  warn: 'b7791f',
  bad: 'c0392b',
  idle: '75808c',
}

/** The icon of the tab, as a data URL: nothing is fetched. */
export function tabIcon(tone: Tone): string {
  const shape = `<circle cx='10' cy='10' r='10' fill='#${ICON_COLOURS[tone]}'/>`
  const stroke = `<path d='${STROKES[tone]}' fill='none' stroke='white' stroke-width='2' stroke-linecap='round'/>`
  const image = `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 20 20'>${shape}${stroke}</svg>`
  return `data:image/svg+xml,${encodeURIComponent(image)}`
}

/** All that the status page shows. */
export interface PageView {
  readonly hostName: string
  /** Of the program. */
  readonly version: string
  readonly now: UnixSeconds
  /** Null before the first pass is done. */
  readonly status: StatusDocument | null
  readonly live: { readonly ok: boolean; readonly lastTurn: UnixSeconds | null }
  /** The newest first. */
  readonly events: readonly RecentEvent[]
}
