import { join } from 'node:path'
import { AgentError, messageOf } from '../cert/errors.ts'
import { type HttpIssuerConfig, type LoginBy, PROXY_VARIABLES } from '../config/config.ts'
import { loadConfig, type LoadedConfig } from '../config/load.ts'
import { problemLine } from '../config/problem.ts'
import { readIssuerUrl } from '../config/values.ts'
import { ENROLLMENT_FILE, judgeCopied, readEnrollment, readMachineIdentity } from '../host/enrollment.ts'
import { readBoundedFile, SMALL_FILE_BYTES } from '../host/files.ts'
import { type Settings, withSettings } from './configuration.ts'
import { valueIn } from './environment-file.ts'
import type { JournalRun } from './journal.ts'
import { administratorLogin, loginSettings, readSecrets } from './login-settings.ts'
import { Patience } from './patience.ts'
import { issuerOf, registeredIn } from './registering.ts'
import {
  CONFIG_FILE,
  CREDENTIALS_FOLDER,
  DEFAULTS_FILE,
  type EnrollOptions,
  type EnrollTools,
} from './wanted.ts'

/** What names the host and the issuer; what is left out is what this host is configured with. */
export type DeleteOptions = Pick<
  EnrollOptions,
  'url' | 'hostId' | 'method' | 'login' | 'adminTokenFile' | 'caFile'
>

export type DeleteTools = Pick<EnrollTools, 'clock' | 'environment' | 'openExchange' | 'person'>

/** A host that can be deleted at its issuer, with all that this needs. */
export interface Deletion {
  readonly hostId: string
  readonly url: string
  /** The file of the issuer's TLS CAs; null: those of the system. */
  readonly caFile: string | null
  /** False: the issuer has no such host any more. Not known counts as there. */
  readonly isThere: (signal: AbortSignal) => Promise<boolean>
  /**
   * Delete it. Idempotent.
   *
   * @returns what was done, for people
   * @throws AgentError with the issuer's failure
   */
  readonly run: (signal: AbortSignal) => Promise<string>
}

/** Texts of `credential:NAME`, by name. */
type Secrets = Readonly<Record<string, string>>

/** No configuration of this machine counts. */
const NO_CONFIG_FILE = '/nonexistent/hostcertd.yaml'

/**
 * Read all that deleting a host needs, before this host forgets it. Asks the issuer nothing.
 *
 * @param runs of the journal, as far as this machine counts
 * @throws AgentError CONFIG_INVALID, CREDENTIAL_UNREADABLE
 */
export async function readDeletion(
  options: DeleteOptions,
  runs: readonly JournalRun[],
  tools: DeleteTools,
  signal: AbortSignal,
): Promise<Deletion> {
  const { person, clock, openExchange } = tools
  const here = httpIssuerIn(await loadHere(tools))
  const { url, hostId } = await hostOf(options, here, runs)

  const usesOwnLogin = options.adminTokenFile === null && options.method === null && here?.url === url
  const { issuer, secrets } =
    usesOwnLogin && here !== null
      ? { issuer: here, secrets: await credentialsOf(here) }
      : await issuerFor({ ...options, url }, hostId, here, tools, signal)
  const proxy = await serviceProxies()
  const open = () => openExchange({ ...issuer, sshHostId: hostId }, secrets, proxy)
  return {
    hostId,
    url,
    caFile: issuer.caFile,
    async isThere(stop) {
      const exchange = open()
      try {
        const answer = await exchange.findHost({ by: { kind: 'id', id: hostId } }, stop)
        if (answer.kind !== 'failed') return true
        // A proxy, which answers without an id, does not know it.
        const { code, requestId } = answer.failure
        return code !== 'ISSUER_NOT_FOUND' || requestId === null
      } finally {
        exchange.end()
      }
    },
    async run(stop) {
      const exchange = open()
      try {
        const patience = new Patience(clock, person.print)
        const { wasThere } = await patience.ask(async (limit) => exchange.deleteHost({ hostId }, limit), stop)
        return wasThere ? `deleted the host ${hostId} at ${url}` : `${url} has no host ${hostId} any more`
      } finally {
        exchange.end()
      }
    },
  }
}

