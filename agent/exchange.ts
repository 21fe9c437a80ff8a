import { messageOf } from './cert/errors.ts'
import { splitKeyLine, publicKeyText } from './cert/public-key.ts'
import { inOneLine } from './cert/text.ts'
import { type Config, isProxyVariable, type IssuerConfig } from './config/config.ts'
import { configPathFrom, loadConfig, type LoadedConfig } from './config/load.ts'
import { problemLine } from './config/problem.ts'
import { createHostKeys } from './host/host-keys.ts'
import { dropPrivileges, systemClock } from './host/machine.ts'
import { createCommandIssuer, secretsOfProgram } from './issuer/command-issuer.ts'
import { type Answering, serveExchange } from './issuer/exchange-process.ts'
import type { DiagnosisAnswer } from './issuer/exchange-protocol.ts'
import { localFailure } from './issuer/failures.ts'
import { type Hosts, refusingHosts } from './issuer/host-questions.ts'
import {
  givenCredentials,
  holdCredentials,
  type ReadCredentialFile,
} from './issuer/logins/credential-file.ts'
import { loadMethod } from './issuer/logins/methods.ts'
import { createLog } from './log/log.ts'
import type { Issuer, IssuerMetrics, Log } from './renewal/ports.ts'
import type { VersionInfo } from './version.ts'

/**
 * The issuer, asked by this very process, which never is the daemon. HTTP, TLS, the logins and the questions of `enroll` are
 * loaded only if they are needed.
 *
 * @param readCredentialFile left out: from the disk, anew at each use
 */
async function issuerHere(
  issuer: IssuerConfig,
  { version }: VersionInfo,
  log: Log,
  metrics: IssuerMetrics,
  readCredentialFile?: ReadCredentialFile,
): Promise<Issuer & Hosts> {
  const ports = { clock: systemClock, log, metrics }
  if (issuer.kind === 'command') {
    const secrets = await secretsOfProgram(process.env)
    const program = createCommandIssuer({ ...issuer, ...ports, log: secrets.guardLog(log) })
    const why = 'issuer.command has no hosts to find or register, and no user CA'
    return { ...secrets.guardIssuer(program), ...refusingHosts(localFailure('CONFIG_INVALID', 'local', why)) }
  }
  const { createIssuer, openWay } = await import('./issuer/client.ts')
  const options = { ...issuer, readCredentialFile, version, ...ports }
  const way = openWay(options)
  const hosts = async (): Promise<Hosts> => (await import('./issuer/hosts.ts')).createHosts(way)
  return {
    ...createIssuer(options, way),
    findHost: async (question, signal) => (await hosts()).findHost(question, signal),
    registerHost: async (question, signal) => (await hosts()).registerHost(question, signal),
    deleteHost: async (question, signal) => (await hosts()).deleteHost(question, signal),
    userCa: async (question, signal) => (await hosts()).userCa(question, signal),
  }
}

/** The parts of the configuration that the exchange's unit needs; problems elsewhere in it are the daemon's to report. */
const SECTIONS = ['issuer', 'auth', 'log', 'host_keys']

/**
 * `hostcertd exchange`: see `issuer/exchange-protocol.ts`. Ends with its input.
 *
 * @param options `--configured INSTANCE`: it uses the host's configuration, as the unit's does; the other side can neither
 *   have the credential sent elsewhere, nor another key signed than one of this host, nor other principals asked for, nor
 *   hosts registered or deleted. Root can, with settings that bring credentials: it could change the configuration as well.
 *   `--as-owner-of FOLDER`: started by root, it reads the credentials and becomes the folder's owner, then the issuer is asked
 */
export async function runExchange(version: VersionInfo, [option, value]: readonly string[]): Promise<void> {
  // While it still may: the program's files may be out of reach of that user.
  if (option === '--as-owner-of') await import('./doctor/issuer-diagnosis.ts')
  const { stdin, stdout } = process
  // Ctrl-C reaches it too: its programs are ended, and then it is.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stdin.destroy())
  const streams = { input: stdin, write: (text: string) => void stdout.write(text) }
  try {
    await serveExchange(streams, async (wanted, metrics) => {
      const isBound = option === '--configured' && !(isOfRoot(value) && wanted.credentials !== undefined)
      const configured = isBound ? await configuration() : null
      if (typeof configured === 'string') return refusing(configured)
      if (configured !== null && !isSame(configured.issuer, wanted.issuer))
        return refusing(OTHER_CONFIGURATION)
      const settings = configured ?? wanted
      const log = createLog({ ...settings.log, version: version.version })
      const { credentials, proxy } = isBound ? {} : wanted
      if (proxy !== undefined) useProxies(proxy)
      let readCredentialFile: ReadCredentialFile | undefined
      if (credentials !== undefined)
        readCredentialFile = givenCredentials(credentials, process.env['CREDENTIALS_DIRECTORY'])
      if (option === '--as-owner-of' && value !== undefined) {
        readCredentialFile = await holdCredentials(settings.issuer, readCredentialFile)
        if (settings.issuer.kind === 'http') await loadMethod(settings.issuer.auth)
        if (credentials !== undefined) await import('./issuer/hosts.ts')
        await dropPrivileges(value)
      }
      const issuer = await issuerHere(settings.issuer, version, log, metrics, readCredentialFile)
      const answering: Answering = {
        ...issuer,
        diagnose: async (question, signal): Promise<DiagnosisAnswer> => {
          // Loaded only here: most exchanges are asked for no diagnosis.
          if (settings.issuer.kind === 'command' || wanted.issuer.kind === 'command') {
            const { diagnoseCommand } = await import('./doctor/trial-issuance.ts')
            return { ok: true, findings: await diagnoseCommand(issuer, question, systemClock, signal) }
          }
          const { diagnoseIssuer } = await import('./doctor/issuer-diagnosis.ts')
          const shownAuth = wanted.issuer.auth
          const way = {
            issuer: settings.issuer,
            shownAuth,
            environment: process.env,
            clock: systemClock,
            signal,
          }
          const ports = { version: version.version, log }
          return { ok: true, findings: await diagnoseIssuer(way, question, ports) }
        },
      }
      return configured === null ? answering : forThisHost(answering, configured)
    })
  } catch (error) {
    const log = createLog({ level: 'info', format: 'auto', version: version.version })
    log.error({}, `hostcertd exchange: ${messageOf(error)}`)
  }
  // At once, whatever is under way: exit() waits for a name server that never answers.
  process.kill(process.pid, 'SIGKILL')
}

