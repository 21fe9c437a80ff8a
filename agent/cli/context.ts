import { AgentError, ERRORS } from '../cert/errors.ts'
import type { UnixSeconds } from '../cert/time.ts'
import { type Config, issuerFactsOf } from '../config/config.ts'
import { configPathFrom, loadConfig, type LoadedConfig } from '../config/load.ts'
import { problemLine } from '../config/problem.ts'
import type { Mode } from '../enroll/show.ts'
import type { EnrollTools } from '../enroll/wanted.ts'
import { askSshd } from '../renewal/ask-sshd.ts'
import { Attempts } from '../renewal/attempts.ts'
import { type HostKeyView, judgeNow } from '../renewal/judge.ts'
import { type Facts, isUnreadable, observe } from '../renewal/observe.ts'
import type { Host, IssuerSession, Log } from '../renewal/ports.ts'
import type { StatusDocument } from '../renewal/status-document.ts'
import { statusOf } from '../renewal/status.ts'
import type { VersionInfo } from '../version.ts'
import type { Daemon } from './daemon.ts'

/** What a verb needs from outside; `main.ts` makes the real one. */
export interface CliContext {
  readonly version: VersionInfo
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Results; bytes as they are. */
  readonly out: (text: string | Uint8Array) => void
  /** Messages for people, a line or more, without a newline at the end. */
  readonly err: (text: string) => void
  /** For stdout: whether to colour, and how wide a line may be; `Infinity` where that does not matter, in a pipe. */
  readonly terminal: { readonly colour: boolean; readonly columns: number }
  /** The ports of this host, for a verb that acts once. */
  readonly composeHost: (config: Config) => Host
  /** The issuer for `renew`. Call it before {@link dropPrivileges}: only root may be able to read the credentials. */
  readonly composeIssuer: (config: Config) => IssuerSession
  /** For `enroll` and `unenroll`, whose code no other verb loads. With `--check` and `--dry-run`, nothing is locked. */
  readonly enrollTools: (mode: Mode, signal: AbortSignal) => Promise<EnrollTools & AsyncDisposable>
  /** For what `unenroll` does at the issuer alone: nothing on this machine is touched. */
  readonly issuerTools: () => Promise<Omit<EnrollTools, 'journal'>>
  /** A revocation list of OpenSSH by key ids. Throws an Error that says why there is none. */
  readonly makeRevocationList: (keyIds: readonly string[]) => Promise<Buffer>
  /**
   * One run of `ca refresh`, while no `enroll` or `unenroll` is at work.
   *
   * @param load the configuration, read under their lock
   * @param isNow when the issuer says "later", that is a failure and not waited for
   * @returns whether all went well; what did not is logged
   */
  readonly refreshCas: (
    configFile: string,
    load: () => Promise<Config>,
    isNow: boolean,
    signal: AbortSignal,
  ) => Promise<boolean>
  /** For the metrics: null when there was none, or that is not known. */
  readonly lastUserCaSuccess: () => Promise<UnixSeconds | null>
  /** The command that starts an exchange with the issuer as a child. */
  readonly exchangeProgram: readonly string[]
  /** The daemon, already listening to SIGHUP and SIGUSR1. */
  readonly createDaemon: (config: Config | null, load: () => Promise<LoadedConfig>) => Daemon
  /** The daemon's log, for what is wrong before there is a configuration. */
  readonly daemonLog: () => Log
  /** @throws the signal's reason */
  readonly sleep: (milliseconds: number, signal: AbortSignal) => Promise<void>
  /** Become the owner of this folder when run as root; does nothing else, and nothing when it is not there. */
  readonly dropPrivileges: (folder: string) => Promise<void>
}

/** sysexits(3), as the interface has them. */
export const EXIT = { ok: 0, failed: 1, usage: 64, config: ERRORS.CONFIG_INVALID.exitStatus } as const

/** Ends a verb: each line is a message for people. Not a defect of the program, so no stack is shown. */
export class VerbError extends Error {
  readonly lines: readonly string[]

  /** @param lines at least one */
  constructor(...lines: readonly string[]) {
    super(lines.join('; '))
    this.name = 'VerbError'
    this.lines = lines
  }
}

/**
 * The message for what a verb threw, a line or more: `CODE: message`, or the stack of what should never have been thrown.
 *
 * @param signal if it has fired, its reason is the message
 */
export function linesOf(error: unknown, signal: AbortSignal): readonly string[] {
  if (signal.aborted) return [messageOrStack(signal.reason, false)]
  if (error instanceof VerbError) return error.lines
  if (error instanceof AgentError) return [failureLine(error)]
  return [messageOrStack(error, true)]
}

