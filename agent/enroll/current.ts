import { lstat } from 'node:fs/promises'
import { AgentError, messageOf } from '../cert/errors.ts'
import { readHostName } from '../cert/host-name.ts'
import { parseCaKeys, type PublicKey } from '../cert/public-key.ts'
import { quote, reasonOf } from '../cert/text.ts'
import type { Config, HttpIssuerConfig } from '../config/config.ts'
import { loadConfig, type LoadedConfig } from '../config/load.ts'
import { hasPath, pathText, type Problem, problemLine } from '../config/problem.ts'
import { readConfigFiles } from '../config/read-files.ts'
import { type Enrollment, readEnrollment } from '../host/enrollment.ts'
import { isGone, readBoundedFile, SMALL_FILE_BYTES } from '../host/files.ts'
import { overridingIn, type Settings, withSettings } from './configuration.ts'
import { valueIn } from './environment-file.ts'
import { flagOf, LOGIN_OPTIONS } from './login-options.ts'
import { CONFIG_FILE, DEFAULTS_FILE, type EnrollOptions, type EnrollTools, HOST_CA_FILE } from './wanted.ts'

/** How this host is set up now. What cannot be read is refused: it is not known, and never taken for absent. */
export interface Current {
  /** Of the main file; null when there is none. */
  readonly text: string | null
  readonly loaded: LoadedConfig
  /** Null unless it is valid and asks an issuer over HTTP. */
  readonly config: HttpIssuerConfig | null
  readonly principals: readonly string[]
  readonly enrollment: Enrollment | null
}

/** The CAs that are pinned now. */
export interface Pinned {
  /** `verify.host_ca_file`. */
  readonly path: string
  /** Null when there is no such file. */
  readonly text: string | null
  readonly keys: readonly PublicKey[]
}

/** A configuration as it is to be. */
export interface Configured {
  /** Of the main file. */
  readonly text: string
  readonly config: Config
  readonly issuer: HttpIssuerConfig
}

/** @throws AgentError CONFIG_INVALID, STORE_FAILED */
export async function readCurrent({ environment }: Pick<EnrollTools, 'environment'>): Promise<Current> {
  await requireUsualConfig()
  const loaded = await load(environment)
  // What is wrong with a setting may be what enroll sets right; a file that cannot be read is not written over.
  if (loaded.kind === 'invalid' && loaded.problems.some(({ path }) => path.startsWith('/')))
    throw invalid(loaded)
  const enrollment = await readEnrollment().catch((error: unknown) => {
    const message = `${messageOf(error)}; restore that file, or remove it and enroll again`
    throw new AgentError('STORE_FAILED', message, { cause: error })
  })
  const config = loaded.kind === 'ok' && loaded.config.issuer.kind === 'http' ? loaded.config.issuer : null
  const principals = loaded.kind === 'ok' ? (loaded.config.verify.principals ?? []) : []
  return { text: await textOf(CONFIG_FILE), loaded, config, principals, enrollment }
}

/** @throws AgentError CONFIG_INVALID: what cannot be read may pin a CA */
export async function readPinned({ verify }: Pick<Config, 'verify'>): Promise<Pinned> {
  const path = verify.hostCaFile ?? HOST_CA_FILE
  const text = await textOf(path)
  try {
    return { path, text, keys: parseCaKeys(text ?? '') }
  } catch (error) {
    throw new AgentError('CONFIG_INVALID', `${path}: ${messageOf(error)}`, { cause: error })
  }
}

/**
 * The configuration with settings changed, as it will count.
 *
 * @throws AgentError CONFIG_INVALID with all that is wrong with it
 */
export async function configuredWith(
  { text: before }: Pick<Current, 'text'>,
  settings: Settings,
  environment: EnrollTools['environment'],
): Promise<Configured> {
  const text = withSettings(before, settings)
  const { files } = await readConfigFiles(CONFIG_FILE, text)
  // What conf.d sets counts, whatever the main file says.
  const others = files.filter(({ file }) => file !== CONFIG_FILE)
  const lines = overridingIn(others, settings)
  if (lines.length > 0) throw new AgentError('CONFIG_INVALID', lines.join('; '))
  const loaded = await load(environment, text)
  if (loaded.kind !== 'ok') throw invalid(loaded)
  const { config } = loaded
  if (config.issuer.kind !== 'http')
    throw new AgentError('CONFIG_INVALID', 'issuer.command has no enrollment: remove it first')
  return { text, config, issuer: config.issuer }
}

