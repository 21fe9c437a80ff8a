import type { CertificateStatus } from '../../../core/status-document.ts'
import { parseTime, type UnixSeconds } from '../../../core/time.ts'
import { html, type Html } from './html.ts'
import { toneOf } from './tone.ts'
import { day, distance, minute } from './words.ts'

/** Labels near an end of the bar grow inwards. */
const NEAR_START = 12
const NEAR_END = 88

/**
 * The life of a certificate as a bar from issue to expiry, with "now" above it and "renewal due" below. Placed by SVG
 * attributes in per cent, for the Content-Security-Policy allows no inline styles.
 */
export function lifetime(certificate: CertificateStatus, now: UnixSeconds): Html {
  const { serial, valid_after, valid_before, renewal_due } = certificate
  if (serial === null || valid_after === null)
    return html`<div class="life none"><div class="track"></div></div>`
  const start = parseTime(valid_after)
  const end = valid_before === null ? Infinity : parseTime(valid_before)
  const place = (at: UnixSeconds): number => (end === Infinity ? 0 : percent((at - start) / (end - start)))
  const nowAt = place(now)
  const due = renewal_due === null ? null : { time: renewal_due, at: place(parseTime(renewal_due)) }
  return html`<div class="life ${end === Infinity ? 'endless' : ''} tone-${toneOf(certificate)}">
    <div role="img" aria-label="${inWords(certificate, nowAt, now)}">
      ${end === Infinity ? null : label(nowAt, now >= end ? 'now, past the end' : 'now', 'above')}
      <div class="track">
        <svg width="100%" height="100%" aria-hidden="true">
          ${due === null ? null : html`<rect class="window" x="${due.at}%" width="${round(100 - due.at)}%" height="100%" />`}
          <rect class="spent" width="${nowAt}%" height="100%" />
          ${end === Infinity ? null : html`<rect class="now" x="${nowAt}%" width="3" height="100%" transform="translate(${nowAt > 50 ? -3 : 0})" />`}
        </svg>
      </div>
      ${due === null ? null : label(due.at, 'renewal', 'below')}
    </div>
    <dl class="dates">
      ${date('Issued', valid_after, distance(start, now))}
      ${due === null ? null : date('Renewal due', due.time, distance(parseTime(due.time), now))}
      ${
        valid_before === null
          ? html`<div>
              <dt>Expires</dt>
              <dd>never</dd>
            </div>`
          : date(now >= end ? 'Expired' : 'Expires', valid_before, distance(end, now))
      }
    </dl>
  </div>`
}

function label(at: number, text: string, where: 'above' | 'below'): Html {
  const anchor = at < NEAR_START ? 'start' : at > NEAR_END ? 'end' : 'middle'
  return html`<svg class="label ${where}" width="100%" height="20" aria-hidden="true">
    <text x="${at}%" y="${where === 'above' ? 13 : 17}" text-anchor="${anchor}">${text}</text>
    ${where === 'below' ? html`<line x1="${at}%" x2="${at}%" y1="0" y2="5" />` : null}
  </svg>`
}

function date(name: string, time: string, away: string): Html {
  const clock = minute(time)
  return html`<div>
    <dt>${name}</dt>
    <dd>
      <time datetime="${time}">${day(time)}</time
      ><span class="away"
        >${clock === '' ? null : html`<span>${clock}</span><span class="dot"> · </span>`}<span
          >${away}</span
        ></span
      >
    </dd>
  </div>`
}

function inWords(
  { valid_after, valid_before, renewal_due }: CertificateStatus,
  nowAt: number,
  now: UnixSeconds,
): string {
  const issued = `issued ${day(valid_after ?? '')}`
  if (valid_before === null) return `Lifetime: ${issued}, never expires`
  const due = renewal_due === null ? '' : `, renewal due ${day(renewal_due)}`
  const end = parseTime(valid_before)
  const spent = now >= end ? 'it is over' : `${Math.floor(nowAt)} per cent of it have passed`
  return `Lifetime: ${issued}${due}, ${now >= end ? 'expired' : 'expires'} ${day(valid_before)}; ${spent}`
}

/** Of a share, between 0 and 100, to a tenth: the page changes no more often than the eye can see. */
function percent(share: number): number {
  return Number.isNaN(share) ? 0 : round(Math.min(100, Math.max(0, share * 100)))
}

function round(number: number): number {
  return Math.round(number * 10) / 10
}
