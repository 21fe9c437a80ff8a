import { CLOCKS_DIFFER, errorOf, type Explanation, SSHD_DOWN } from '../../cert/errors.ts'
import { isSkewed } from '../../renewal/status-document.ts'
import { html, type Html, prose } from './html.ts'
import { aheadOrBehind, count, moment, type PageView } from './words.ts'

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
  if (isSkewed(skew)) cards.push(clockCard(skew))
  if (cards.length === 0) return null
  return html`<h2 id="problems-title">What is wrong, and what to do</h2>
    ${cards}`
}

/**
 * The last errors, one for each code and message: an issuer that is down concerns all host keys alike. Then the
 * reasons that no error tells of, sshd serving something else say.
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
  if (status?.enrolled !== true) {
    // Not enrolled with a configuration there is: it has a mistake.
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
