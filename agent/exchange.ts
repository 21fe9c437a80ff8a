import type { Config } from './config/config.ts'
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

/** `hostcertd exchange`: see `issuer/exchange-protocol.ts`. Ends with its input. */
export async function runExchange(version: VersionInfo): Promise<void> {
  const { stdin, stdout } = process
  await serveExchange({ input: stdin, write: (text) => void stdout.write(text) }, (settings, metrics) =>
    httpIssuer(settings, version, createLog({ ...settings.log, version: version.version }), metrics),
  )
}
