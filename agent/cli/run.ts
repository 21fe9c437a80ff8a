import type { LoadedConfig } from '../config/load.ts'
import { problemLine } from '../config/problem.ts'
import { EXIT, type CliContext } from './context.ts'
import { readConfigAsOwner, type ConfigOption } from './load.ts'

/** `run`: the daemon, in the foreground, until `stop` fires. */
export async function run(context: CliContext, options: ConfigOption, stop: AbortSignal): Promise<number> {
  // Each time, for the configuration may come later than the daemon.
  const load = async (): Promise<LoadedConfig> => (await readConfigAsOwner(context, options)).loaded
  const loaded = await load()
  if (loaded.kind === 'invalid') {
    const log = context.daemonLog()
    for (const problem of loaded.problems) log.error({ code: 'CONFIG_INVALID' }, problemLine(problem))
    return EXIT.config
  }
  const config = loaded.kind === 'ok' ? loaded.config : null
  const daemon = context.createDaemon(config, load)
  if (loaded.kind === 'ok') daemon.warn(loaded.warnings)
  await daemon.run(config, stop)
  return EXIT.ok
}
