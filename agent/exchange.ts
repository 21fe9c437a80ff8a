import { messageOf } from './cert/errors.ts'
import type { Config } from './config/config.ts'
import { configPathFrom, loadConfig } from './config/load.ts'
import { problemLine } from './config/problem.ts'
import { systemClock } from './host/clock.ts'
import { createIssuer } from './issuer/client.ts'
import { serveExchange } from './issuer/exchange-process.ts'
import type { ReadCredentialFile } from './issuer/logins/credential-file.ts'
import { createLog } from './log/log.ts'
import type { Issuer, Log, Metrics } from './renewal/ports.ts'
import type { VersionInfo } from './version.ts'

/**
 * The issuer over HTTP, in this process. Whoever needs it loads this file then, and with it HTTP, TLS and the logins;
 * the daemon never does.
 *
 * @param readCredentialFile left out: from the disk, anew at each use
 */
export function httpIssuer(
  { issuer, auth }: Pick<Config, 'issuer' | 'auth'>,
  { version }: VersionInfo,
  log: Log,
  metrics: Pick<Metrics, 'issuerRequest'>,
  readCredentialFile?: ReadCredentialFile,
): Issuer {
  return createIssuer({ ...issuer, auth, readCredentialFile, version, clock: systemClock, log, metrics })
}

/**
 * `hostcertd exchange`: see `issuer/exchange-protocol.ts`. Ends with its input.
 *
 * @param isConfigured it reads the configuration itself, as the unit's does, whose credential the other side must not
 *   have sent elsewhere
 */
export async function runExchange(
  version: VersionInfo,
  isConfigured: boolean,
  err: (text: string) => void,
): Promise<void> {
  const { stdin, stdout, env: environment } = process
  try {
    const configured = isConfigured ? await configuration(environment) : null
    const streams = { input: stdin, write: (text: string) => void stdout.write(text) }
    await serveExchange(streams, configured, (settings, metrics) =>
      httpIssuer(settings, version, createLog({ ...settings.log, version: version.version }), metrics),
    )
  } catch (error) {
    err(`hostcertd exchange: ${messageOf(error)}`)
  }
  // At once, whatever is under way: exit() waits for a name server that never answers.
  process.kill(process.pid, 'SIGKILL')
}

/** @throws Error with the first problem of it */
async function configuration(environment: NodeJS.ProcessEnv): Promise<Config> {
  const path = configPathFrom(undefined, environment)
  const loaded = await loadConfig({ path, environment, checkPinnedCas: false })
  if (loaded.kind === 'ok') return loaded.config
  const [problem] = loaded.kind === 'invalid' ? loaded.problems : []
  throw new Error(problem === undefined ? `there is no ${path}` : `CONFIG_INVALID: ${problemLine(problem)}`)
}
