import { lstat } from 'node:fs/promises'
import * as v from 'valibot'
import { AgentError, messageOf } from '../cert/errors.ts'
import { parseCaKeys, type PublicKey } from '../cert/public-key.ts'
import { quote, reasonOf } from '../cert/text.ts'
import type { Config, HttpIssuerConfig } from '../config/config.ts'
import { loadConfig, type LoadedConfig } from '../config/load.ts'
import { hasPath, pathText, type Problem, problemLine, type TreeValue } from '../config/problem.ts'
import { readConfigFiles } from '../config/read-files.ts'
import { hostKeys } from '../config/schema.ts'
import { readIssuerUrl, readUuid } from '../config/values.ts'
import { type Enrollment, readEnrollment } from '../host/enrollment.ts'
import { isGone, readBoundedFile, SMALL_FILE_BYTES } from '../host/files.ts'
import { comparedWith, settingIn, type Settings, withSettings } from './configuration.ts'
import { valueIn } from './environment-file.ts'
import { flagOf, LOGIN_METHODS, LOGIN_OPTIONS, type LoginMethodName } from './login-options.ts'
import { CONFIG_FILE, DEFAULTS_FILE, type EnrollOptions, type EnrollTools, HOST_CA_FILE } from './wanted.ts'

/** How this host is set up now. What cannot be read is refused: it is not known, and never taken for absent. */
export interface Current {
  /** Of the main file; null when there is none. */
  readonly text: string | null
  /** False: `not-enrolled`. */
  readonly isConfigured: boolean
  /** Single settings of the files, also where others are invalid. Null: not set, or not valid. */
  readonly url: string | null
  readonly hostId: string | null
  readonly method: LoginMethodName | null
  readonly principals: readonly string[] | null
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
  const { files, complete, problems } = await readConfigFiles(CONFIG_FILE)
  // What is wrong with a setting may be what enroll sets right; a file that cannot be read is not written over.
  if (!complete) throw invalid(problems)
  const enrollment = await readEnrollment().catch((error: unknown) => {
    const message = `${messageOf(error)}; restore that file, or remove it and enroll again`
    throw new AgentError('STORE_FAILED', message, { cause: error })
  })
  const settingAt = (...path: readonly string[]): TreeValue | undefined => settingIn(files, path)?.value
  const textAt = (...path: readonly string[]): string => {
    const value = settingAt(...path)
    return typeof value === 'string' ? value : ''
  }
  const isUsualMethod = settingAt('auth') !== undefined && settingAt('auth', 'method') === undefined
  const methodText = isUsualMethod ? 'universal-auth' : textAt('auth', 'method')
  const url = readIssuerUrl(textAt('issuer', 'url'))
  const hostId = readUuid(textAt('issuer', 'ssh_host_id'))
  const principals = settingAt('verify', 'principals')
  const areNames = Array.isArray(principals) && principals.every((name) => typeof name === 'string')
  return {
    text: await textOf(CONFIG_FILE),
    isConfigured: loaded.kind !== 'not-enrolled',
    url: url.ok ? url.value : null,
    hostId: hostId.ok ? hostId.value : null,
    method: LOGIN_METHODS.find((method) => method === methodText) ?? null,
    principals: areNames ? principals : null,
    enrollment,
  }
}

/** @returns `host_keys`, or its default; null when that is not known, which {@link readCurrent} reports */
export async function configuredHostKeys(): Promise<readonly string[] | null> {
  const { files, complete } = await readConfigFiles(CONFIG_FILE)
  const patterns = v.safeParse(hostKeys, settingIn(files, ['host_keys'])?.value)
  return complete && patterns.success ? patterns.output : null
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
 * The configuration with settings changed, as it will count. What `conf.d` sets alike is not repeated in the main file.
 *
 * @throws AgentError CONFIG_INVALID with all that is wrong with it
 */
export async function configuredWith(
  { text: before }: Pick<Current, 'text'>,
  settings: Settings,
  environment: EnrollTools['environment'],
): Promise<Configured> {
  const { files } = await readConfigFiles(CONFIG_FILE, before ?? '')
  // What conf.d sets counts, whatever the main file says.
  const others = files.filter(({ file }) => file !== CONFIG_FILE)
  const { lines, missing } = comparedWith(others, settings)
  if (lines.length > 0) throw new AgentError('CONFIG_INVALID', lines.join('; '))
  const text = withSettings(before, missing)
  const loaded = await load(environment, text)
  if (loaded.kind === 'invalid') throw invalid(loaded.problems)
  if (loaded.kind !== 'ok' || loaded.config.issuer.kind !== 'http')
    throw new AgentError('CONFIG_INVALID', 'issuer.command has no enrollment: remove it first')
  return { text, config: loaded.config, issuer: loaded.config.issuer }
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
export function requireAll(
  { url, method, hostId, project, fromCertificate }: EnrollOptions,
  configured: Current,
): void {
  const missing = [
    ...(url === null && configured.url === null ? ['--url URL'] : []),
    ...(hostId === null && project === null && !fromCertificate
      ? ['one of --host-id ID, --project PROJECT or --from-certificate']
      : []),
    ...(method === null && configured.method === null ? ['--auth METHOD with its settings'] : []),
  ]
  if (missing.length > 0)
    throw new AgentError('CONFIG_INVALID', `this host has no configuration yet; add: ${missing.join('; ')}`)
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

function invalid(problems: readonly Problem[]): AgentError {
  return new AgentError('CONFIG_INVALID', problems.map(problemWithOption).join('; '))
}

/** Options that set what is not a setting of the login. */
const OPTIONS: Readonly<Record<string, string>> = {
  'issuer.url': '--url',
  'issuer.ssh_host_id': '--host-id, --project or --from-certificate',
  'auth.method': '--auth',
  'verify.principals': '--hostname',
}

/** `auth.identity_id: is required; the option is --identity-id`. */
function problemWithOption(problem: Problem): string {
  const [, setting = ''] = /^auth\.(\w+)$/.exec(problem.path) ?? []
  const isOfLogin = Object.values(LOGIN_OPTIONS)
    .flat()
    .some((one) => one.setting === setting)
  const option = isOfLogin ? flagOf(setting) : OPTIONS[problem.path.replace(/\[\d+\]$/, '')]
  return option === undefined ? problemLine(problem) : `${problemLine(problem)}; the option is ${option}`
}
