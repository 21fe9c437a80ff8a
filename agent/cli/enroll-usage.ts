import { resolve } from 'node:path'
import { configPathFrom } from '../config/load.ts'
import { readIssuerUrl } from '../config/values.ts'
import { attributeOf, flagOf, LOGIN_OPTIONS, type LoginMethodName } from '../enroll/login-options.ts'
import { CONFIG_FILE, type EnrollOptions } from '../enroll/wanted.ts'
import type { CliContext } from './context.ts'

/** The options of `enroll` and `unenroll`, as commander has them. */
export type Given = Readonly<Record<string, string | boolean | number | readonly string[] | undefined>>

/** Options that cannot be used together, by the names of commander. */
const CONFLICTS: readonly {
  readonly option: string
  readonly with: readonly string[]
  readonly why: string
}[] = [
  {
    option: 'dryRun',
    with: ['check'],
    why: 'both only show what would change; --check also sets the exit status',
  },
  {
    option: 'hostId',
    with: ['project', 'register', 'fromCertificate'],
    why: 'the id names a host that is registered already',
  },
  { option: 'fromCertificate', with: ['project', 'register'], why: 'the certificate names the host' },
  {
    option: 'template',
    with: ['hostId', 'hostname', 'fromCertificate', 'alias'],
    why: 'a template is for many machines, and that option for one',
  },
  {
    option: 'template',
    with: ['userCa'],
    why: 'the user CA is put in place on each machine, by `hostcertd enroll --user-ca`',
  },
  {
    option: 'template',
    with: ['adminTokenFile'],
    why: 'that token is for one call; with a template, each machine registers with its own identity',
  },
]

/** Options that have no effect, or cannot be carried out, without others. */
const REQUIREMENTS: readonly { readonly option: string; readonly needs: readonly string[] }[] = [
  { option: 'register', needs: ['project'] },
  { option: 'ttl', needs: ['register'] },
  { option: 'alias', needs: ['register'] },
  { option: 'ephemeral', needs: ['register', 'project'] },
  { option: 'template', needs: ['url', 'project', 'auth'] },
  { option: 'sharedSecret', needs: ['template'] },
  { option: 'userCaFingerprint', needs: ['userCa'] },
]

/** hostcertd-enroll.service runs `--from-template --yes`; all else is in the template. */
const AT_BOOT = 'fromTemplate'
const WITH_DEFAULT = ['wait', 'jitter']

