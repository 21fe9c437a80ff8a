import { AgentError } from '../cert/errors.ts'
import { type Config, issuerUrlOf } from '../config/config.ts'
import { configPathFrom, loadConfig, type LoadedConfig, recheckPinnedCas } from '../config/load.ts'
import { problemLine } from '../config/problem.ts'
import { askSshd } from '../renewal/ask-sshd.ts'
import { Attempts } from '../renewal/attempts.ts'
import type { Host } from '../renewal/host.ts'
import { type HostKeyView, judgeNow } from '../renewal/judge.ts'
import { isUnreadable, observe } from '../renewal/observe.ts'
import type { StatusDocument } from '../renewal/status-document.ts'
import { statusOf } from '../renewal/status.ts'
import { type CliContext, VerbError } from './context.ts'

export interface ConfigOption {
  readonly config?: string | undefined
}

/**
 * Read the configuration that a verb was given; becomes nobody, reports nothing.
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
 * As {@link readConfig}, and when it is well become who the daemon is. What that user cannot read is a problem of the
 * configuration, whoever started this.
 */
export async function readConfigAsOwner(
  context: CliContext,
  options: ConfigOption,
): Promise<{ readonly path: string; readonly loaded: LoadedConfig }> {
  const { path, loaded } = await readConfig(context, options)
  if (loaded.kind !== 'ok') return { path, loaded }
  await context.becomeOwnerOf(loaded.config.stateDirectory)
  return { path, loaded: await recheckPinnedCas(loaded) }
}

/**
 * The configuration for a verb that acts once; warnings go to stderr. The verb is still whoever started it.
 *
 * @returns null when this host is not enrolled
 * @throws VerbError with every problem of the configuration
 */
export async function configForVerb(context: CliContext, options: ConfigOption): Promise<Config | null> {
  const { loaded } = await readConfig(context, options)
  switch (loaded.kind) {
    case 'not-enrolled':
      return null
    case 'invalid':
      throw new VerbError(...loaded.problems.map((problem) => `CONFIG_INVALID: ${problemLine(problem)}`))
    case 'ok':
      for (const warning of loaded.warnings) context.err(`warning: ${warning}`)
      return loaded.config
  }
}

/**
 * As {@link configForVerb}, for verbs that can do nothing without.
 *
 * @throws VerbError also when this host is not enrolled
 */
export async function requireConfig(context: CliContext, options: ConfigOption): Promise<Config> {
  const config = await configForVerb(context, options)
  if (config !== null) return config
  throw new VerbError(notEnrolledLine(configPathFrom(options.config, context.environment)))
}

export function notEnrolledLine(path: string): string {
  return `not enrolled: there is no ${path}`
}

/** What a look without the daemon shows. */
interface Look {
  readonly host: Host
  readonly attempts: Attempts
  readonly views: readonly HostKeyView[]
  readonly status: StatusDocument
}

/**
 * Look at host keys, certificates and, when asked to, at what sshd serves. Changes nothing, needs no daemon.
 *
 * @throws AgentError CONFIG_INVALID when the pinned CAs cannot be read
 */
export async function lookOnce(
  context: CliContext,
  config: Config,
  askServed: boolean,
  signal: AbortSignal,
): Promise<Look> {
  const host = context.composeHost(config)
  const attempts = new Attempts(host.records, host.clock)
  await attempts.load()
  const facts = await observe(host)
  if (isUnreadable(facts.pinned)) throw new AgentError(facts.pinned.code, facts.pinned.message)
  if (askServed) await askSshd(host, attempts, judgeNow(host, attempts.record, facts), signal)
  const views = judgeNow(host, attempts.record, facts)
  const identity = { version: context.version.version, issuerUrl: issuerUrlOf(config.issuer) }
  return { host, attempts, views, status: statusOf(identity, views, attempts, host.issuer.health()) }
}
