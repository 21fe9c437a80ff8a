import { createHash } from 'node:crypto'
import { formatTime, parseTime, type UnixSeconds } from '../../cert/time.ts'
import { type CertificateStatus, isStopped } from '../../renewal/status-document.ts'
import { SCRIPT, STYLE } from './assets.ts'
import {
  Html,
  html,
  prose,
  type PageView,
  second,
  sign,
  tabIcon,
  day,
  distance,
  minute,
  moment,
  toneOf,
} from './html.ts'
import { eventsSection, issuerSection, sshdSection } from './sections.ts'
import { problemsSection, verdictOf } from './verdict.ts'

/** The page may run its own script, use its own styles, and ask its own server; nothing else. CSP Level 3. */
const POLICY = [
  "default-src 'none'",
  `script-src '${hashOf(SCRIPT)}'`,
  `style-src '${hashOf(STYLE)}'`,
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ')

/** Not in the template: the policy names their hashes, so no formatter may touch them. */
const STYLE_TAG = new Html(`<style>${STYLE}</style>`)
const SCRIPT_TAG = new Html(`<script>${SCRIPT}</script>`)

export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': POLICY,
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
}

/** The status page: one document with all that it needs, complete without its script. Links are relative, for proxies. */
export function renderPage(view: PageView): string {
  const verdict = verdictOf(view)
  const at = formatTime(view.now) ?? ''
  return `<!doctype html>\n${
    html`<html lang="en" data-version="${view.version}">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="robots" content="noindex" />
        <title>${verdict.title} · ${view.hostName} · hostcertd</title>
        <link rel="icon" href="${tabIcon(verdict.tone)}" />
        ${STYLE_TAG}
      </head>
      <body>
        <header class="page-header">
          <div>
            <p class="brand">hostcertd</p>
            <h1>${view.hostName}</h1>
          </div>
          <p id="as-of" data-live>as of <time datetime="${at}">${second(at)} UTC</time></p>
        </header>
        <main>
          <div id="stale" role="alert" hidden></div>
          <div id="verdict" role="status" class="verdict tone-${verdict.tone}" data-live>
            ${sign(verdict.tone)}
            <p><strong>${verdict.title}</strong>${prose(verdict.detail)}.</p>
          </div>
          ${section('problems', problemsSection(view))} ${section('certificates', certificatesSection(view))}
          ${section('sshd', sshdSection(view))} ${section('issuer', issuerSection(view))}
          ${section('events', eventsSection(view))}
        </main>
        <footer>
          <p>hostcertd ${view.version}</p>
          <p>All times are UTC. <span id="pace">Reload the page to update it.</span></p>
          <p>
            For machines: <a href="status">status</a>, <a href="readyz">readiness</a>,
            <a href="metrics">metrics</a>
          </p>
        </footer>
        ${SCRIPT_TAG}
      </body>
    </html>`.text
  }\n`
}

/** A part that the script keeps up to date; it exists, empty, when there is nothing to show. */
function section(id: string, content: Html | null): Html {
  if (content === null) return html`<div id="${id}" data-live></div>`
  return html`<div id="${id}" data-live><section aria-labelledby="${id}-title">${content}</section></div>`
}

function hashOf(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`
}

/** A card for each host key. */
function certificatesSection({ status, now }: PageView): Html | null {
  if (status === null || (!status.enrolled && !isStopped(status))) return null
  const { certificates } = status
  return html`<h2 id="certificates-title">Certificates</h2>
    ${
      certificates.length === 0
        ? html`<p class="card quiet">No host key matches <code>host_keys</code>.</p>`
        : html`<div class="cards">${certificates.map((certificate) => card(certificate, now))}</div>`
    }`
}

function card(certificate: CertificateStatus, now: UnixSeconds): Html {
  const { host_key, key_type, state } = certificate
  const tone = toneOf(certificate)
  return html`<article class="card certificate">
    <header>
      <h3 class="name">${host_key}</h3>
      <p class="pill tone-${tone}">${sign(tone)}${state}</p>
      <p class="quiet">${key_type ?? 'of unknown type'}</p>
    </header>
    ${state === 'ignored' ? html`<p>Ignored: ${certificate.reason ?? 'no reason known'}.</p>` : whyNot(certificate)}
    ${state === 'ignored' && certificate.serial === null ? null : html`${lifetime(certificate, now)}${facts(certificate)}`}
  </article>`
}

function whyNot({ serial, last_attempt }: CertificateStatus): Html | null {
  if (serial !== null) return null
  const tried = last_attempt === null ? null : html` Last tried at ${moment(last_attempt)} UTC.`
  return html`<p>There is no certificate for this host key.${tried}</p>`
}

/** What is needed most often; the rest can be unfolded, because there are several host keys. */
function facts(certificate: CertificateStatus): Html {
  const { host_key, serial, principals, key_id, ca_fingerprint, last_success } = certificate
  const first = [
    principals.length === 0 ? null : fact('Good for', html`${principals.join(', ')}`),
    last_success === null ? null : fact('Last renewed', moment(last_success)),
    serial === null ? null : fact('Serial', named(serial)),
  ].filter((row) => row !== null)
  const more = [
    key_id === null ? null : fact('Key id', named(key_id)),
    ca_fingerprint === null ? null : fact('CA', named(ca_fingerprint)),
    fact('File', named(certificate.certificate)),
  ].filter((row) => row !== null)
  return html`${first.length === 0 ? null : html`<dl class="facts">${first}</dl>`}
    <details class="more" id="more-${host_key}">
      <summary id="more-of-${host_key}">More<span class="unseen"> about ${host_key}</span></summary>
      <dl class="facts">${more}</dl>
    </details>`
}

function named(text: string): Html {
  return html`<span class="name">${text}</span>`
}

function fact(name: string, value: Html): Html {
  return html`<div>
    <dt>${name}</dt>
    <dd>${value}</dd>
  </div>`
}

/** Labels near an end of the bar grow inwards. */
const NEAR_START = 12
const NEAR_END = 88

/**
 * The life of a certificate as a bar from issue to expiry, with "now" above it and "renewal due" below. Placed by SVG
 * attributes in per cent, for the Content-Security-Policy allows no inline styles.
 */
function lifetime(certificate: CertificateStatus, now: UnixSeconds): Html {
  const { serial, valid_after, valid_before, renewal_due } = certificate
  if (serial === null || valid_after === null)
    return html`<div class="life none"><div class="track"></div></div>`
  const start = parseTime(valid_after)
  const end = valid_before === null ? Infinity : parseTime(valid_before)
  const place = (at: UnixSeconds): number => (end === Infinity ? 0 : percent((at - start) / (end - start)))
  const nowAt = place(now)
  const due = renewal_due === null ? null : { time: renewal_due, at: place(parseTime(renewal_due)) }
  return html`<div class="life ${end === Infinity ? 'endless' : ''} tone-${toneOf(certificate)}">
    <div role="img" aria-label="${lifetimeText(certificate, nowAt, now)}">
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

function lifetimeText(
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