/**
 * Whether root connected, by the name that systemd gives the instance of a socket's unit: `NUMBER-PROCESS-USER`, or from
 * about 260 on `NUMBER-COOKIE-PROCESS-USER`.
 */
function isOfRoot(instance: string | undefined): boolean {
  return /^\d+(?:-[\d_]+){1,2}-0$/.test(instance ?? '')
}

/** From now on, for the programs of a login too. */
function useProxies(proxy: Readonly<Record<string, string>>): void {
  for (const name of Object.keys(process.env)) if (isProxyVariable(name)) delete process.env[name]
  for (const [name, text] of Object.entries(proxy)) if (isProxyVariable(name)) process.env[name] = text
}

const OTHER_CONFIGURATION =
  'the issuer or the login in the configuration files differs from the one in use: run `systemctl reload hostcertd`'

/** @returns a text: why it cannot be used */
async function configuration(): Promise<Config | string> {
  const { env: environment } = process
  const path = configPathFrom(undefined, environment)
  const load = async (sections: readonly string[]): Promise<LoadedConfig> =>
    loadConfig({ path, environment, checkPinnedCas: false, sections })
  let loaded = await load(SECTIONS)
  // The principals, which only a program is given.
  if (loaded.kind === 'ok' && loaded.config.issuer.kind === 'command')
    loaded = await load([...SECTIONS, 'verify'])
  if (loaded.kind === 'ok') return loaded.config
  const [problem] = loaded.kind === 'invalid' ? loaded.problems : []
  return problem === undefined ? `there is no ${path}` : problemLine(problem)
}

/** Of the login only its method counts: the paths of its files depend on who resolves them. */
function isSame(one: IssuerConfig, other: IssuerConfig): boolean {
  return JSON.stringify(comparable(one)) === JSON.stringify(comparable(other))
}

function comparable(issuer: IssuerConfig): object {
  return issuer.kind === 'http' ? { ...issuer, auth: issuer.auth.method } : issuer
}

/** @param why appears in the daemon's log and status */
function refusing(why: string): Answering {
  const failure = localFailure('CONFIG_INVALID', 'local', why)
  return {
    issue: async () => ({ ok: false, failure }),
    hostCa: async () => ({ ok: false, failure, noSuchRoute: false }),
    diagnose: async () => ({ ok: false, failure }),
    ...refusingHosts(failure),
    health: () => ({ reachable: null, lastSuccess: null, clockSkewSeconds: null }),
  }
}

/** Signs the host's own keys only, whatever it is asked, and by the names of its files and the principals configured. */
function forThisHost(answering: Answering, { hostKeys, issuer, verify }: Config): Answering {
  const keys = createHostKeys({ patterns: hostKeys })
  const principals = verify.principals ?? []
  const message = 'this key is not one of those that host_keys names'
  const failure = localFailure('ISSUER_REJECTED', 'key-backoff', message)
  // The line is made anew: the other side's may have a second one in it.
  const ownKey = async (wanted: string): Promise<{ hostKey: string; publicKey: string } | null> => {
    const { blob } = splitKeyLine(wanted)
    for (const { name, content } of await keys.list()) {
      if (content.kind !== 'key' || blob === null || !content.key.blob.equals(blob)) continue
      const { key, comment } = content
      const publicKey = `${publicKeyText(key)} ${inOneLine(comment) || name}`
      return { hostKey: name, publicKey }
    }
    return null
  }
  const reserved = 'only root may find, register or delete hosts at the issuer, by `hostcertd enroll`'
  const ownHost = issuer.kind === 'http' ? issuer.sshHostId : ''
  return {
    ...answering,
    ...refusingHosts(localFailure('ISSUER_REJECTED', 'local', reserved)),
    userCa: async (_question, signal) => answering.userCa({ hostId: ownHost }, signal),
    issue: async ({ publicKey }, signal) => {
      const own = await ownKey(publicKey)
      return own === null ? { ok: false, failure } : answering.issue({ ...own, principals }, signal)
    },
    diagnose: async (question, signal) => {
      const issueFor = []
      for (const wanted of question.issueFor) {
        const own = await ownKey(wanted.publicKey)
        if (own === null) return { ok: false, failure }
        issueFor.push({ ...wanted, name: own.hostKey, publicKey: own.publicKey })
      }
      // An issuer over HTTP is not asked for principals; here they are only compared.
      const own = issuer.kind === 'command' ? { issueFor, principals: [...principals] } : { issueFor }
      return answering.diagnose({ ...question, ...own }, signal)
    },
  }
}
