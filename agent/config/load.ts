import { lstat } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import * as v from 'valibot'
import { messageOf } from '../cert/errors.ts'
import { CERTIFICATE_SUFFIX } from '../cert/host-certificate.ts'
import { quote, systemCodeOf } from '../cert/text.ts'
import { upperCaseWarning } from '../cert/verify-issued.ts'
import { isPattern, pathsMatching } from '../host/files.ts'
import { readCaKeys } from '../host/pinned-cas.ts'
import { longestGapDays } from '../host/schedule.ts'
import { type Config, isLoopback } from './config.ts'
import type { CredentialContext } from './credential-reference.ts'
import {
  hasPath,
  isTree,
  type KeyProblem,
  mergeTrees,
  ownValue,
  pathText,
  type Problem,
  type Tree,
} from './problem.ts'
import { type ConfigFile, readConfigFiles } from './read-files.ts'
import {
  checkTree,
  hasCommand,
  hostKeys,
  LONGEST_TIMEOUT_SECONDS,
  type Settings,
  toConfig,
} from './schema.ts'
import { isAbsolutePath } from './values.ts'

type Environment = Readonly<Record<string, string | undefined>>

interface LoadRequest {
  /** The main file, see {@link configPathFrom}; `conf.d` is looked for beside it. */
  readonly path: string
  /** `CREDENTIALS_DIRECTORY` is read from it. */
  readonly environment: Environment
  /** False: do not check whether the pinned CAs can be read; the caller does. Default: true. */
  readonly checkPinnedCas?: boolean
  /** Read only these sections, as if the others were empty: problems in them are of no concern to the caller. */
  readonly sections?: readonly string[]
  /** What the main file is to hold, instead of what it holds: `enroll` checks it before it writes it. */
  readonly mainText?: string | undefined
  readonly keepsCredentialNames?: CredentialContext['keepsCredentialNames']
}

export type LoadedConfig =
  /** There is no main file, and nothing in `conf.d` names a host or a program. */
  | {
      readonly kind: 'not-enrolled'
      /** Lines for people: which files there are all the same. */
      readonly warnings: readonly string[]
    }
  | {
      readonly kind: 'ok'
      readonly config: Config
      /** Lines for people. */
      readonly warnings: readonly string[]
      /** What was read, in the order in which it was laid over each other. */
      readonly files: readonly string[]
    }
  /** CONFIG_INVALID. All problems at once, at least one; `problemLine` prints one. */
  | { readonly kind: 'invalid'; readonly problems: readonly Problem[] }

const DEFAULT_PATH = '/etc/hostcertd/hostcertd.yaml'
/** A maintenance window that opens less often is most likely a mistake. */
const LONGEST_MAINTENANCE_GAP_DAYS = 7
/** Where `enroll` pins the host CA. */
const DEFAULT_HOST_CA_FILE = '/etc/hostcertd/host-ca.pub'

/**
 * The main configuration file: that of `--config`, else `$HOSTCERTD_CONFIG`, else the packaged place.
 *
 * @returns an absolute path, so that it stays the same file whatever folder is entered later
 */
export function configPathFrom(option: string | undefined, environment: Environment): string {
  const fromEnvironment = environment['HOSTCERTD_CONFIG']
  if (option !== undefined) return resolve(option)
  return fromEnvironment === undefined || fromEnvironment === '' ? DEFAULT_PATH : resolve(fromEnvironment)
}

/**
 * Read, merge and check the configuration. Looks for the host keys that it names, reads the CAs that it pins, and leaves
 * everything else that it names alone. Never throws, whatever the files hold.
 */
export async function loadConfig(request: LoadRequest): Promise<LoadedConfig> {
  const { path, environment, checkPinnedCas = true, sections, mainText, keepsCredentialNames } = request
  const mainFile = resolve(path)
  const read = await readConfigFiles(mainFile, mainText)
  // With a file missing from the picture, what the others lack may be in it.
  if (!read.complete) return { kind: 'invalid', problems: read.problems }

  const whole = read.files.reduce<Tree>((merged, over) => mergeTrees(merged, over.tree), {})
  const hasMainFile = read.files.some(({ file }) => file === mainFile)
  // What an administrator sets for all hosts may be there before `enroll`, and stays after `unenroll`.
  if (!hasMainFile && !hasPath(whole, ['issuer', 'ssh_host_id']) && !hasCommand(whole)) {
    const without = `has no effect: there is no ${mainFile}, and no file names issuer.ssh_host_id or issuer.command`
    const warnings = read.files.map(({ file }) => `${file} ${without}`)
    return { kind: 'not-enrolled', warnings: [...read.warnings, ...warnings] }
  }
  const isWanted = ([key]: readonly [string, unknown]): boolean => sections?.includes(key) ?? true
  const tree: Tree = Object.fromEntries(Object.entries(whole).filter(isWanted))
  const checked = checkTree(tree)
  const found = await findHostKeys(tree)
  const defaultHostCaFile = (await isThere(DEFAULT_HOST_CA_FILE)) ? DEFAULT_HOST_CA_FILE : null
  const valueProblems = [
    ...(checked.ok ? [] : checked.problems),
    ...found.problems.map((message) => ({ keys: ['host_keys'], message })),
    ...(sections?.includes('verify') === false ? [] : findMissingHostCa(tree, defaultHostCaFile)),
    ...findMissingLoginUrl(tree),
    ...(checkPinnedCas ? await findHostCaProblems(tree, defaultHostCaFile) : []),
  ].map((problem) => locate(problem, read.files))
  // A key without a value is reported already; that it is missing would be the same again.
  const reported = new Set(read.problems.map((problem) => problem.path))
  const problems = [...read.problems, ...valueProblems.filter((problem) => !reported.has(problem.path))]
  if (!checked.ok || problems.length > 0) return { kind: 'invalid', problems }

  const config = toConfig(checked.settings, {
    folder: dirname(mainFile),
    environment,
    defaultHostCaFile,
    keepsCredentialNames,
  })
  return {
    kind: 'ok',
    config,
    warnings: [...read.warnings, ...found.warnings, ...warningsOf(checked.settings)],
    files: read.files.map(({ file }) => file),
  }
}

