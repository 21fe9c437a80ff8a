import { configPathFrom, loadConfig } from '../config/load.ts'
import { EXIT, type CliContext } from './context.ts'
import type { ConfigOption } from './load.ts'

/** `run`: the daemon, in the foreground, until `stop` fires. */
export async function run(context: CliContext, options: ConfigOption, stop: AbortSignal): Promise<number> {
  const path = configPathFrom(options.config, context.environment)
  const load = async (): ReturnType<typeof loadConfig> =>
    loadConfig({ path, environment: context.environment })
  const loaded = await load()
  if (loaded.kind === 'invalid') {
    const log = context.log(null)
    for (const problem of loaded.problems)
      log.error({ code: 'CONFIG_INVALID' }, `${problem.path}: ${problem.message}`)
    return EXIT.config
  }
  const config = loaded.kind === 'ok' ? loaded.config : null
  if (config !== null) await context.becomeOwnerOf(config.stateDirectory)
  const daemon = context.createDaemon(config, load)
  if (loaded.kind === 'ok') daemon.warn(loaded.warnings)
  await daemon.run(config, stop)
  return EXIT.ok
}
