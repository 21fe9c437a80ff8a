import type { Config } from '../config/config.ts'
import { configPathFrom } from '../config/load.ts'
import { type CliContext, type ConfigOption, EXIT, requireConfig, VerbError } from './context.ts'

/** `ca refresh`: the user CAs, and news of host CAs. */
export async function caRefresh(
  context: CliContext,
  { now = false, ...options }: ConfigOption & { readonly now?: boolean },
  signal: AbortSignal,
): Promise<number> {
  if (process.geteuid?.() !== 0) throw new VerbError('this must be run as root: it writes to /etc/ssh')
  const load = async (): Promise<Config> => requireConfig(context, options)
  const file = configPathFrom(options.config, context.environment)
  return (await context.refreshCas(file, load, now, signal)) ? EXIT.ok : EXIT.failed
}
