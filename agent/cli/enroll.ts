import { type Command, InvalidArgumentError, Option } from 'commander'
import { readCertificateTtl, readHostName, type Reading } from '../cert/host-name.ts'
import { parseDuration } from '../cert/time.ts'
import { attributeOf, flagOf, LOGIN_OPTIONS, type LoginMethodName } from '../enroll/login-options.ts'
import type { EnrollOptions } from '../enroll/wanted.ts'
import { type CliContext, EXIT, VerbError } from './context.ts'

/** sshd is asked every few seconds, and a first certificate is there within a few more. */
const USUAL_WAIT = '2m'
/** Of hosts that boot together. */
const USUAL_JITTER = '1m'

/** The options of `enroll`, as commander has them. */
type Given = Readonly<Record<string, string | boolean | readonly string[] | undefined>>

/** What `enroll` and `unenroll` both take. */
export function addCommonOptions(verb: Command): Command {
  return verb
    .option('--yes', 'make the changes without asking')
    .addOption(new Option('--dry-run', 'only show what would change').conflicts('check'))
    .option('--check', 'only say by the exit status whether anything would change: 0 no, 2 yes')
    .option('--json', 'print JSON')
    .option('--url <url>', 'of the issuer')
    .option('--host-id <id>', 'id of the host at the issuer')
    .addOption(new Option('--auth <method>', 'how to log in').choices(Object.keys(LOGIN_OPTIONS)))
    .option('--admin-token-file <file>', 'access token of an administrator, used once; `-` is standard input')
    .option('--ca-file <file>', 'TLS roots (PEM) to trust besides those of the system')
}

/** Everything that `enroll` takes besides. */
export function addEnrollOptions(verb: Command): Command {
  addCommonOptions(verb)
    .option('--project <project>', 'id or slug of the project of the host')
    .option(
      '--hostname <name>',
      'name of the host, as clients connect to it (default: its full name)',
      readBy(readHostName),
    )
    .option('--register', 'register the host, if it is not')
    .option(
      '--ttl <lifetime>',
      'with --register: lifetime of its certificates, for example 30d',
      readBy(readCertificateTtl),
    )
    .option('--alias <name>', 'with --register: a second name')
    .option('--from-certificate', 'the host that a certificate on this machine is for')
    .option('--ca-fingerprint <fingerprint...>', 'of the host CA, `SHA256:…`')
    .option(
      '--take-over',
      'use a registered host that nothing on this machine names, and lines of other agents',
    )
    .addOption(new Option('--on-copy <action>', 'what a copy of this machine does').choices(['warn', 'stop']))
    .option('--wait <duration>', 'how long sshd may take to serve', readWait, parseDuration(USUAL_WAIT) ?? 0)
    .option('--template', 'for an image: only write down what is to be done at the first boot of each copy')
    .option('--shared-secret', 'with --template: secrets may be in the image, the same in each copy')
    .option('--ephemeral', 'delete the host at the issuer when this machine is powered off')
    .option(
      '--jitter <duration>',
      'with --template or --ephemeral: machines that boot together are spread over this time',
      readWait,
      parseDuration(USUAL_JITTER) ?? 0,
    )
    .addOption(new Option('--from-template', 'what hostcertd-enroll.service does').hideHelp())
  const methods = new Map<string, string[]>()
  for (const [method, options] of Object.entries(LOGIN_OPTIONS))
    for (const { setting } of options) methods.set(setting, [...(methods.get(setting) ?? []), method])
  const options = new Map(
    Object.values(LOGIN_OPTIONS).flatMap((all) => all.map((one) => [one.setting, one] as const)),
  )
  for (const [setting, { form, what }] of options) {
    const value = { value: '<value>', secret: '<file>', file: '<file>', command: '<program...>' }[form]
    verb.option(`${flagOf(setting)} ${value}`, `${methods.get(setting)?.join(', ')}: ${what}`)
  }
  return verb
}

function readBy(read: (text: string) => Reading<string>): (text: string) => string {
  return (text) => {
    const reading = read(text)
    if (!reading.ok) throw new InvalidArgumentError(`It ${reading.why}.`)
    return reading.value
  }
}

function readWait(text: string): number {
  const seconds = parseDuration(text)
  if (seconds === null) throw new InvalidArgumentError('It must be a whole number and s, m, h or d.')
  return seconds
}

function textOf(given: Given, name: string): string | null {
  const value = given[name]
  return typeof value === 'string' ? value : null
}

function loginOf(given: Given): EnrollOptions['login'] {
  const settings = Object.values(LOGIN_OPTIONS).flatMap((options) => options.map(({ setting }) => setting))
  return Object.fromEntries(
    [...new Set(settings)].flatMap((setting) => {
      const value = given[attributeOf(setting)]
      return value === undefined || typeof value === 'boolean' ? [] : [[setting, value]]
    }),
  )
}