/** `CODE: message`. */
export function failureLine({ code, message }: { readonly code: string; readonly message: string }): string {
  return `${code}: ${message}`
}

function messageOrStack(error: unknown, withStack: boolean): string {
  if (!(error instanceof Error)) return String(error)
  return withStack ? (error.stack ?? error.message) : error.message
}

export interface ConfigOption {
  readonly config?: string | undefined
}

/**
 * Read the configuration that a verb was given. Does not change the user and prints nothing.
 *
 * @param checkPinnedCas false: for a verb that does without them, or looks at them itself
 */
export async function readConfig(
  context: CliContext,
  options: ConfigOption,
  checkPinnedCas = true,
): Promise<{ readonly path: string; readonly loaded: LoadedConfig }> {
  const { environment } = context
  const path = configPathFrom(options.config, environment)
  return { path, loaded: await loadConfig({ path, environment, checkPinnedCas }) }
}

/**
 * As {@link readConfig}; if it is valid, then become the daemon's user. For `run` and `config
 * validate`: a file that this user cannot read is a problem of the configuration, whichever user started them.
 */
export async function readConfigAsOwner(
  context: CliContext,
  options: ConfigOption,
): Promise<{ readonly path: string; readonly loaded: LoadedConfig }> {
  const { path, loaded } = await readConfig(context, options)
  if (loaded.kind !== 'ok') return { path, loaded }
  const { stateDirectory } = loaded.config
  const before = process.geteuid?.()
  await context.dropPrivileges(stateDirectory)
  const user = process.geteuid?.()
  if (user === before) return { path, loaded }
  const { loaded: again } = await readConfig(context, options)
  if (again.kind !== 'invalid') return { path, loaded: again }
  const reader = `(read as user ${user}, the owner of ${stateDirectory})`
  const problems = again.problems.map((problem) =>
    Object.assign({}, problem, { message: `${problem.message} ${reader}` }),
  )
  return { path, loaded: { kind: 'invalid', problems } }
}

/**
 * The configuration for a verb that acts once; warnings go to stderr. Does not change the user.
 *
 * @returns null when this host is not enrolled
 * @throws VerbError with every problem of the configuration
 */
export async function configForVerb(context: CliContext, options: ConfigOption): Promise<Config | null> {
  const { loaded } = await readConfig(context, options)
  switch (loaded.kind) {
    case 'invalid':
      throw new VerbError(...loaded.problems.map((problem) => `CONFIG_INVALID: ${problemLine(problem)}`))
    case 'not-enrolled':
    case 'ok':
      for (const warning of loaded.warnings) context.err(`warning: ${warning}`)
      return loaded.kind === 'ok' ? loaded.config : null
  }
}

/**
 * As {@link configForVerb}, for verbs that need one.
 *
 * @throws VerbError also when this host is not enrolled
 */
export async function requireConfig(context: CliContext, options: ConfigOption): Promise<Config> {
  const config = await configForVerb(context, options)
  if (config !== null) return config
  throw new VerbError(notEnrolledLine(configPathFrom(options.config, context.environment)))
}

export function notEnrolledLine(path: string): string {
  return `not enrolled: ${path} does not exist`
}

/** What can be found without the daemon. */
interface Observation {
  readonly host: Host
  readonly attempts: Attempts
  readonly views: readonly HostKeyView[]
  readonly status: StatusDocument
  readonly facts: Facts
}

/**
 * Examine host keys, certificates and, if asked to, what sshd presents. Changes nothing, needs no daemon.
 *
 * @throws AgentError CONFIG_INVALID when the pinned CAs cannot be read
 */
export async function observeOnce(
  context: CliContext,
  config: Config,
  askServed: boolean,
  signal: AbortSignal,
): Promise<Observation> {
  const host = context.composeHost(config)
  const attempts = new Attempts(host.records, host.clock)
  await attempts.load()
  const facts = await observe(host)
  if (isUnreadable(facts.pinned)) throw new AgentError(facts.pinned.code, facts.pinned.message)
  if (askServed) await askSshd(host, attempts, judgeNow(host, attempts.record, facts), signal)
  const views = judgeNow(host, attempts.record, facts)
  const identity = { version: context.version.version, ...issuerFactsOf(config.issuer) }
  const status = statusOf(identity, views, attempts, host.issuer.health(), facts.machine)
  return { host, attempts, views, status, facts }
}
