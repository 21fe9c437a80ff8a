import { CLOCKS_DIFFER, errorOf, ERRORS, type Explanation, SSHD_DOWN, UPPER_CASE } from '../../cert/errors.ts'
import { formatTime, parseTime, type UnixSeconds } from '../../cert/time.ts'
import { upperCaseWarning } from '../../cert/verify-issued.ts'
import {
  type CertificateStatus,
  readinessOf,
  type StatusDocument,
  isSkewed,
  isStopped,
} from '../../renewal/status-document.ts'
import {
  count,
  day,
  isBare,
  minute,
  type PageView,
  second,
  type Tone,
  toneOf,
  aheadOrBehind,
  moment,
  html,
  type Html,
  prose,
} from './html.ts'

/**
 * The state of this host, as a title and a sentence. Screen readers read it out whenever it changes, so it changes with
 * the state and not with the time: no countdowns.
 */
interface Verdict {
  readonly tone: Tone
  readonly title: string
  /** With commands between backticks. */
  readonly detail: string
}

type Title = (number: number) => string

/** A reason why the host is not ready, and its text. */
interface Grave {
  readonly is: (certificate: CertificateStatus) => boolean
  readonly title: Title
  readonly detail: string
}

const CLIENTS_REFUSE = 'Clients that trust only the CA refuse this host, or prompt for its key'

/** The gravest first. */
const GRAVE: readonly Grave[] = [
  {
    is: ({ state }) => state === 'expired',
    title: (number) => `${count(number, 'certificate')} expired`,
    detail: CLIENTS_REFUSE,
  },
  {
    is: ({ state }) => state === 'absent',
    title: (number) => `${count(number, 'host key')} without a certificate`,
    detail: CLIENTS_REFUSE,
  },
  {
    is: isBare,
    title: (number) => `${count(number, 'certificate')} not served`,
    detail: `The certificate on disk is good, but sshd presents no usable certificate. ${CLIENTS_REFUSE}`,
  },
  {
    is: ({ state }) => state === 'invalid',
    title: (number) => `${count(number, 'certificate')} unusable`,
    detail: 'The certificate on disk does not pass the checks',
  },
  {
    is: ({ state }) => state === 'overdue',
    title: (number) => `${count(number, 'renewal')} overdue`,
    detail: 'The certificate is still valid, but should have been renewed by now',
  },
  {
    is: ({ state }) => state === 'unconfirmed',
    title: (number) => `${count(number, 'certificate')} not served`,
    detail: 'The certificate on disk is good, but sshd was not seen to present it',
  },
]

/** The same judgement as `/readyz`, as text. */
export function verdictOf({ status, live, now }: PageView): Verdict {
  if (!live.ok) {
    const since = live.lastTurn === null ? '' : ` since ${second(formatTime(live.lastTurn) ?? '')} UTC`
    return {
      tone: 'bad',
      title: 'hostcertd is stuck',
      detail: `It has completed no pass${since}. What is shown below may be out of date; try \`systemctl restart hostcertd\``,
    }
  }
  if (status === null) {
    return { tone: 'busy', title: 'Starting', detail: 'The first pass has not been completed yet' }
  }
  if (isStopped(status)) {
    const detail =
      'This machine was copied after it was enrolled, and nothing is renewed here. The certificates in place stay, and expire'
    return { tone: 'bad', title: 'Not enrolled', detail }
  }
  if (!status.enrolled) {
    return {
      tone: 'idle',
      title: 'Not enrolled',
      detail:
        'This host has no configuration, so it requests no certificates. Write one as described in hostcertd.yaml(5); hostcertd looks for it every minute',
    }
  }
  return enrolled(status, now)
}

