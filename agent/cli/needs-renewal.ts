import { type HostKeyView, isCertifiable } from '../renewal/judge.ts'
import { type CliContext, type ConfigOption, observeOnce, requireConfig } from './context.ts'
import { findHostKey, noSuchHostKey } from './renew.ts'

/** As step's `needs-renewal`: 0 due, 1 not due, 2 nothing there, 255 could not tell. */
export const NEEDS_RENEWAL = { due: 0, notDue: 1, nothing: 2, error: 255 } as const

interface NeedsRenewalOptions extends ConfigOption {
  readonly hostKey?: string
  readonly json?: boolean
}

/** `needs-renewal`: whether anything is due. Looks at files only. Whatever it throws is {@link NEEDS_RENEWAL} `error`. */
export async function needsRenewal(
  context: CliContext,
  options: NeedsRenewalOptions,
  signal: AbortSignal,
): Promise<number> {
  const config = await requireConfig(context, options)
  await context.dropPrivileges(config.stateDirectory)
  const { views } = await observeOnce(context, config, false, signal)
  const asked = options.hostKey === undefined ? views.filter(isRenewed) : named(views, options.hostKey)
  if (options.hostKey !== undefined && asked.length === 0) {
    const files = views.map(({ file }) => file)
    context.err(noSuchHostKey(files, options.hostKey))
  }
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

/** A key that sshd does not offer is ignored and renewed all the same; one that the issuer does not sign is not. */
function isRenewed(view: HostKeyView): boolean {
  return isCertifiable(view) || view.state.state !== 'ignored'
}

function named(views: readonly HostKeyView[], given: string): readonly HostKeyView[] {
  const found = findHostKey(
    views.map(({ file }) => file),
    given,
  )
  return views.filter(({ file }) => file === found)
}

function answerFor(views: readonly HostKeyView[]): number {
  if (!views.some(isCertifiable)) return NEEDS_RENEWAL.nothing
  if (views.some(({ onDisk }) => onDisk.kind === 'absent')) return NEEDS_RENEWAL.nothing
  return views.some(({ due }) => due !== null) ? NEEDS_RENEWAL.due : NEEDS_RENEWAL.notDue
}
