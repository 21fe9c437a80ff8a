import { formatDuration, parseTime, type UnixSeconds } from '../../cert/time.ts'
import {
  type CertificateStatus,
  isSkewed,
  isStopped,
  type RecentEvent,
  servingOf,
  type StatusDocument,
  waitText,
} from '../../renewal/status-document.ts'
import {
  html,
  type Html,
  aheadOrBehind,
  day,
  distance,
  moment,
  type PageView,
  second,
  sign,
  type Tone,
} from './html.ts'

/**
 * What sshd presents to clients, compared with the certificates on disk. The roles are those of the elements, which lose them
 * in some browsers where a narrow page stacks the cells.
 */
export function sshdSection({ status, now }: PageView): Html | null {
  const certificates = (status?.certificates ?? []).filter(({ state }) => state !== 'ignored')
  const notes = status?.notes ?? []
  if (certificates.length === 0 && notes.length === 0) return null
  return html`<h2 id="sshd-title">What sshd serves</h2>
    ${certificates.length === 0 ? null : servedTable(certificates, status?.sshd.state === 'down', now)}
    ${notes.length === 0 ? null : notesCard(notes)}`
}

function servedTable(certificates: readonly CertificateStatus[], isDown: boolean, now: UnixSeconds): Html {
  return html`<div class="card">
    <table role="table">
      <caption>
        As seen in a real handshake
      </caption>
      <thead role="rowgroup">
        <tr role="row">
          <th role="columnheader" scope="col">Host key</th>
          <th role="columnheader" scope="col">sshd presents</th>
          <th role="columnheader" scope="col">Seen</th>
        </tr>
      </thead>
      <tbody role="rowgroup">
        ${certificates.map((certificate) => servedRow(certificate, isDown, now))}
      </tbody>
    </table>
    ${unanswered(certificates)}
  </div>`
}

/** Why the last question brought no answer, once for all host keys of which that is so. */
function unanswered(certificates: readonly CertificateStatus[]): Html | null {
  const byReason = Map.groupBy(certificates, ({ served }) => served?.unknown ?? null)
  byReason.delete(null)
  if (byReason.size === 0) return null
  return html`<ul class="unanswered quiet">
    ${[...byReason].map(([reason, keys]) => {
      const names = keys.map(({ host_key }) => host_key).join(', ')
      const about = keys.length === certificates.length ? '' : ` for ${names}`
      return html`<li>sshd could not be checked${about}: ${reason}</li>`
    })}
  </ul>`
}

/** What the root helper left out or found, with file and reason. */
function notesCard(notes: readonly string[]): Html {
  return html`<div class="card notes tone-warn">
    <h3>Reported by the root helper</h3>
    <ul>
      ${notes.map((note) => html`<li>${note}</li>`)}
    </ul>
  </div>`
}

function servedRow(certificate: CertificateStatus, isDown: boolean, now: UnixSeconds): Html {
  const { host_key, served } = certificate
  const { tone, label } = presented(certificate, isDown, now)
  const at = served === null || served.matches === null ? null : served.checked_at
  return html`<tr role="row">
    <th role="rowheader" scope="row" class="name">${host_key}</th>
    <td role="cell">
      <span class="mark tone-${tone}">${sign(tone)}<span>${label}</span></span
      >${
        served?.matches === false && served.serial !== null
          ? html`<span class="name quiet">serial ${served.serial}</span>`
          : null
      }
    </td>
    <td role="cell" class="${at === null ? 'unknown' : 'asked'}">
      ${at === null ? '–' : html`<time datetime="${at}">${second(at)}<span class="away">${day(at)}</span></time>`}
    </td>
  </tr>`
}

/** @param isDown then what was served a moment ago is served no more */
function presented(
  { state, served }: CertificateStatus,
  isDown: boolean,
  now: UnixSeconds,
): { readonly tone: Tone; readonly label: string } {
  const evidence = servingOf(served, now)
  switch (isDown && evidence === 'served' ? 'served-before' : evidence) {
    case 'not-asked':
      return { tone: 'idle', label: 'not asked' }
    case 'unseen':
      return { tone: 'warn', label: 'not known' }
    case 'refuted':
      return (served?.serial ?? null) === null
        ? { tone: 'bad', label: 'no usable certificate' }
        : { tone: 'warn', label: 'another certificate' }
    case 'served-before':
      return {
        tone: 'warn',
        label: `this certificate, as last seen ${seenAgo(served?.checked_at ?? null, now)}`,
      }
    case 'served':
      if (state === 'expired') return { tone: 'bad', label: 'this certificate, expired' }
      return { tone: state === 'invalid' ? 'bad' : 'good', label: 'this certificate' }
  }
}