function enrolled(status: StatusDocument, now: UnixSeconds): Verdict {
  const { certificates } = status
  for (const { is, title, detail } of GRAVE) {
    const [first, ...others] = certificates.filter(is)
    if (first === undefined) continue
    const issuer = status.issuer.reachable === false ? '. The issuer does not answer' : ''
    const sshd = status.sshd.state === 'down' ? '. sshd is down' : ''
    return { tone: toneOf(first), title: title(1 + others.length), detail: `${detail}${issuer}${sshd}` }
  }
  const readiness = readinessOf(status, null, now)
  if (readiness?.reason === 'no-host-key') {
    const detail = 'There is no host key that the issuer signs and sshd offers'
    return { tone: 'bad', title: 'Nothing to certify', detail }
  }
  if (readiness?.status === 'fail') {
    return { tone: 'warn', title: 'Not ready', detail: 'sshd was not seen to present every certificate' }
  }
  if (status.sshd.state === 'down') {
    const detail = 'It accepts no connections. When it starts, it reads the certificates on disk'
    return { tone: 'warn', title: 'sshd is down', detail }
  }
  if (readiness?.reason === 'evidence-old') {
    const detail =
      'The certificates on disk are good, and were served when sshd was last checked, 30 minutes ago or longer'
    return { tone: 'warn', title: 'sshd could not be checked', detail }
  }
  if (readiness?.reason === 'machine-copied') {
    const detail = 'This is a copy of the enrolled machine; both renew certificates for the same host'
    return { tone: 'warn', title: 'This machine was copied', detail }
  }
  if (readiness?.reason === 'clock-skew') {
    const skew = Math.round(Math.abs(status.issuer.clock_skew_seconds ?? 0))
    const detail = `It differs from the issuer’s by ${count(skew, 'second')}. Check \`timedatectl\``
    return { tone: 'warn', title: 'The clock is off', detail }
  }
  const due = certificates.filter(({ state }) => state === 'due').length
  if (readiness?.status === 'warn') {
    const detail = 'The certificates are still valid, and renewal is retried automatically'
    return { tone: 'warn', title: 'Renewal is failing', detail }
  }
  if (due > 0) {
    const title = due === 1 ? 'A renewal is due' : `${due} renewals are due`
    return { tone: 'busy', title, detail: 'The certificates are valid, and are renewed automatically' }
  }
  const valid = certificates.filter(({ state }) => state === 'valid')
  const [next] = valid
    .flatMap(({ renewal_due }) => renewal_due ?? [])
    .sort((a, b) => parseTime(a) - parseTime(b))
  const then = next === undefined ? '' : `; next renewal ${day(next)}, ${minute(next)} UTC`
  return { tone: 'good', title: 'All well', detail: `${count(valid.length, 'certificate')} valid${then}` }
}

/** One thing that is wrong, with all the host keys that it touches. */
interface Problem {
  readonly code: string
  readonly message: string | null
  readonly at: string | null
  readonly failures: number
  readonly hostKeys: string[]
}

/** What is wrong and what to do about it; nothing when nothing is. */
export function problemsSection(view: PageView): Html | null {
  const cards = problemsOf(view).map(problemCard)
  const skew = view.status?.issuer.clock_skew_seconds ?? null
  if (view.status?.sshd.state === 'down') cards.push(downCard(view.status.sshd.since))
  if (view.status?.enrolled === true && view.status.machine.copied === true) cards.push(copiedCard())
  if (isSkewed(skew)) cards.push(clockCard(skew))
  const inUpperCase = upperCaseWarning([
    ...new Set(view.status?.certificates.flatMap(({ principals }) => principals)),
  ])
  if (inUpperCase !== null) cards.push(upperCaseCard(inUpperCase))
  if (cards.length === 0) return null
  return html`<h2 id="problems-title">What is wrong, and what to do</h2>
    ${cards}`
}

/**
 * The last errors, one for each code and message: an issuer that is down concerns all host keys alike. Then the
 * reasons without an error, for example that sshd serves another certificate.
 */
