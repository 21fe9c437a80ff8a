import { type Command, InvalidArgumentError, Option } from 'commander'
import { readCertificateTtl, readHostName, type Reading } from '../cert/host-name.ts'
import { formatDuration, parseDuration } from '../cert/time.ts'
import { readUuid } from '../config/values.ts'
import {
  flagOf,
  LOGIN_METHODS,
  LOGIN_OPTIONS,
  type LoginMethodName,
  type LoginOption,
} from '../enroll/login-options.ts'
import { ALIAS, PROJECT_ID, USUAL_JITTER_SECONDS, USUAL_WAIT_SECONDS } from '../enroll/wanted.ts'

/** Headings of `--help`. */
const HOST = 'The host and its issuer:'
const LOGIN = 'Login (which method takes it, then what it is):'

/** What `enroll` and `unenroll` both take. */
function addCommonOptions(verb: Command): Command {
  return verb
    .option('--yes', 'make the changes without asking')
    .option('--dry-run', 'only show what would change')
    .option('--check', 'show what would change, and exit with 2 if anything would, else with 0')
    .option('--json', 'print JSON, and ask nothing: needs --yes, --check or --dry-run')
    .optionsGroup(HOST)
    .option('--url <url>', 'URL of the issuer, for example https://us.infisical.com')
    .option('--host-id <id>', 'id of the host at the issuer', readId)
    .addOption(new Option('--auth <method>', 'login method').choices(LOGIN_METHODS).helpGroup(LOGIN))
    .option(
      '--admin-token-file <file>',
      'access token of an administrator, used once and not kept; `-` is standard input',
    )
    .option('--ca-file <file>', 'TLS roots (PEM) to trust besides those of the system')
}

/** Everything that `enroll` takes besides. */
export function addEnrollOptions(verb: Command): Command {
  addCommonOptions(verb)
    .option(
      '--project <project>',
      "find the host by its name in this project: the project's id or slug",
      matching(
        PROJECT_ID,
        "the project's id or slug: at most 64 letters of the English alphabet, digits, hyphens and underscores",
      ),
    )
    .option('--from-certificate', 'it is the host that a certificate on this machine is for')
    .option(
      '--hostname <name>',
      "the host's name, as clients connect to it (default: the full name of this machine)",
      readBy(readHostName),
    )
    .option('--register', 'register the host in the project if it is not there')
    .option(
      '--ttl <lifetime>',
      'with --register: lifetime of its certificates, for example 30d',
      readBy(readCertificateTtl),
    )
    .option(
      '--alias <name>',
      'with --register: a second name',
      matching(ALIAS, 'at most 255 letters of the English alphabet, digits, dots, hyphens and underscores'),
    )
    .option(
      '--ca-fingerprint <fingerprint...>',
      'fingerprint of the host CA (SHA256:…) that must sign, and is pinned; may be repeated',
      readFingerprint,
    )
    .option('--user-ca', 'trust the CA that signs the certificates of users, and keep it up to date')
    .option(
      '--user-ca-fingerprint <fingerprint...>',
      'fingerprint of a user CA (SHA256:…) that may be trusted; may be repeated',
      readFingerprint,
    )
    .optionsGroup('Options:')
    .option('--take-over', 'take over a registered name, and what other agents configured in sshd')
    .addOption(
      new Option('--on-copy <action>', 'what a copy of this machine does when it starts').choices([
        'warn',
        'stop',
      ]),
    )
    .addOption(
      new Option('--wait <duration>', 'how long to wait until sshd serves the certificates')
        .argParser(readWait)
        .default(USUAL_WAIT_SECONDS, formatDuration(USUAL_WAIT_SECONDS)),
    )
    .option('--template', 'for an image: only write down what is to be done at the first boot of each copy')
    .option('--shared-secret', 'with --template: secrets may be in the image, the same in each copy')
    .option('--ephemeral', 'delete the host at the issuer when this machine is powered off')
    .addOption(
      new Option(
        '--jitter <duration>',
        'with --template or --ephemeral: spread machines that boot together over this time',
      )
        .argParser(readWait)
        .default(USUAL_JITTER_SECONDS, formatDuration(USUAL_JITTER_SECONDS)),
    )
    .addOption(new Option('--from-template', 'what hostcertd-enroll.service does').hideHelp())
  return addLoginOptions(verb)
}

/** Everything that `unenroll` takes besides. */
export function addUnenrollOptions(verb: Command): Command {
  addCommonOptions(verb)
    .option(
      '--delete-host',
      'delete the host at the issuer, in the end; with --host-id only that, from any machine',
    )
    .option('--keep-user-ca', 'keep the user CAs, so that logins by user certificate go on')
  return addLoginOptions(verb)
}

function addLoginOptions(verb: Command): Command {
  verb.optionsGroup(LOGIN)
  for (const [setting, { form, text }] of loginOptions()) {
    const value = { value: '<value>', secret: '<file>', file: '<file>', command: '<program...>' }[form]
    verb.option(`${flagOf(setting)} ${value}`, text)
  }
  return verb
}

/** Each setting of `auth` once, with the methods that take it. */
function loginOptions(): Map<string, { readonly form: LoginOption['form']; readonly text: string }> {
  const options = new Map<string, { form: LoginOption['form']; text: string }>()
  for (const { setting, form } of Object.values(LOGIN_OPTIONS).flat())
    if (!options.has(setting)) options.set(setting, { form, text: textFor(setting) })
  return options
}

/** `token: access token; kubernetes: file of the service account token`. */
function textFor(setting: string): string {
  const methods = new Map<string, LoginMethodName[]>()
  for (const method of LOGIN_METHODS)
    for (const option of LOGIN_OPTIONS[method])
      if (option.setting === setting) methods.set(option.what, [...(methods.get(option.what) ?? []), method])
  return [...methods].map(([what, takers]) => `${namesOf(takers)}: ${what}`).join('; ')
}

function namesOf(methods: readonly LoginMethodName[]): string {
  const others = LOGIN_METHODS.filter((method) => !methods.includes(method))
  if (others.length === 0) return 'all methods'
  return others.length < 3 ? `all but ${others.join(', ')}` : methods.join(', ')
}

function readId(text: string): string {
  const reading = readUuid(text)
  if (!reading.ok) throw new InvalidArgumentError(`It ${reading.problem}.`)
  return reading.value
}

/**
 * Ids of hosts at their issuer.
 *
 * @param before those that were given before it
 */
export function readIds(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, readId(text)]
}

/** @param before those that were given before it */
function readFingerprint(text: string, before: readonly string[] = []): readonly string[] {
  if (!/^SHA256:[A-Za-z0-9+/]{43}$/.test(text))
    throw new InvalidArgumentError('It must be SHA256: and 43 characters, as `ssh-keygen -l` prints it.')
  return [...before, text]
}

function readBy(read: (text: string) => Reading<string>): (text: string) => string {
  return (text) => {
    const reading = read(text)
    if (!reading.ok) throw new InvalidArgumentError(`${reading.why}.`)
    return reading.value
  }
}

/** @param allowed goes on after "It must be" */
function matching(pattern: RegExp, allowed: string): (text: string) => string {
  return (text) => {
    if (!pattern.test(text)) throw new InvalidArgumentError(`It must be ${allowed}.`)
    return text
  }
}

function readWait(text: string): number {
  const seconds = parseDuration(text)
  if (seconds === null) throw new InvalidArgumentError('It must be a whole number and s, m, h or d.')
  return seconds
}