/**
 * A template is for many machines: what the configuration says of one would make each copy that machine.
 *
 * @throws AgentError CONFIG_INVALID when it names a host, or principals
 */
export async function refuseOneHost(): Promise<void> {
  const { files, complete, problems } = await readConfigFiles(CONFIG_FILE)
  if (!complete) throw new AgentError('CONFIG_INVALID', problems.map(problemLine).join('; '))
  for (const keys of [
    ['issuer', 'ssh_host_id'],
    ['verify', 'principals'],
  ])
    for (const { file, tree } of files)
      if (hasPath(tree, keys))
        throw new AgentError(
          'CONFIG_INVALID',
          `${file} sets ${pathText(keys)}, which belongs to one machine, and a template is for many: remove it`,
        )
}

/** What a first call needs, all at once. */
export function requireAll({ url, method, hostId, project, fromCertificate }: EnrollOptions): void {
  const missing = [
    ...(url === null ? ['--url URL'] : []),
    ...(hostId === null && project === null && !fromCertificate
      ? ['one of --host-id ID, --project PROJECT or --from-certificate']
      : []),
    ...(method === null ? ['--auth METHOD with its settings'] : []),
  ]
  if (missing.length > 0)
    throw new AgentError('CONFIG_INVALID', `this host has no configuration yet; add: ${missing.join('; ')}`)
}

/**
 * Without `--auth`, the configuration says how this host logs in.
 *
 * @throws AgentError CONFIG_INVALID with all that is wrong with it
 */
export function requireMethod({ method }: EnrollOptions, { loaded }: Current): void {
  if (method === null && loaded.kind === 'invalid') throw invalid(loaded)
}

/** The service reads its configuration where its environment says. */
async function requireUsualConfig(): Promise<void> {
  const text = (await textOf(DEFAULTS_FILE)) ?? ''
  let path: string | null
  try {
    path = valueIn(text, 'HOSTCERTD_CONFIG')
  } catch (error) {
    throw new AgentError('CONFIG_INVALID', `${DEFAULTS_FILE}: ${messageOf(error)}`, { cause: error })
  }
  if (path === null || path === '' || path === CONFIG_FILE) return
  const message = `${DEFAULTS_FILE} sets HOSTCERTD_CONFIG to ${quote(path)}, so the service does not read ${CONFIG_FILE}, which enroll writes: remove that line`
  throw new AgentError('CONFIG_INVALID', message)
}

/** By the option, the configuration, or the machine. */
export async function hostnameOf(
  { hostname }: EnrollOptions,
  { principals }: Current,
  { hostNames }: EnrollTools,
): Promise<string> {
  const known = hostname ?? principals[0]
  if (known !== undefined) return known
  const read = readHostName((await hostNames()).at(-1) ?? '')
  if (read.ok) return read.value
  throw new AgentError('CONFIG_INVALID', `this host's name ${read.why}; give --hostname`)
}

/** @param mainText instead of what the main file holds */
async function load(environment: EnrollTools['environment'], mainText?: string): Promise<LoadedConfig> {
  return loadConfig({
    path: CONFIG_FILE,
    environment,
    checkPinnedCas: false,
    mainText,
    keepsCredentialNames: true,
  })
}

/** @returns null when there is nothing of that name; a link that leads nowhere is something */
async function textOf(path: string): Promise<string | null> {
  try {
    const text = await readBoundedFile(path, SMALL_FILE_BYTES)
    // What is not UTF-8 was read as U+FFFD, and would be written back as that.
    if (text.includes('\uFFFD')) throw new Error('it is not UTF-8 text')
    return text
  } catch (error) {
    const isThere = await lstat(path).then(
      () => true,
      (reason: unknown) => !isGone(reason),
    )
    if (isGone(error) && !isThere) return null
    throw new AgentError('CONFIG_INVALID', `cannot read ${path}: ${reasonOf(error)}`, { cause: error })
  }
}

function invalid(loaded: LoadedConfig): AgentError {
  const problems = loaded.kind === 'invalid' ? loaded.problems.map(problemWithOption) : ['there is none']
  return new AgentError('CONFIG_INVALID', problems.join('; '))
}

/** `auth.identity_id: is required; the option is --identity-id`. */
function problemWithOption(problem: Problem): string {
  const [, setting = ''] = /^auth\.(\w+)$/.exec(problem.path) ?? []
  const isOption = Object.values(LOGIN_OPTIONS)
    .flat()
    .some((one) => one.setting === setting)
  return isOption ? `${problemLine(problem)}; the option is ${flagOf(setting)}` : problemLine(problem)
}