function problemsOf({ status, events }: PageView): readonly Problem[] {
  const problems = new Map<string, Problem>()
  const add = (problem: Problem): void => {
    const key = `${problem.code} ${problem.message}`
    const before = problems.get(key)
    problems.set(key, {
      ...problem,
      at: [before?.at ?? null, problem.at].reduce((a, b) => ((a ?? '') > (b ?? '') ? a : b)),
      failures: Math.max(before?.failures ?? 0, problem.failures),
      hostKeys: [...(before?.hostKeys ?? []), ...problem.hostKeys],
    })
  }
  if (status === null || (!status.enrolled && !isStopped(status))) {
    // Not enrolled although there is a configuration: it is invalid.
    const told = events.find(({ code, level }) => code === 'CONFIG_INVALID' && level === 'error')
    if (told !== undefined)
      add({ code: 'CONFIG_INVALID', message: told.message, at: told.at, failures: 0, hostKeys: [] })
    return [...problems.values()]
  }
  for (const { host_key, last_error: error, failures, state } of status.certificates) {
    if (error === null || state === 'ignored') continue
    add({ ...error, failures, hostKeys: [host_key] })
  }
  for (const { host_key, reason, state, last_error } of status.certificates) {
    if (reason === null || state === 'ignored' || reason === last_error?.code || errorOf(reason) === null)
      continue
    add({ code: reason, message: null, at: null, failures: 0, hostKeys: [host_key] })
  }
  return [...problems.values()]
}

function problemCard({ code, message, at, failures, hostKeys }: Problem): Html {
  const known = errorOf(code)
  const times = failures > 1 ? `, ${failures} times in a row` : ''
  return html`<article class="card problem tone-bad">
    <h3>
      ${known === null ? null : html`${known.title} `}<code>${code}</code>${hostKeys.length === 0 ? null : html` <span class="about">${count(hostKeys.length, 'host key')}</span>`}
    </h3>
    ${message === null ? null : html`<p class="message">${message}</p>`}
    ${known === null ? null : remedyList(known)}
    <p class="quiet">
      ${hostKeys.map((name, index) => html`${index > 0 ? ', ' : ''}<span class="name">${name}</span>`)}${
        at === null ? null : html`${hostKeys.length > 0 ? ' · ' : ''}last at ${moment(at)} UTC${times}`
      }
    </p>
  </article>`
}

/** Where it stops renewal, it is the last error of each host key. */
function copiedCard(): Html {
  return html`<article class="card problem tone-warn">
    <h3>${ERRORS.MACHINE_COPIED.title} <code>MACHINE_COPIED</code></h3>
    ${remedyList(ERRORS.MACHINE_COPIED)}
  </article>`
}

function downCard(since: string | null): Html {
  return html`<article class="card problem tone-warn">
    <h3>${SSHD_DOWN.title}</h3>
    ${since === null ? null : html`<p class="message">Since ${moment(since)} UTC.</p>`}
    ${remedyList(SSHD_DOWN)}
  </article>`
}

/** A graver verdict hides it. */
function clockCard(skew: number): Html {
  return html`<article class="card problem tone-warn">
    <h3>${CLOCKS_DIFFER.title}</h3>
    <p class="message">The issuer’s clock is ${aheadOrBehind(skew)}.</p>
    ${remedyList(CLOCKS_DIFFER)}
  </article>`
}

function upperCaseCard(warning: string): Html {
  return html`<article class="card problem tone-warn">
    <h3>${UPPER_CASE.title}</h3>
    <p class="message">${warning}.</p>
    ${remedyList(UPPER_CASE)}
  </article>`
}

function remedyList({ cause, remedy }: Explanation): Html {
  return html`<dl class="remedy">
    <div>
      <dt>Cause</dt>
      <dd>${prose(cause)}.</dd>
    </div>
    <div>
      <dt>What to do</dt>
      <dd>${prose(remedy)}.</dd>
    </div>
  </dl>`
}
