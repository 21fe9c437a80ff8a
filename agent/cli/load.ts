import type { Config } from '../config/config.ts'
import { configPathFrom, loadConfig, recheckPinnedCas, type LoadedConfig } from '../config/load.ts'
import { problemLine } from '../config/problem.ts'
import type { CliContext } from './context.ts'
import { VerbError } from './verb-error.ts'

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