/** Also done when another key has a problem: all problems at once. */
async function findHostKeys(tree: Tree): Promise<HostKeyFindings> {
  const patterns = v.safeParse(hostKeys, ownValue(tree, 'host_keys'))
  return patterns.success ? checkHostKeyFiles(patterns.output) : { problems: [], warnings: [] }
}

interface HostKeyFindings {
  readonly problems: readonly string[]
  readonly warnings: readonly string[]
}

/**
 * Compare `host_keys` with the files of this host: two different files of the same name are a problem, for their
 * certificates would be one file; nothing of that name is a warning, for keys may come later. Never throws.
 */
export async function checkHostKeyFiles(patterns: readonly string[]): Promise<HostKeyFindings> {
  const warnings: string[] = []
  const pathsByName = new Map<string, Set<string>>()
  for (const pattern of patterns) {
    const found = await find(pattern)
    if (found.length === 0) warnings.push(`host_keys: nothing matches ${quote(pattern)} yet`)
    // A path that is written out counts whether it is there or not.
    for (const path of isPattern(pattern) ? found : [resolve(pattern)]) {
      const name = basename(path)
      pathsByName.set(name, (pathsByName.get(name) ?? new Set()).add(path))
    }
  }
  const problems = [...pathsByName]
    .filter(([, paths]) => paths.size > 1)
    .map(([name, paths]) => `${[...paths].sort().join(' and ')} have the same file name, ${name}`)
  return { problems, warnings }
}

/** What matches now; nothing where a folder may not be looked into. */
async function find(pattern: string): Promise<string[]> {
  try {
    return (await pathsMatching(pattern)).filter((path) => !path.endsWith(CERTIFICATE_SUFFIX))
  } catch {
    // The loop looks again each tick, and reports what it cannot read.
    return []
  }
}

/** The last file that sets the path decides its value. */
function locate({ keys, message }: KeyProblem, files: readonly ConfigFile[]): Problem {
  const from = files.findLast(({ tree }) => hasPath(tree, keys))
  return { path: pathText(keys), message, ...(from === undefined ? {} : { file: from.file }) }
}

function warningsOf({ health: { listen }, issuer: { timeout }, renewal, verify }: Settings): string[] {
  const warnings: string[] = []
  const inUpperCase = upperCaseWarning(verify.principals ?? [])
  if (inUpperCase !== null) warnings.push(`verify.principals: ${inUpperCase}`)
  if (longestGapDays(renewal.maintenance) > LONGEST_MAINTENANCE_GAP_DAYS)
    warnings.push(
      `renewal.maintenance: there is no window for more than ${LONGEST_MAINTENANCE_GAP_DAYS} days at times; only overdue certificates are renewed meanwhile`,
    )
  if (timeout > LONGEST_TIMEOUT_SECONDS)
    warnings.push(
      `issuer.timeout: values above ${LONGEST_TIMEOUT_SECONDS}s are treated as ${LONGEST_TIMEOUT_SECONDS}s`,
    )
  if (listen.kind === 'tcp' && !isLoopback(listen.host))
    warnings.push(
      `health.listen: everyone who can reach ${listen.host} can read the status page and the metrics`,
    )
  return warnings
}

/** What cannot be looked at counts as there: to go without a pinned CA by mistake would be worse than to fail. */
async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    const code = systemCodeOf(error)
    return code !== 'ENOENT' && code !== 'ENOTDIR'
  }
}

const KEYS = ['verify', 'host_ca_file']

/** By default it has the host of `issuer.url`, and without TLS there is no client certificate. */
function findMissingLoginUrl(tree: Tree): KeyProblem[] {
  const [auth, issuer] = [ownValue(tree, 'auth'), ownValue(tree, 'issuer')]
  if (!isTree(auth) || !isTree(issuer) || ownValue(auth, 'method') !== 'tls-cert') return []
  const url = ownValue(issuer, 'url')
  if (hasPath(auth, ['login_url']) || typeof url !== 'string' || !/^http:/i.test(url)) return []
  return [{ keys: ['auth', 'login_url'], message: 'is required: issuer.url is not https://' }]
}

/** A program cannot be asked for the CA, so it has to be pinned. */
function findMissingHostCa(tree: Tree, defaultFile: string | null): KeyProblem[] {
  if (!hasCommand(tree) || defaultFile !== null || hasPath(tree, KEYS)) return []
  const message = `is required with issuer.command: name a file with the public key of the CA, or create ${DEFAULT_HOST_CA_FILE}`
  return [{ keys: KEYS, message }]
}

/**
 * What is wrong with the file of the pinned CAs. Without them the daemon could tell no certificate from any other, so
 * it is a problem of the configuration. Never throws.
 *
 * @param tree may have problems elsewhere: all are reported at once
 * @param defaultFile what counts when the configuration names none; null for none
 */
async function findHostCaProblems(tree: Tree, defaultFile: string | null): Promise<KeyProblem[]> {
  const verify = ownValue(tree, 'verify')
  const configured = isTree(verify) ? ownValue(verify, 'host_ca_file') : undefined
  const file = configured ?? defaultFile
  // What is not a path is reported already.
  if (typeof file !== 'string' || !isAbsolutePath(file)) return []
  try {
    await readCaKeys(file)
    return []
  } catch (error) {
    return [{ keys: KEYS, message: messageOf(error) }]
  }
}