async function hostOf(
  options: Pick<DeleteOptions, 'url' | 'hostId'>,
  here: HttpIssuerConfig | null,
  runs: readonly JournalRun[],
): Promise<HostAtIssuer> {
  const given = options.url === null ? null : urlOf(options.url)
  if (options.hostId === null) {
    await refuseCopy()
    return ownHost(given, here, runs)
  }
  const url = given ?? here?.url
  if (url === undefined) throw new AgentError('CONFIG_INVALID', 'name the issuer: --url URL')
  return { url, hostId: options.hostId }
}

/** As a configuration has it. @throws AgentError CONFIG_INVALID */
function urlOf(given: string): string {
  const url = readIssuerUrl(given)
  if (url.ok) return url.value
  throw new AgentError('CONFIG_INVALID', `--url ${url.problem}`)
}

/**
 * The host that a copy of an enrolled machine is configured with is the host of the other machine.
 *
 * @param root for tests: the folder that stands for `/`
 * @throws AgentError MACHINE_COPIED; STORE_FAILED when it is not known which machine was enrolled
 */
export async function refuseCopy(root = '/'): Promise<void> {
  const byHand = 'if that host is to be deleted all the same, name it by --host-id ID'
  const enrollment = await readEnrollment(join(root, ENROLLMENT_FILE)).catch((error: unknown) => {
    throw new AgentError('STORE_FAILED', `${messageOf(error)}; ${byHand}`, { cause: error })
  })
  if (enrollment === null) return
  const copied = judgeCopied(enrollment, await readMachineIdentity(root))
  if (copied === false) return
  if (copied === null)
    throw new AgentError(
      'MACHINE_COPIED',
      `it is not known whether this machine is the one that was enrolled; ${byHand}`,
    )
  const message = `${copied.message}, so its host at the issuer is that of the other machine; ${byHand}`
  throw new AgentError('MACHINE_COPIED', message)
}

interface HostAtIssuer {
  readonly url: string
  readonly hostId: string
}

/**
 * This machine's host at its issuer. Once all was taken back, by a call that was interrupted, the journal still names the
 * hosts that this machine registered: that is no proof, for it may have been copied since, or the host be another's.
 *
 * @param url null: of the issuer that this machine is configured for, or registered the host at
 * @param here what is configured; null: nothing
 * @param runs of the journal
 * @throws AgentError when it is not known: an older one, or that of another issuer, does not take its place
 */
export async function ownHost(
  url: string | null,
  here: Pick<HttpIssuerConfig, 'url' | 'sshHostId'> | null,
  runs: readonly JournalRun[],
  enrollmentFile = ENROLLMENT_FILE,
): Promise<HostAtIssuer> {
  const name = 'name the host: --host-id ID'
  if (here !== null && url !== null && here.url !== url)
    throw new AgentError('CONFIG_INVALID', `${name}; this machine is configured for ${here.url}, not ${url}`)
  if (here !== null) return { url: here.url, hostId: here.sshHostId }
  const enrollment = await readEnrollment(enrollmentFile).catch((error: unknown) => {
    throw new AgentError('STORE_FAILED', `${messageOf(error)}; ${name}`, { cause: error })
  })
  const hostId = enrollment?.host_id ?? registeredIn(runs, url).at(-1)
  if (hostId === undefined)
    throw new AgentError(
      'CONFIG_INVALID',
      url === null ? 'name the issuer and the host: --url URL --host-id ID' : name,
    )
  const known = issuerOf(runs, hostId)
  const at = known ?? url ?? 'URL'
  if (enrollment === null)
    throw new AgentError(
      'CONFIG_INVALID',
      `this machine registered the host ${hostId}, but nothing else says that it is its own still; to delete it, add --url ${at} --host-id ${hostId}`,
    )
  if (url !== null && known !== null && known !== url)
    throw new AgentError('CONFIG_INVALID', `the host ${hostId} was registered at ${known}, not ${url}`)
  const issuer = url ?? known
  if (issuer !== null) return { url: issuer, hostId }
  throw new AgentError('CONFIG_INVALID', `name the issuer of the host ${hostId}: --url URL`)
}