function seenAgo(checkedAt: string | null, now: UnixSeconds): string {
  const at = checkedAt === null ? NaN : parseTime(checkedAt)
  return at <= now ? distance(at, now) : 'an unknown time ago'
}

/** How the last exchange with the issuer went. */
export function issuerSection({ status, now }: PageView): Html | null {
  if (status === null || (!status.enrolled && !isStopped(status))) return null
  const { url, reachable, last_success, clock_skew_seconds: skew } = status.issuer
  const tone = reachable === null ? 'idle' : reachable ? 'good' : 'bad'
  const label = { good: 'answers', bad: 'does not answer', idle: 'not asked yet' }[tone]
  return html`<h2 id="issuer-title">Issuer</h2>
    <div class="card">
      <dl class="facts">
        <div>
          <dt>Address</dt>
          <dd class="name">${url ?? '–'}</dd>
        </div>
        ${status.login.method === null ? null : loginRow(status.login.method)}
        <div>
          <dt>State</dt>
          <dd>
            <span class="mark tone-${tone}">${sign(tone)}<span>${label}</span></span>
          </dd>
        </div>
        <div>
          <dt>Last success</dt>
          <dd>${last_success === null ? 'none since the start' : moment(last_success)}</dd>
        </div>
        <div>
          <dt>Clock</dt>
          <dd>${clock(skew)}</dd>
        </div>
        ${status.waits.length === 0 ? null : waitsRow(status, now)}
      </dl>
    </div>`
}

function loginRow(method: string): Html {
  return html`<div>
    <dt>Login</dt>
    <dd class="name">${method}</dd>
  </div>`
}

/** Those for sshd are among them: here is what is not tried before its time. */
function waitsRow({ waits, login }: StatusDocument, now: UnixSeconds): Html {
  return html`<div>
    <dt>Waiting</dt>
    <dd>${waits.map((wait) => html`<div>${waitText(wait, login, now)}</div>`)}</dd>
  </div>`
}

function clock(skew: number | null): Html {
  if (skew === null) return html`not compared lately`
  if (!isSkewed(skew)) return html`agrees with ours`
  return html`<span class="mark tone-warn">${sign('warn')}<span>${aheadOrBehind(skew)}</span></span>`
}

const EVENT_TONES: Readonly<Record<RecentEvent['level'], Tone>> = { info: 'idle', warn: 'warn', error: 'bad' }
const LEVEL_WORDS: Readonly<Record<RecentEvent['level'], string>> = {
  info: 'event',
  warn: 'warning',
  error: 'error',
}

/** The last events, the newest first. */
export function eventsSection({ events }: PageView): Html {
  return html`<h2 id="events-title">Recent events</h2>
    ${
      events.length === 0
        ? html`<p class="card quiet">Nothing has happened yet.</p>`
        : html`<ol class="card events" reversed>
            ${events.map(eventItem)}
          </ol>`
    }`
}

function eventItem({
  at,
  level,
  message,
  hostKeys,
  code,
  serial,
  requestId,
  retryInSeconds,
}: RecentEvent): Html {
  const notes = [
    code === null ? null : html`<code>${code}</code>`,
    hostKeys.length === 0 ? null : html`<span class="name">${hostKeys.join(', ')}</span>`,
    serial === null ? null : html`serial <span class="name">${serial}</span>`,
    requestId === null ? null : html`request <span class="name">${requestId}</span>`,
    retryInSeconds === null ? null : html`next attempt after ${formatDuration(retryInSeconds)}`,
  ].filter((note) => note !== null)
  return html`<li class="tone-${EVENT_TONES[level]}">
    <time datetime="${at}"><span>${second(at)}</span> <span class="away">${day(at)}</span></time>
    <div>
      <p>
        ${level === 'info' ? null : html`<strong class="level">${LEVEL_WORDS[level]}</strong> `}${message}
      </p>
      ${notes.length === 0 ? null : html`<p class="quiet">${notes.map((note, index) => html`${index > 0 ? ' · ' : ''}${note}`)}</p>`}
    </div>
  </li>`
}
