import { AgentError, messageOf } from '../core/errors.ts'
import { isCertifiable, type HostKeyView } from '../renewal/observe.ts'
import type { CliContext } from './context.ts'
import { loadForVerb, type ConfigOption } from './load.ts'
import { lookOnce } from './look.ts'
import { hostKeyName } from './renew.ts'

/** As step's `needs-renewal`: 0 due, 1 not due, 2 nothing there, 255 could not tell. */
const ANSWER = { due: 0, notDue: 1, nothing: 2, error: 255 } as const

export interface NeedsRenewalOptions extends ConfigOption {
  readonly hostKey?: string
  readonly json?: boolean
}

/** `needs-renewal`: whether anything is due. Looks at files only. */
export async function needsRenewal(
  context: CliContext,
  options: NeedsRenewalOptions,
  signal: AbortSignal,
): Promise<number> {
  const loaded = await loadForVerb(context, options)
  if (loaded.kind === 'not-enrolled') context.err(`not enrolled: there is no ${loaded.path}`)
  if (loaded.kind !== 'ok') return ANSWER.error
  const only = options.hostKey === undefined ? null : hostKeyName(options.hostKey)
  let views: readonly HostKeyView[]
  try {
    views = (await lookOnce(context, loaded.config, false, signal)).views
  } catch (error) {
    context.err(error instanceof AgentError ? `${error.code}: ${error.message}` : messageOf(error))
    return ANSWER.error
  }
  const asked = views.filter(({ name, state }) => (only === null ? state.state !== 'ignored' : name === only))
  const documents = asked.map(({ name, due, state }) => ({
    host_key: name,
    due: due !== null,
    reason: due,
    state: state.state,
  }))
  if (options.json === true) context.out(`${JSON.stringify(documents, null, 2)}\n`)
  else
    for (const { host_key, due, reason } of documents)
      context.out(`${host_key}: ${due ? `due (${reason})` : 'not due'}\n`)
  return answerFor(asked)
}

function answerFor(views: readonly HostKeyView[]): number {
  if (views.length === 0 || !views.some(isCertifiable)) return ANSWER.nothing
  if (views.some(({ onDisk }) => onDisk.kind === 'absent')) return ANSWER.nothing
  return views.some(({ due }) => due !== null) ? ANSWER.due : ANSWER.notDue
}
