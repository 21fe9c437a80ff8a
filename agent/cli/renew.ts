import { holdCredentials } from '../adapters/issuer/auth/held-credentials.ts'
import { AgentError } from '../core/errors.ts'
import { Attempts } from '../renewal/attempts.ts'
import type { Host } from '../renewal/host.ts'
import type { HostKeyView } from '../renewal/judge.ts'
import { pass, type PassResult } from '../renewal/pass.ts'
import type { AttemptRecords } from '../renewal/ports.ts'
import { EXIT, type CliContext } from './context.ts'
import { findHostKey, noSuchHostKey } from './host-key-option.ts'
import { requireConfig, type ConfigOption } from './load.ts'
import { isWell, outcomeDocument, reportOutcomes } from './renew-report.ts'
import { failureLine } from './verb-error.ts'

const LOCK_WAIT_MILLISECONDS = 60_000

export interface RenewOptions extends ConfigOption {
  readonly force?: boolean
  readonly dryRun?: boolean
  readonly hostKey?: string
  readonly json?: boolean
}

/** `renew`: one pass now. */
export async function renew(
  context: CliContext,
  options: RenewOptions,
  signal: AbortSignal,
): Promise<number> {
  const config = await requireConfig(context, options)
  // Only root can read them on a packaged host, and it is about to become somebody else.
  const readCredentialFile = await holdCredentials(config.auth)
  await context.becomeOwnerOf(config.stateDirectory)
  const host = context.composeHost(config, readCredentialFile)
  const only = options.hostKey === undefined ? null : await nameOf(host, options.hostKey)
  const result = await passWithLock(host, options, only, signal)

  const { outcomes, views } = result
  if (options.json === true) {
    context.out(`${JSON.stringify(outcomes.map(outcomeDocument), null, 2)}\n`)
  } else reportOutcomes(context, result, host.clock.now())
  const troubles = troublesOf(result, only)
  for (const trouble of troubles) context.err(trouble)
  for (const { name, state } of views)
    if (name === only && state.state === 'ignored') context.err(`${name}: ignored: ${state.reason}`)
  return outcomes.every(isWell) && troubles.length === 0 ? EXIT.ok : EXIT.failed
}

async function nameOf(host: Host, given: string): Promise<string> {
  const files = await host.hostKeys.list()
  const found = findHostKey(files, given)
  if (found === null) throw new AgentError('HOST_KEY_UNREADABLE', noSuchHostKey(files, given))
  return found.name
}

async function passWithLock(
  host: Host,
  { force = false, dryRun = false }: RenewOptions,
  only: string | null,
  signal: AbortSignal,
): Promise<PassResult> {
  const attempts = new Attempts(dryRun ? readOnly(host.records) : host.records, host.clock)
  const release = await host.lock.acquire(LOCK_WAIT_MILLISECONDS, signal)
  try {
    await attempts.load()
    const request = { force, dryRun, only, byHand: true, ask: true, askHelper: false }
    return await pass(host, attempts, request, signal)
  } finally {
    await release()
  }
}

/** What is wrong beside the attempts themselves: keys that cannot be read, certificates that are not served. */
function troublesOf({ views, trouble }: PassResult, only: string | null): string[] {
  const isAsked = (name: string): boolean => only === null || name === only
  const unreadable = views.filter(({ name }) => isAsked(name)).flatMap(unreadableLine)
  if (trouble === null) return unreadable
  return [
    ...unreadable,
    ...trouble.hostKeys.filter(isAsked).map((name) => `${name}: ${failureLine(trouble.failure)}`),
  ]
}

function unreadableLine({ name, file: { content } }: HostKeyView): string[] {
  return content.kind === 'unreadable' ? [`${name}: ${failureLine(content.failure)}`] : []
}

/** A dry run leaves no trace, in the attempt record neither. */
function readOnly(records: AttemptRecords): AttemptRecords {
  return { load: async () => records.load(), save: async () => {} }
}
