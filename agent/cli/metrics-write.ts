import { resolve } from 'node:path'
import { reasonOf, systemCodeOf } from '../cert/text.ts'
import type { Config } from '../config/config.ts'
import { PrometheusMetrics } from '../health/metrics.ts'
import { replaceFile } from '../host/files.ts'
import { notEnrolledStatus } from '../renewal/status.ts'
import { type CliContext, configForVerb, type ConfigOption, EXIT, observeOnce, VerbError } from './context.ts'
import { getFromDaemon } from './daemon-client.ts'

/** The collector runs as a user of its own. */
const FILE_MODE = 0o644
/** Every answer of the daemon's has it, and another program's on that port has not. */
const SIGN = /^hostcertd_build_info\{/m

/**
 * `metrics write`: the metrics in a file for node_exporter's textfile collector. From the daemon when it runs; else
 * what can be seen without it, which has neither counters nor the loop's last turn. sshd is not asked.
 */
export async function metricsWrite(
  context: CliContext,
  file: string,
  options: ConfigOption,
  signal: AbortSignal,
): Promise<number> {
  const path = resolve(file)
  const config = await configForVerb(context, options)
  if (config !== null) await context.dropPrivileges(config.stateDirectory)
  const text = await metricsText(context, config, signal)
  try {
    await replaceFile(path, text, FILE_MODE)
  } catch (error) {
    const isDenied = systemCodeOf(error) === 'EACCES'
    const advice = isDenied ? '; its folder must be writable by the owner of state_directory' : ''
    throw new VerbError(`cannot write ${path}: ${reasonOf(error)}${advice}`)
  }
  return EXIT.ok
}

async function metricsText(context: CliContext, config: Config | null, signal: AbortSignal): Promise<string> {
  const metrics = new PrometheusMetrics(context.version, context.lastUserCaSuccess)
  if (config === null) {
    metrics.status(notEnrolledStatus(context.version.version))
    return metrics.metricsText()
  }
  const fromDaemon = await getFromDaemon(config.health.listen, '/metrics', signal)
  if (fromDaemon !== null && SIGN.test(fromDaemon)) return fromDaemon
  metrics.userCa(config.userCa.install)
  // Each question is a connection that counts against sshd's limits, and this may run every minute: what the daemon or
  // `renew` last saw is in the record.
  const { status } = await observeOnce(context, config, false, signal)
  metrics.status(status)
  return metrics.metricsText()
}