function modeOf({ dryRun, check, yes }: Given): EnrollOptions['mode'] {
  if (dryRun === true) return 'dry-run'
  if (check === true) return 'check'
  return yes === true ? 'yes' : 'ask'
}

/** `enroll`: make this host a member. */
export async function enrollVerb(context: CliContext, given: Given, signal: AbortSignal): Promise<number> {
  if (given['fromTemplate'] === true) return enrollAtBootVerb(context, signal)
  const { enroll } = await import('../enroll/enroll.ts')
  const options: EnrollOptions = {
    url: textOf(given, 'url'),
    hostId: textOf(given, 'hostId'),
    project: textOf(given, 'project'),
    hostname: textOf(given, 'hostname'),
    register:
      given['register'] === true ? { ttl: textOf(given, 'ttl'), alias: textOf(given, 'alias') } : null,
    fromCertificate: given['fromCertificate'] === true,
    method: textOf(given, 'auth') as LoginMethodName | null,
    login: loginOf(given),
    adminTokenFile: textOf(given, 'adminTokenFile'),
    caFile: textOf(given, 'caFile'),
    caFingerprints: (given['caFingerprint'] as readonly string[] | undefined) ?? [],
    takeOver: given['takeOver'] === true,
    onCopy: textOf(given, 'onCopy') as EnrollOptions['onCopy'],
    mode: modeOf(given),
    waitSeconds: Number(given['wait']),
    jitterSeconds: Number(given['jitter']),
    ephemeral: given['ephemeral'] === true,
  }
  await using tools = await context.enrollTools(signal)
  mayAsk(options.mode, tools.person.isThere)
  if (given['template'] === true) {
    const { prepareImage } = await import('../enroll/prepare-image.ts')
    const { changed, steps, isDone } = await prepareImage(
      options,
      given['sharedSecret'] === true,
      tools,
      signal,
    )
    const nothing = { host_id: null, hostname: null, known_hosts: null }
    if (given['json'] === true) context.out(`${JSON.stringify({ changed, ...nothing, steps }, null, 2)}\n`)
    else if (isDone)
      context.err(changed ? 'each copy of this machine enrolls itself at its first boot' : 'nothing changed')
    return options.mode === 'check' && changed ? WOULD_CHANGE : EXIT.ok
  }
  if (given['sharedSecret'] === true) throw new VerbError('--shared-secret is for --template')
  const result = await enroll(options, tools, signal)
  const { changed, hostId, hostname, steps, knownHosts } = result
  if (given['json'] === true)
    context.out(
      `${JSON.stringify({ changed, host_id: hostId, hostname, steps, known_hosts: knownHosts }, null, 2)}\n`,
    )
  else if (result.isDone) {
    context.err(
      changed
        ? `${hostname} is enrolled, and sshd serves its certificates`
        : `${hostname} is enrolled already: nothing changed`,
    )
    context.err('A client that has this line in its known_hosts connects without a prompt:')
    if (knownHosts !== null) context.out(`${knownHosts}\n`)
  }
  return options.mode === 'check' && changed ? WOULD_CHANGE : EXIT.ok
}

/** `enroll --from-template`, as hostcertd-enroll.service runs it. */
async function enrollAtBootVerb(context: CliContext, signal: AbortSignal): Promise<number> {
  mayAsk('yes', false)
  const { enrollAtBoot } = await import('../enroll/first-boot.ts')
  const { enrollTools: openTools, err: tell } = context
  const enrolled = await enrollAtBoot({ tell, openTools }, signal)
  if (enrolled !== null) tell(`${enrolled.hostname} is enrolled, and sshd serves its certificates`)
  return EXIT.ok
}

/** With `--check`. */
const WOULD_CHANGE = 2

/** Without a person there is nobody to ask. */
function mayAsk(mode: EnrollOptions['mode'], isThere: boolean): void {
  if (process.geteuid?.() !== 0) throw new VerbError('run this as root: it writes below /etc')
  if (mode === 'ask' && !isThere)
    throw new VerbError('there is no terminal to ask at: add --yes, or --dry-run to look only')
}

/** `unenroll`: take it back. */
export async function unenrollVerb(context: CliContext, given: Given, signal: AbortSignal): Promise<number> {
  const { unenroll } = await import('../enroll/unenroll.ts')
  const mode = modeOf(given)
  await using tools = await context.enrollTools(signal)
  mayAsk(mode, tools.person.isThere)
  const result = await unenroll({ mode, deleteHost: null }, tools, signal)
  const { changed, steps, left, isDone } = result
  if (given['json'] === true) context.out(`${JSON.stringify({ changed, steps, left }, null, 2)}\n`)
  else if (isDone)
    context.err(
      changed ? 'what enroll did was taken back' : 'enroll did nothing on this host: nothing changed',
    )
  if (left.length > 0) return EXIT.failed
  return mode === 'check' && changed ? WOULD_CHANGE : EXIT.ok
}