/** Whether anything on this machine says that a host at an issuer is, or was, its own. */
export async function mayHaveHost({
  environment,
  journal,
}: Pick<EnrollTools, 'environment' | 'journal'>): Promise<boolean> {
  const { kind } = await loadHere({ environment })
  if (kind !== 'not-enrolled' || journal.runs.length > 0) return true
  // One that cannot be read is of an enrollment.
  const enrollment = await readEnrollment().catch(() => 'unknown' as const)
  return enrollment !== null
}

async function loadHere({ environment }: Pick<EnrollTools, 'environment'>): Promise<LoadedConfig> {
  return loadConfig({ path: CONFIG_FILE, environment, checkPinnedCas: false, keepsCredentialNames: true })
}

/** @returns null when this host has no issuer over HTTP, or no valid configuration */
function httpIssuerIn(loaded: LoadedConfig): HttpIssuerConfig | null {
  return loaded.kind === 'ok' && loaded.config.issuer.kind === 'http' ? loaded.config.issuer : null
}

/** The proxies of the service, by its environment file, which may be gone when the host is deleted. */
async function serviceProxies(): Promise<Readonly<Record<string, string>> | undefined> {
  // Without it, as without what systemd cannot read in it, the exchange has its own, or none.
  const text = await readBoundedFile(DEFAULTS_FILE, SMALL_FILE_BYTES).catch(() => '')
  try {
    const names = PROXY_VARIABLES.flatMap((name) => [name, name.toLowerCase()])
    const found = names.flatMap((name) => {
      const value = valueIn(text, name)
      return value === null ? [] : [[name, value] as const]
    })
    return found.length === 0 ? undefined : Object.fromEntries(found)
  } catch {
    return undefined
  }
}

/** What the issuer's login takes from the credential folder: it is gone when the host is deleted. */
async function credentialsOf({ auth }: HttpIssuerConfig): Promise<Secrets> {
  const names = JSON.stringify(auth).matchAll(/"credential:([\w.-]+)"/g)
  const secrets: Record<string, string> = {}
  for (const [, name = ''] of names) {
    // Without it the exchange says what is missing.
    const secret = await readBoundedFile(join(CREDENTIALS_FOLDER, name), SMALL_FILE_BYTES).catch(() => null)
    if (secret !== null) secrets[name] = secret
  }
  return secrets
}

/** As the options say, by a configuration of their own. */
async function issuerFor(
  options: DeleteOptions & { readonly url: string },
  hostId: string,
  here: HttpIssuerConfig | null,
  { person, environment }: DeleteTools,
  signal: AbortSignal,
): Promise<{ readonly issuer: HttpIssuerConfig; readonly secrets: Secrets }> {
  const { adminTokenFile, method, url } = options
  if (adminTokenFile === null && method === null)
    throw new AgentError(
      'CONFIG_INVALID',
      `say how to log in at ${url} to delete the host ${hostId}: --auth METHOD or --admin-token-file FILE`,
    )
  const login = loginSettings(options, null)
  const administrator = adminTokenFile === null ? null : await administratorLogin(adminTokenFile, person)
  const caFile = options.caFile ?? (here?.url === url ? here.caFile : null)
  const settings: Settings = [
    [['issuer', 'url'], url],
    [['issuer', 'ssh_host_id'], hostId],
    ...(caFile === null ? [] : ([[['issuer', 'ca_file'], caFile]] as const)),
    ...(administrator === null ? login.settings : settingsOf(administrator.auth)),
  ]
  const loaded = await loadConfig({
    path: NO_CONFIG_FILE,
    environment,
    checkPinnedCas: false,
    mainText: withSettings(null, settings),
    keepsCredentialNames: true,
  })
  const issuer = httpIssuerIn(loaded)
  if (issuer !== null)
    return {
      issuer,
      secrets: administrator?.secrets ?? (await readSecrets(login, person, signal)),
    }
  const problems = loaded.kind === 'invalid' ? loaded.problems : []
  // Of the options, and of no file.
  const lines = problems.map(({ path, message }) => problemLine({ path, message }))
  throw new AgentError('CONFIG_INVALID', lines.join('; '))
}

function settingsOf({ method, tokenFile }: LoginBy<'token'>): Settings {
  return [
    [['auth', 'method'], method],
    [['auth', 'token_file'], tokenFile],
  ]
}