/** `adminTokenFile`: `--admin-token-file`. */
function flagOfAttribute(name: string): string {
  return flagOf(name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`))
}

function conflictIn(given: Given): string | null {
  const isGiven = (name: string): boolean => given[name] !== undefined && given[name] !== false
  if (isGiven(AT_BOOT)) {
    const other = Object.keys(given).find((name) => ![AT_BOOT, 'yes', ...WITH_DEFAULT].includes(name))
    if (other !== undefined)
      return `--from-template can only be combined with --yes, not with ${flagOfAttribute(other)}`
  }
  for (const { option, with: others, why } of CONFLICTS) {
    const other = isGiven(option) ? others.find(isGiven) : undefined
    if (other !== undefined)
      return `${flagOfAttribute(option)} cannot be used with ${flagOfAttribute(other)}: ${why}`
  }
  for (const { option, needs } of REQUIREMENTS) {
    const missing = isGiven(option) ? needs.filter((name) => !isGiven(name)) : []
    if (missing.length > 0)
      return `${flagOfAttribute(option)} needs ${missing.map(flagOfAttribute).join(' and ')}`
  }
  return null
}

/**
 * What is wrong with the options of `enroll` or `unenroll` together, and commander does not find; null when nothing is.
 *
 * @returns a usage error
 */
export function usageError({ environment }: Pick<CliContext, 'environment'>, given: Given): string | null {
  const config = configPathFrom(textOf(given, 'config') ?? undefined, environment)
  if (config !== CONFIG_FILE)
    return `the configuration file is ${config}, but enroll and unenroll work on ${CONFIG_FILE} only: leave out --config, and unset HOSTCERTD_CONFIG`
  // Not by commander, which repeats what was given: a password may be in it.
  const url = readIssuerUrl(textOf(given, 'url') ?? 'https://localhost')
  if (!url.ok) return `--url ${url.problem}`
  return conflictIn(given) ?? wrongLogin(given) ?? wrongInput(given)
}

/** A setting of the login that the method does not have. */
function wrongLogin(given: Given): string | null {
  const method = textOf(given, 'auth') as LoginMethodName | null
  if (method === null) return null
  const isOwn = (setting: string): boolean =>
    LOGIN_OPTIONS[method].some((option) => option.setting === setting)
  const strange = Object.keys(loginOf(given)).find((setting) => !isOwn(setting))
  return strange === undefined ? null : `${flagOf(strange)} is not an option of --auth ${method}`
}

/** Standard input is read once, and then answers no question. */
function wrongInput(given: Given): string | null {
  const isAsking = modeOf(given) === 'ask'
  if (given['json'] === true && isAsking) return '--json asks nothing: add --yes, --check or --dry-run'
  const login = loginOf(given)
  const inputs = Object.keys(login).filter((setting) => login[setting] === '-')
  const flags = [...(given['adminTokenFile'] === '-' ? ['--admin-token-file'] : []), ...inputs.map(flagOf)]
  const [flag] = flags
  if (flags.length > 1)
    return `only one option can read standard input, but ${flags.join(' and ')} are both \`-\``
  return flag !== undefined && isAsking
    ? `${flag} - reads standard input, so no question can be answered there: add --yes, --check or --dry-run`
    : null
}

/** What `unenroll` takes for the host at the issuer, which it only deletes when it is told to. */
export function needsDeleteHost(given: Given): string | null {
  if (given['deleteHost'] === true) return null
  const settings = Object.keys(loginOf(given))
  const names = ['url', 'hostId', 'auth', 'adminTokenFile', 'caFile', ...settings.map(attributeOf)]
  const name = names.find((one) => given[one] !== undefined)
  return name === undefined ? null : `${flagOfAttribute(name)} needs --delete-host`
}

export function enrollOptionsOf(given: Given): EnrollOptions {
  return {
    ...issuerOptionsOf(given),
    project: textOf(given, 'project'),
    hostname: textOf(given, 'hostname'),
    register:
      given['register'] === true ? { ttl: textOf(given, 'ttl'), alias: textOf(given, 'alias') } : null,
    fromCertificate: given['fromCertificate'] === true,
    caFingerprints: (given['caFingerprint'] as readonly string[] | undefined) ?? [],
    takeOver: given['takeOver'] === true,
    userCa:
      given['userCa'] === true
        ? { fingerprints: (given['userCaFingerprint'] as readonly string[] | undefined) ?? [] }
        : null,
    onCopy: textOf(given, 'onCopy') as EnrollOptions['onCopy'],
    mode: modeOf(given),
    waitSeconds: Number(given['wait']),
    jitterSeconds: Number(given['jitter']),
    ephemeral: given['ephemeral'] === true,
  }
}

/** Those that `unenroll` has too, for `--delete-host`. */
export function issuerOptionsOf(
  given: Given,
): Pick<EnrollOptions, 'url' | 'hostId' | 'method' | 'login' | 'adminTokenFile' | 'caFile'> {
  const caFile = textOf(given, 'caFile')
  return {
    url: textOf(given, 'url'),
    hostId: textOf(given, 'hostId'),
    method: textOf(given, 'auth') as LoginMethodName | null,
    login: loginOf(given),
    adminTokenFile: textOf(given, 'adminTokenFile'),
    // The configuration keeps it, and is read elsewhere.
    caFile: caFile === null ? null : resolve(caFile),
  }
}

/** Whether anything is changed; `--yes` makes no difference to `--check` and `--dry-run`. */
export function modeOf({ dryRun, check, yes }: Given): EnrollOptions['mode'] {
  if (dryRun === true) return 'dry-run'
  if (check === true) return 'check'
  return yes === true ? 'yes' : 'ask'
}

function textOf(given: Given, name: string): string | null {
  const value = given[name]
  return typeof value === 'string' ? value : null
}

function loginOf(given: Given): EnrollOptions['login'] {
  const settings = Object.values(LOGIN_OPTIONS)
    .flat()
    .map(({ setting }) => setting)
  return Object.fromEntries(
    [...new Set(settings)].flatMap((setting) => {
      const value = given[attributeOf(setting)]
      return typeof value === 'string' || Array.isArray(value)
        ? [[setting, value as string | readonly string[]]]
        : []
    }),
  )
}
