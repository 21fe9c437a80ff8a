import { messageOf } from './cert/errors.ts'
import { splitKeyLine } from './cert/public-key.ts'
import type { Config } from './config/config.ts'
import { configPathFrom, loadConfig } from './config/load.ts'
import { problemLine } from './config/problem.ts'
import { createHostKeys } from './host/host-keys.ts'
import { systemClock } from './host/machine.ts'
import { createIssuer } from './issuer/client.ts'
import { serveExchange } from './issuer/exchange-process.ts'
import { localFailure } from './issuer/failures.ts'
import type { ReadCredentialFile } from './issuer/logins/credential-file.ts'
import { createLog } from './log/log.ts'
import type { HostKeyFile, Issuer, Log, Metrics } from './renewal/ports.ts'
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

/** What the exchange's unit has to know of the configuration; a mistake elsewhere in it is the daemon's to tell. */
const SECTIONS = ['issuer', 'auth', 'log', 'host_keys']

/**
 * `hostcertd exchange`: see `issuer/exchange-protocol.ts`. Ends with its input.
 *
 * @param isConfigured it goes by the host's configuration, as the unit's does: the other side can neither have the
 *   credential sent elsewhere, nor have a key signed that is none of this host's
 */
export async function runExchange(version: VersionInfo, isConfigured: boolean): Promise<void> {
  const { stdin, stdout } = process
  const streams = { input: stdin, write: (text: string) => void stdout.write(text) }
  const configured = isConfigured ? await configuration() : null
  try {
    await serveExchange(streams, (wanted, metrics) => {
      if (typeof configured === 'string') return refusing(configured)
      if (configured !== null && !isSame(configured, wanted)) return refusing(OTHER_CONFIGURATION)
      const settings = configured ?? wanted
      const log = createLog({ ...settings.log, version: version.version })
      const issuer = httpIssuer(settings, version, log, metrics)
      return configured === null ? issuer : forOwnKeys(issuer, configured)
    })
  } catch (error) {
    const log = createLog({ level: 'info', format: 'auto', version: version.version })
    log.error({}, `hostcertd exchange: ${messageOf(error)}`)
  }
  // At once, whatever is under way: exit() waits for a name server that never answers.
  process.kill(process.pid, 'SIGKILL')
}

const OTHER_CONFIGURATION =
  'the issuer or the login in the configuration files is not the one in force: `systemctl reload hostcertd`'

/** @returns a text: why it cannot be used */
async function configuration(): Promise<Config | string> {
  const { env: environment } = process
  const path = configPathFrom(undefined, environment)
  const loaded = await loadConfig({ path, environment, checkPinnedCas: false, sections: SECTIONS })
  if (loaded.kind === 'ok') return loaded.config
  const [problem] = loaded.kind === 'invalid' ? loaded.problems : []
  return problem === undefined ? `there is no ${path}` : problemLine(problem)
}

/** Of the login no more than its method: where its files lie depends on who looks. */
function isSame(
  { issuer, auth }: Pick<Config, 'issuer' | 'auth'>,
  wanted: Pick<Config, 'issuer' | 'auth'>,
): boolean {
  return JSON.stringify([issuer, auth.method]) === JSON.stringify([wanted.issuer, wanted.auth.method])
}

/** @param why goes on in the daemon's log and status */
function refusing(why: string): Issuer {
  const failure = localFailure('CONFIG_INVALID', 'administrator', why)
  return {
    issue: async () => ({ ok: false, failure }),
    hostCa: async () => ({ ok: false, failure, noSuchRoute: false }),
    health: () => ({ reachable: null, lastSuccess: null, clockSkewSeconds: null }),
    end: () => undefined,
  }
}

function forOwnKeys(issuer: Issuer, { hostKeys }: Config): Issuer {
  const keys = createHostKeys({ patterns: hostKeys })
  return {
    issue: async (publicKey, signal) => {
      const { blob } = splitKeyLine(publicKey)
      const isOwn = ({ content }: HostKeyFile): boolean =>
        content.kind === 'key' && blob !== null && content.key.blob.equals(blob)
      if ((await keys.list()).some(isOwn)) return issuer.issue(publicKey, signal)
      const failure = localFailure('ISSUER_REJECTED', 'key-backoff', 'that key is none of `host_keys`')
      return { ok: false, failure }
    },
    hostCa: async (signal) => issuer.hostCa(signal),
    health: () => issuer.health(),
    end: () => issuer.end(),
  }
}
