import type { Config } from '../config/config.ts'
import { configPathFrom, loadConfig, type LoadedConfig } from '../config/load.ts'
import { problemLine } from '../config/problem.ts'
import type { CliContext } from './context.ts'
import { VerbError } from './verb-error.ts'

export interface ConfigOption {
  readonly config?: string | undefined
}

/** Read the configuration that a verb was given; becomes nobody, reports nothing. */
export async function readConfig(
  context: CliContext,
  options: ConfigOption,
): Promise<{ readonly path: string; readonly loaded: LoadedConfig }> {
  const path = configPathFrom(options.config, context.environment)
  return { path, loaded: await loadConfig({ path, environment: context.environment }) }
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
