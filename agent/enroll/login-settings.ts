import { resolve } from 'node:path'
import { AgentError } from '../cert/errors.ts'
import { reasonOf, systemCodeOf } from '../cert/text.ts'
import type { LoginBy } from '../config/config.ts'
import { readBoundedFile, SMALL_FILE_BYTES } from '../host/files.ts'
import type { Settings } from './configuration.ts'
import {
  credentialNameOf,
  excludedBy,
  flagOf,
  LOGIN_OPTIONS,
  type LoginMethodName,
  type LoginOption,
} from './login-options.ts'
import type { Person } from './show.ts'
import type { EnrollOptions } from './wanted.ts'

export interface LoginSettings {
  readonly settings: Settings
  /** What {@link readSecrets} reads. */
  readonly secrets: readonly SecretSource[]
}

interface SecretSource {
  readonly option: LoginOption
  /** A file, or `-`; null: the person is asked. */
  readonly from: string | null
}

/** Those that people type; any other is a file of many lines, or comes from the platform. */
const TYPED = ['client_secret_file', 'token_file', 'password_file', 'access_key_secret_file']
/** Blanks in it are part of it. */
const PASSWORD = 'password_file'

const FORMS = new Map(
  Object.values(LOGIN_OPTIONS).flatMap((options) =>
    options.map((option) => [option.setting, option] as const),
  ),
)

/**
 * The section `auth` as the options say; what they leave out stays, unless the method becomes another one. A secret is put
 * into the credential folder; a file that the platform renews is named. Pure.
 *
 * @param before the method that is configured; null: none
 */
export function loginSettings(
  { method, login }: Pick<EnrollOptions, 'method' | 'login'>,
  before: LoginMethodName | null,
): LoginSettings {
  const wanted = method ?? before
  const own = wanted === null ? [] : LOGIN_OPTIONS[wanted]
  const settings: [readonly ['auth', string], string | readonly string[] | null][] = []
  const secrets: SecretSource[] = []
  if (method !== null) settings.push([['auth', 'method'], method])
  const others = Object.keys(login).flatMap(excludedBy)
  const isAnother = before !== null && before !== wanted
  settings.push(...without(isAnother ? [...FORMS.keys()] : others, login))

  for (const [setting, given] of Object.entries(login)) {
    const option = own.find((one) => one.setting === setting) ?? FORMS.get(setting)
    if (option === undefined) continue
    if (typeof given !== 'string') settings.push([['auth', setting], given])
    else if (option.form === 'secret' && !given.startsWith('credential:')) {
      secrets.push({ option, from: given })
      settings.push([['auth', setting], `credential:${credentialNameOf(setting)}`])
    } else
      settings.push([
        ['auth', setting],
        option.form === 'file' && !given.includes(':') ? resolve(given) : given,
      ])
  }
  const missing =
    before === wanted ? undefined : own.find((option) => isTyped(option) && !(option.setting in login))
  if (missing !== undefined) {
    secrets.push({ option: missing, from: null })
    settings.push([['auth', missing.setting], `credential:${credentialNameOf(missing.setting)}`])
  }
  return { settings, secrets }
}

/**
 * Read the secrets, once.
 *
 * @returns what is put into the credential folder, by name
 * @throws AgentError CREDENTIAL_UNREADABLE
 */
export async function readSecrets(
  { secrets }: LoginSettings,
  person: Person,
  signal: AbortSignal,
): Promise<Readonly<Record<string, string>>> {
  const texts: Record<string, string> = {}
  for (const { option, from } of secrets) {
    const { setting, what } = option
    if (from === null && !person.isThere)
      throw new AgentError(
        'CREDENTIAL_UNREADABLE',
        `the ${what} is missing: ${flagOf(setting)} FILE, or - for standard input`,
      )
    const text =
      from === null ? await person.secret(what, signal) : await readSecret(from, flagOf(setting), person)
    texts[credentialNameOf(setting)] = isTyped(option) ? inOneLine(text, option) : text
  }
  return texts
}

function isTyped({ form, setting }: LoginOption): boolean {
  return form === 'secret' && TYPED.includes(setting)
}

/**
 * The login by an administrator's access token, which is used now and never kept.
 *
 * @param path `-` is standard input
 * @throws AgentError CREDENTIAL_UNREADABLE
 */
export async function administratorLogin(
  path: string,
  person: Person,
): Promise<{ readonly auth: LoginBy<'token'>; readonly secrets: Readonly<Record<string, string>> }> {
  const flag = '--admin-token-file'
  const what = `access token of ${flag}`
  const token = inOneLine(await readSecret(path, flag, person), { setting: 'admin_token_file', what })
  return {
    auth: { method: 'token', tokenFile: 'credential:admin-token' },
    secrets: { 'admin-token': token },
  }
}

/** Of another method, a setting of the same name is another one: the `client_id` of azure is not that of universal-auth. */
function without(
  names: readonly string[],
  given: EnrollOptions['login'],
): [readonly ['auth', string], null][] {
  return names.filter((setting) => !(setting in given)).map((setting) => [['auth', setting], null])
}

function inOneLine(text: string, { setting, what }: Pick<LoginOption, 'setting' | 'what'>): string {
  const refuse = (why: string): never => {
    throw new AgentError('CREDENTIAL_UNREADABLE', `the ${what} ${why}`)
  }
  const line = setting === PASSWORD ? text.replace(/[\r\n]+$/, '') : text.trim()
  if (line === '') refuse('is empty')
  if (setting === PASSWORD ? /[\r\n]/.test(line) : /\s/.test(line))
    refuse(setting === PASSWORD ? 'is longer than one line' : 'contains white space')
  return `${line}\n`
}

/**
 * @param path `-` is standard input; not in the message when there is no such file, for it may be the secret itself
 * @param flag of the option
 * @throws AgentError CREDENTIAL_UNREADABLE
 */
export async function readSecret(path: string, flag: string, person: Person): Promise<string> {
  try {
    return path === '-' ? await person.input() : await readBoundedFile(path, SMALL_FILE_BYTES)
  } catch (error) {
    const code = systemCodeOf(error)
    const isMissing = path !== '-' && code !== null && NO_SUCH_FILE.includes(code)
    const place = path === '-' ? 'standard input' : path
    const message = isMissing
      ? `${flag}: there is no file of that name; it takes the name of a file, or - for standard input. If it was the secret itself, replace the secret: others may have seen it in the list of processes`
      : `${flag}: cannot read ${place}: ${reasonOf(error)}`
    throw new AgentError('CREDENTIAL_UNREADABLE', message, { cause: error })
  }
}

const NO_SUCH_FILE: readonly string[] = ['ENOENT', 'ENAMETOOLONG', 'ENOTDIR']
