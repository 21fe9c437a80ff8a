import { messageOf } from './cert/errors.ts'
import { splitKeyLine } from './cert/public-key.ts'
import type { Config } from './config/config.ts'
import { configPathFrom, loadConfig } from './config/load.ts'
import { problemLine } from './config/problem.ts'
import { createHostKeys } from './host/host-keys.ts'
import { becomeOwnerOf, systemClock } from './host/machine.ts'
import { createIssuer } from './issuer/client.ts'
import { type Answering, serveExchange } from './issuer/exchange-process.ts'
import type { DiagnosisAnswer } from './issuer/exchange-protocol.ts'
import { localFailure } from './issuer/failures.ts'
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

/** What the exchange's unit has to know of the configuration; a mistake elsewhere in it is the daemon's to tell. */
const SECTIONS = ['issuer', 'auth', 'log', 'host_keys']

/**
 * `hostcertd exchange`: see `issuer/exchange-protocol.ts`. Ends with its input.
 *
 * @param options `--configured`: it uses the host's configuration, as the unit's does; the other side can neither have
 *   the credential sent elsewhere, nor have a key signed that is none of this host's. `--as-owner-of FOLDER`: started by
 *   root, it becomes the folder's owner before it reads anything from the other side
 */
export async function runExchange(version: VersionInfo, [option, folder]: readonly string[]): Promise<void> {
  if (option === '--as-owner-of' && folder !== undefined) {
    // While it still may: the program's files may be out of reach of that user.
    await import('./doctor/issuer-diagnosis.ts')
    await becomeOwnerOf(folder)
  }
  const { stdin, stdout } = process
  const streams = { input: stdin, write: (text: string) => void stdout.write(text) }
  const configured = option === '--configured' ? await configuration() : null
  try {
    await serveExchange(streams, (wanted, metrics) => {
      if (typeof configured === 'string') return refusing(configured)
      if (configured !== null && !isSame(configured, wanted)) return refusing(OTHER_CONFIGURATION)
      const settings = configured ?? wanted
      const log = createLog({ ...settings.log, version: version.version })
      const issuer = httpIssuer(settings, version, log, metrics)
      const answering = {
        issue: async (key, stop) => issuer.issue(key, stop),
        hostCa: async (stop) => issuer.hostCa(stop),
        health: () => issuer.health(),
        end: () => issuer.end(),
        diagnose: async (question, signal): Promise<DiagnosisAnswer> => {
          // Most exchanges do without.
          const { diagnoseIssuer } = await import('./doctor/issuer-diagnosis.ts')
          const way = {
            settings,
            shownAuth: wanted.auth,
            environment: process.env,
            clock: systemClock,
            signal,
          }
          const ports = { version: version.version, log }
          return { ok: true, findings: await diagnoseIssuer(way, question, ports) }
        },
      } satisfies Answering
      return configured === null ? answering : forOwnKeys(answering, configured)
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
function refusing(why: string): Answering {
  const failure = localFailure('CONFIG_INVALID', 'administrator', why)
  return {
    issue: async () => ({ ok: false, failure }),
    hostCa: async () => ({ ok: false, failure, noSuchRoute: false }),
    diagnose: async () => ({ ok: false, failure }),
    health: () => ({ reachable: null, lastSuccess: null, clockSkewSeconds: null }),
    end: () => undefined,
  }
}

function forOwnKeys(answering: Answering, { hostKeys }: Config): Answering {
  const keys = createHostKeys({ patterns: hostKeys })
  const failure = localFailure('ISSUER_REJECTED', 'key-backoff', 'that key is none of `host_keys`')
  const isOwn = async (publicKey: string): Promise<boolean> => {
    const { blob } = splitKeyLine(publicKey)
    return (await keys.list()).some(
      ({ content }) => content.kind === 'key' && blob !== null && content.key.blob.equals(blob),
    )
  }
  return {
    ...answering,
    issue: async (publicKey, signal) =>
      (await isOwn(publicKey)) ? answering.issue(publicKey, signal) : { ok: false, failure },
    diagnose: async (question, signal) => {
      for (const { publicKey } of question.issueFor)
        if (!(await isOwn(publicKey))) return { ok: false, failure }
      return answering.diagnose(question, signal)
    },
  }
}
