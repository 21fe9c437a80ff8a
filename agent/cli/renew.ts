import { resolve } from 'node:path'
import { AgentError } from '../cert/errors.ts'
import { formatCertificateTime, formatDuration, formatTime, type UnixSeconds } from '../cert/time.ts'
import type { Config } from '../config/config.ts'
import { Attempts } from '../renewal/attempts.ts'
import { type HostKeyView, isCertifiable } from '../renewal/judge.ts'
import { pass, type PassResult } from '../renewal/pass.ts'
import type { Host, AttemptRecords, HostKeyFile, IssuerSession } from '../renewal/ports.ts'
import type { KeyOutcome } from '../renewal/report.ts'
import {
  type CliContext,
  type ConfigOption,
  EXIT,
  failureLine,
  requireConfig,
  observeOnce,
} from './context.ts'

const LOCK_WAIT_MILLISECONDS = 60_000

interface RenewOptions extends ConfigOption {
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
  const issuer = context.composeIssuer(config)
  try {
    return await renewWith(issuer, config, context, options, signal)
  } finally {
    issuer.end()
  }
}

async function renewWith(
  issuer: IssuerSession,
  config: Config,
  context: CliContext,
  options: RenewOptions,
  signal: AbortSignal,
): Promise<number> {
  await context.dropPrivileges(config.stateDirectory)
  const host = { ...context.composeHost(config), issuer }
  const only = options.hostKey === undefined ? null : await nameOf(host, options.hostKey)
  const result = await passWithLock(host, options, only, signal)

  const { outcomes, views } = result
  if (options.json === true) {
    context.out(`${JSON.stringify(outcomes.map(outcomeDocument), null, 2)}\n`)
  } else reportOutcomes(context, result, host.clock.now())
  const troubles = troublesOf(result, only)
  for (const trouble of troubles) context.err(trouble)
  for (const { name, state } of views)
    if (name === only && state.state === 'ignored' && !outcomes.some(({ kind }) => kind === 'ignored'))
      context.err(`${name}: ignored: ${state.reason}`)
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

/** Whether what was due was done. */
function isWell({ kind }: KeyOutcome): boolean {
  return kind === 'renewed' || kind === 'would-renew' || kind === 'ignored'
}

/** A line for each host key that was due: what was done on stdout, what was not, or is not known, on stderr. */
function reportOutcomes(
  context: CliContext,
  { outcomes, views }: Pick<PassResult, 'outcomes' | 'views'>,
  now: UnixSeconds,
): void {
  if (outcomes.length === 0) {
    context.out('nothing is due\n')
    for (const line of doubtsOf(views)) context.err(line)
  }
  for (const outcome of outcomes) {
    const line = `${outcome.hostKey}: ${outcomeText(outcome, now)}`
    if (isWell(outcome)) context.out(`${line}\n`)
    else context.err(line)
  }
}

/** What "nothing is due" does not say: it is about the files, and sshd may not be known to serve them. */
function doubtsOf(views: readonly HostKeyView[]): string[] {
  const keys = views.filter(isCertifiable)
  if (keys.length === 0) return ['no host key can be issued a certificate']
  return keys.flatMap(({ name, served }) =>
    served.kind === 'not-asked' || served.unknown === null
      ? []
      : [`${name}: what sshd presents is unknown: ${served.unknown}`],
  )
}

function outcomeText(outcome: KeyOutcome, now: UnixSeconds): string {
  switch (outcome.kind) {
    case 'renewed':
    case 'would-renew': {
      const { serial, validBefore } = outcome.certificate.certificate
      const until = formatCertificateTime(validBefore)
      const verb = outcome.kind === 'renewed' ? 'renewed' : 'would be renewed'
      return `${verb} (${outcome.reason}), serial ${serial}, valid ${until === null ? 'forever' : `until ${until}`}`
    }
    case 'failed':
      return failureLine(outcome.failure)
    case 'ignored':
      return `ignored: the issuer does not sign this type of key: ${outcome.failure.message}`
    case 'waiting':
      return `due (${outcome.reason}), not tried: ${waitingText(outcome.until, now)}`
  }
}

/** @param until null: the host key changed under each request */
function waitingText(until: UnixSeconds | null, now: UnixSeconds): string {
  if (until === null) return 'the host key kept changing'
  return `the issuer has locked the login for another ${formatDuration(until - now)}`
}

/** The same for `--json`, one object for each host key that was due. */
function outcomeDocument(outcome: KeyOutcome): object {
  const base = { host_key: outcome.hostKey, result: outcome.kind }
  switch (outcome.kind) {
    case 'renewed':
    case 'would-renew': {
      const { serial, validAfter, validBefore } = outcome.certificate.certificate
      return {
        ...base,
        reason: outcome.reason,
        serial: String(serial),
        valid_after: formatCertificateTime(validAfter),
        valid_before: formatCertificateTime(validBefore),
      }
    }
    case 'failed':
    case 'ignored':
      return { ...base, error: { code: outcome.failure.code, message: outcome.failure.message } }
    case 'waiting':
      return { ...base, reason: outcome.reason, until: formatTime(outcome.until) }
  }
}

/**
 * The host key that `--host-key` means: a path with or without `.pub`, or a name.
 *
 * @returns null when the configuration names no such host key
 */
function findHostKey(files: readonly HostKeyFile[], given: string): HostKeyFile | null {
  const isPath = given.includes('/')
  const wanted = withoutSuffix(isPath ? resolve(given) : given)
  const matches = ({ name, path, content }: HostKeyFile): boolean =>
    // Who names a key by its path means that file, not the one of the same name that goes before it.
    content.kind !== 'shadowed' && wanted === (isPath ? withoutSuffix(path) : name)
  return files.find(matches) ?? null
}

/** What to say when {@link findHostKey} found none. */
function noSuchHostKey(files: readonly HostKeyFile[], given: string): string {
  const names = files.map(({ name }) => name).join(', ')
  return `no such host key: ${given}${names === '' ? '' : ` (available: ${names})`}`
}

function withoutSuffix(text: string): string {
  return text.replace(/\.pub$/, '')
}

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
  const { views, facts } = await observeOnce(context, config, false, signal)
  const { stopped } = facts.machine
  if (stopped !== null)
    throw new AgentError(
      stopped.code,
      `${stopped.message}; nothing is renewed here (enrollment.on_copy: stop)`,
    )
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
