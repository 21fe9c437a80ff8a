import { basename } from 'node:path'
import { AgentError, messageOf } from '../core/errors.ts'
import { formatCertificateTime, formatDuration } from '../core/time.ts'
import type { AttemptRecords } from '../renewal/ports.ts'
import { Attempts } from '../renewal/attempts.ts'
import { NOTHING_KNOWN } from '../renewal/observe.ts'
import type { KeyOutcome } from '../renewal/renew-key.ts'
import { renewHost } from '../renewal/renew.ts'
import { notServed } from '../renewal/serve.ts'
import type { Host } from '../renewal/settings.ts'
import { EXIT, type CliContext } from './context.ts'
import { loadForVerb, type ConfigOption } from './load.ts'

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
  const loaded = await loadForVerb(context, options)
  if (loaded.kind === 'not-enrolled') context.err(`not enrolled: there is no ${loaded.path}`)
  if (loaded.kind !== 'ok') return EXIT.failed
  const host = context.composeHost(loaded.config, context.log(loaded.config))
  const dryRun = options.dryRun === true
  const attempts = new Attempts(dryRun ? readOnly(host.records) : host.records, host.clock)
  const only = options.hostKey === undefined ? null : hostKeyName(options.hostKey)
  try {
    const release = await host.lock.acquire(LOCK_WAIT_MILLISECONDS, signal)
    try {
      await attempts.load()
      const request = { force: options.force === true, dryRun, only, byHand: true, ask: true }
      const { views, outcomes } = await renewHost(host, attempts, NOTHING_KNOWN, request, signal)
      if (only !== null && !views.some(({ name }) => name === only)) {
        throw new AgentError('HOST_KEY_UNREADABLE', `there is no host key ${only}`)
      }
      const unserved = dryRun ? [] : notServed(views)
      if (options.json === true) context.out(`${JSON.stringify(outcomes.map(toJson), null, 2)}\n`)
      else report(context, host, outcomes)
      for (const { name, state } of unserved)
        context.err(`${name}: ${state.reason}: sshd does not serve the certificate`)
      return outcomes.every(isWell) && unserved.length === 0 ? EXIT.ok : EXIT.failed
    } finally {
      await release()
    }
  } catch (error) {
    context.err(error instanceof AgentError ? `${error.code}: ${error.message}` : messageOf(error))
    return EXIT.failed
  }
}

/** A host key may be named by its path, with or without `.pub`, or by its name. */
export function hostKeyName(given: string): string {
  return basename(given, '.pub')
}

function isWell({ kind }: KeyOutcome): boolean {
  return kind === 'renewed' || kind === 'would-renew'
}

function report(context: CliContext, host: Host, outcomes: readonly KeyOutcome[]): void {
  if (outcomes.length === 0) context.out('nothing is due\n')
  for (const outcome of outcomes) {
    const line = (text: string): void => context.out(`${outcome.hostKey}: ${text}\n`)
    switch (outcome.kind) {
      case 'renewed':
      case 'would-renew': {
        const { certificate } = outcome.certificate
        const until = formatCertificateTime(certificate.validBefore) ?? 'forever'
        const verb = outcome.kind === 'renewed' ? 'renewed' : 'would be renewed'
        line(`${verb} (${outcome.reason}), serial ${certificate.serial}, valid until ${until}`)
        break
      }
      case 'failed':
        line(`failed: ${outcome.failure.code}: ${outcome.failure.message}`)
        break
      case 'waiting': {
        const seconds = outcome.until === null ? 0 : outcome.until - host.clock.now()
        line(`due (${outcome.reason}), not tried: the issuer asked to wait ${formatDuration(seconds)} more`)
        break
      }
    }
  }
}

function toJson(outcome: KeyOutcome): object {
  const { kind, hostKey } = outcome
  const base = { host_key: hostKey, result: kind }
  switch (outcome.kind) {
    case 'renewed':
    case 'would-renew': {
      const { certificate } = outcome.certificate
      const times = {
        valid_after: formatCertificateTime(certificate.validAfter),
        valid_before: formatCertificateTime(certificate.validBefore),
      }
      return { ...base, reason: outcome.reason, serial: String(certificate.serial), ...times }
    }
    case 'failed':
      return { ...base, error: { code: outcome.failure.code, message: outcome.failure.message } }
    case 'waiting':
      return { ...base, reason: outcome.reason }
  }
}

/** A dry run leaves no trace, in the attempt record neither. */
function readOnly(records: AttemptRecords): AttemptRecords {
  return { load: async () => records.load(), save: async () => {} }
}
