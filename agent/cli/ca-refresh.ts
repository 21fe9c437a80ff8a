import type { Config } from '../config/config.ts'
import { type CliContext, type ConfigOption, EXIT, requireConfig, VerbError } from './context.ts'

/** Between the attempts of the timer's run, which is the only one of the day. */
const PAUSE_SECONDS = [60, 600, 3600]
/** Whatever the issuer says. */
const LONGEST_PAUSE_SECONDS = 3600

/** `ca refresh`: the user CAs, and news of host CAs. */
export async function caRefresh(
  context: CliContext,
  options: ConfigOption & { readonly now?: boolean },
  signal: AbortSignal,
): Promise<number> {
  if (process.geteuid?.() !== 0) throw new VerbError('this must be run as root: it writes to /etc/ssh')
  const load = async (): Promise<Config> => requireConfig(context, options)
  for (const pause of [...(options.now === true ? [] : PAUSE_SECONDS), null]) {
    const refreshed = await context.refreshCas(load, signal)
    if (refreshed.kind === 'done') return EXIT.ok
    if (refreshed.kind === 'failed' || pause === null) break
    const seconds = Math.min(Math.max(pause, refreshed.seconds), LONGEST_PAUSE_SECONDS)
    context.err(`trying again in ${seconds} s`)
    await context.sleep(seconds * 1000, signal)
  }
  return EXIT.failed
}
