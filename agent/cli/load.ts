import type { Config } from '../config/config.ts'
import { configPathFrom, loadConfig } from '../config/load.ts'
import type { CliContext } from './context.ts'

export interface ConfigOption {
  readonly config?: string | undefined
}

export type LoadedForVerb =
  | { readonly kind: 'ok'; readonly config: Config }
  | { readonly kind: 'not-enrolled'; readonly path: string }
  | { readonly kind: 'invalid' }

/** Load the configuration for a verb that acts once; problems and warnings go to stderr, a line each. */
export async function loadForVerb(context: CliContext, options: ConfigOption): Promise<LoadedForVerb> {
  const path = configPathFrom(options.config, context.environment)
  const loaded = await loadConfig({ path, environment: context.environment })
  switch (loaded.kind) {
    case 'not-enrolled':
      return { kind: 'not-enrolled', path }
    case 'invalid':
      for (const problem of loaded.problems) context.err(`CONFIG_INVALID ${problem.path}: ${problem.message}`)
      return { kind: 'invalid' }
    case 'ok':
      for (const warning of loaded.warnings) context.err(`warning: ${warning}`)
      await context.becomeOwnerOf(loaded.config.stateDirectory)
      return { kind: 'ok', config: loaded.config }
  }
}
