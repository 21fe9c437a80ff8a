import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { parseDuration } from '../cert/time.ts'
import { configPathFrom, type LoadedConfig } from '../config/load.ts'
import { type Problem, problemLine } from '../config/problem.ts'
import { canRead, EXCHANGE_USER, userNamed, whyDenied } from '../host/file-access.ts'
import type { VersionInfo } from '../version.ts'
import { isUpsideDown, parseThreshold, type Threshold } from './check-judgement.ts'
import { check, type CheckOptions } from './check.ts'
import {
  type CliContext,
  type ConfigOption,
  EXIT,
  linesOf,
  notEnrolledLine,
  readConfig,
  readConfigAsOwner,
} from './context.ts'
import { addCommonOptions, addEnrollOptions, enrollVerb, unenrollVerb } from './enroll.ts'
import { inspect } from './inspect.ts'
import { metricsWrite } from './metrics-write.ts'
import { NEEDS_RENEWAL, needsRenewal, renew } from './renew.ts'
import { showStatus } from './status-text.ts'
import { wait, type WaitTimeout } from './wait.ts'

/**
 * Run one verb. Throws nothing: errors go to stderr.
 *
 * @param argv without program names
 * @param signal fires on SIGINT and SIGTERM
 * @returns the exit status of the interface; 64 for a usage error
 */
export async function runProgram(
  argv: readonly string[],
  context: CliContext,
  signal: AbortSignal,
): Promise<number> {
  let exitStatus: number = EXIT.ok
  const program = buildProgram(context, signal, (code) => {
    exitStatus = code
  })
  try {
    await program.parseAsync([...argv], { from: 'user' })
    return exitStatus
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    throw error
  }
}

/**
 * All verbs and options; what completions and the manual are checked against.
 *
 * @param exit is called with the exit status of the verb that was run
 */
export function buildProgram(
  context: CliContext,
  signal: AbortSignal,
  exit: (code: number) => void,
): Command {
  const program = new Command('hostcertd')
    .description('Keeps the OpenSSH host certificates of this host fresh.')
    .version(versionText(context.version), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    .configureOutput({
      writeOut: (text) => context.out(text),
      writeErr: (text) => context.err(text.trimEnd()),
    })
    .exitOverride()
    .showHelpAfterError('(see --help)')

  /** @param failed exit status when the verb throws */
  const act = async (verb: () => number | Promise<number>, failed: number = EXIT.failed): Promise<void> => {
    try {
      exit(await verb())
    } catch (error) {
      context.err(linesOf(error, signal).join('\n'))
      exit(failed)
    }
  }
  const add = (name: string, description: string, parent = program): Command =>
    parent.command(name).description(description).helpOption('-h, --help', 'print this help')
  const verb = (name: string, description: string, parent = program): Command =>
    add(name, description, parent).allowExcessArguments(false).addOption(configOption())

  verb('run', 'run the daemon in the foreground').action(async (options) =>
    act(async () => run(context, options, signal)),
  )

  addEnrollOptions(
    verb('enroll', 'make this host a member: register, log in, certify, configure, start'),
  ).action(async (options) => act(async () => enrollVerb(context, options, signal)))

  addCommonOptions(verb('unenroll', 'take back what enroll did')).action(async (options) =>
    act(async () => unenrollVerb(context, options, signal)),
  )

  verb('renew', 'make one pass now: issue what is due, verify, swap, reload, confirm')
    .option('--force', 'issue for every host key, whether due or not')
    .option('--dry-run', 'issue and verify, but write nothing')
    .addOption(hostKeyOption())
    .addOption(jsonOption())
    .action(async (options) => act(async () => renew(context, options, signal)))

  verb(
    'needs-renewal',
    'exit status 0 if renewal is due, 1 if not, 2 without a certificate or host key, 255 on error',
  )
    .addOption(hostKeyOption())
    .addOption(jsonOption())
    .action(async (options) => act(async () => needsRenewal(context, options, signal), NEEDS_RENEWAL.error))

  verb('status', 'show one line per host key: state, lifetime, due, served, last error')
    .addOption(jsonOption())
    .action(async (options) => act(async () => showStatus(context, options, signal)))

  verb('check', 'run as a monitoring plugin: exit status 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN')
    .addOption(thresholdOption('-w, --warning <left>', 'WARNING if less than this is left', 'when overdue'))
    .addOption(
      thresholdOption(
        '-c, --critical <left>',
        'CRITICAL if less than this is left',
        'one third of the overdue threshold',
      ),
    )
    .addOption(jsonOption())
    .action(async (options: CheckOptions, command: Command) => {
      const { warning, critical } = options
      if (warning !== undefined && critical !== undefined && isUpsideDown(warning, critical))
        command.error('error: --warning must not be less than --critical')
      await act(async () => check(context, options, signal))
    })

  verb('inspect', 'show what is in a certificate, and whether its signature is valid')
    .argument('<file...>', 'certificate files; `-` is standard input')
    .addOption(jsonOption())
    .action(async (files, options) => act(async () => inspect(context, files, options)))

  verb('wait', 'wait until sshd serves the certificate of every host key')
    .addOption(timeoutOption())
    .action(async (options) => act(async () => wait(context, options, signal)))

  verb('doctor', 'check every step to a served certificate, and say how to fix what fails')
    .option('--issue', 'also issue and verify a certificate for each host key, but write nothing')
    .addOption(sshdConfigOption())
    .addOption(jsonOption())
    .action(async (options) =>
      act(async () => {
        // In a file of its own, which no other verb loads.
        const { doctor } = await import('../doctor/doctor.ts')
        return await doctor(context, options, signal)
      }),
    )

  const config = add('config', 'check the configuration').helpCommand(false)
  verb('validate', 'list every problem in the configuration, each with its path', config)
    .addOption(jsonOption())
    .action(async (options) => act(async () => configValidate(context, options, signal)))

  const metrics = add('metrics', 'export the metrics').helpCommand(false)
  verb('write', 'write the metrics to a file for a textfile collector', metrics)
    .argument('<file>', 'file to write; replaced atomically, mode 0644')
    .action(async (file, options) => act(async () => metricsWrite(context, file, options, signal)))

  verb('version', 'show the version, the version of Node and the commit')
    .addOption(jsonOption())
    .action(async (options) => act(() => version(context, options)))

  add('help', 'show help for a verb')
    .argument('[verb...]')
    .action((names: readonly string[]) => commandNamed(program, names).outputHelp())

  return program
}

/** `['config', 'validate']`: the verb of that name. A usage error if there is none. */
function commandNamed(program: Command, names: readonly string[]): Command {
  let found = program
  for (const name of names) {
    const next = found.commands.find((command) => command.name() === name)
    if (next === undefined) return program.error(`error: unknown command '${names.join(' ')}'`)
    found = next
  }
  return found
}

function configOption(): Option {
  return new Option(
    '--config <file>',
    'configuration file (default: $HOSTCERTD_CONFIG, else /etc/hostcertd/hostcertd.yaml)',
  )
}

function jsonOption(): Option {
  return new Option('--json', 'print JSON')
}

function hostKeyOption(): Option {
  return new Option(
    '--host-key <file>',
    'only this host key: its path, with or without .pub, or its file name',
  )
}

function sshdConfigOption(): Option {
  return new Option('--sshd-config <file>', "sshd's configuration file (default: /etc/ssh/sshd_config)")
}

/** @param byDefault described, as it depends on the certificate */
function thresholdOption(flags: string, description: string, byDefault: string): Option {
  const parse = (text: string): Threshold => {
    const threshold = parseThreshold(text)
    if (threshold === null)
      throw new InvalidArgumentError('It must be a percentage (15%) or a duration (3d).')
    return threshold
  }
  return new Option(flags, `${description}: 15% of the lifetime, or 3d (default: ${byDefault})`).argParser(
    parse,
  )
}

function timeoutOption(): Option {
  const parse = (text: string): WaitTimeout => {
    const seconds = parseDuration(text)
    if (seconds === null) throw new InvalidArgumentError('It must be a whole number and s, m, h or d.')
    return { seconds, text }
  }
  const byDefault: WaitTimeout = { seconds: 60, text: '60s' }
  return new Option('--timeout <duration>', 'give up after this time, for example 90s or 5m')
    .default(byDefault, byDefault.text)
    .argParser(parse)
}

/** `version`: version, Node, commit. */
function version(context: CliContext, options: { readonly json?: boolean }): number {
  if (options.json === true) context.out(`${JSON.stringify(context.version, null, 2)}\n`)
  else context.out(`${versionText(context.version)}\n`)
  return EXIT.ok
}

function versionText({ version: number, node, commit }: VersionInfo): string {
  return `hostcertd ${number} (Node ${node}, commit ${commit ?? 'unknown'})`
}

/** `run`: the daemon, in the foreground, until `stop` fires. */
async function run(context: CliContext, options: ConfigOption, stop: AbortSignal): Promise<number> {
  // Read again each time: the configuration may be written after the daemon was started.
  const load = async (): Promise<LoadedConfig> => (await readConfigAsOwner(context, options)).loaded
  const loaded = await load()
  if (loaded.kind === 'invalid') {
    const log = context.daemonLog()
    for (const problem of loaded.problems) log.error({ code: 'CONFIG_INVALID' }, problemLine(problem))
    return EXIT.config
  }
  const config = loaded.kind === 'ok' ? loaded.config : null
  const daemon = context.createDaemon(config, load)
  if (loaded.kind === 'ok') daemon.warn(loaded.warnings)
  await daemon.run(config, stop)
  return EXIT.ok
}

interface ConfigValidateOptions extends ConfigOption {
  readonly json?: boolean
}

/** `config validate`: every problem, each with its path. */
async function configValidate(
  context: CliContext,
  options: ConfigValidateOptions,
  signal: AbortSignal,
): Promise<number> {
  const ofExchange = await unreadableForExchange(context, options, signal)
  const { path, loaded } = await readConfigAsOwner(context, options)
  const own = loaded.kind === 'invalid' ? loaded.problems : []
  const reported = new Set(own.map((problem) => problem.path))
  const problems = [...own, ...ofExchange.filter((problem) => !reported.has(problem.path))]
  const warnings = loaded.kind === 'ok' ? loaded.warnings : []
  if (options.json === true) {
    const errors = problems.map(({ path: where, message, file }) => ({
      code: 'CONFIG_INVALID',
      path: where,
      message,
      file: file ?? null,
    }))
    const enrolled = loaded.kind !== 'not-enrolled'
    const valid = enrolled ? problems.length === 0 : null
    context.out(`${JSON.stringify({ valid, enrolled, errors, warnings }, null, 2)}\n`)
  } else {
    for (const problem of problems) context.out(`CONFIG_INVALID: ${problemLine(problem)}\n`)
    for (const warning of warnings) context.err(`warning: ${warning}`)
    if (loaded.kind === 'not-enrolled') context.out(`${notEnrolledLine(path)}\n`)
    if (loaded.kind === 'ok' && problems.length === 0) context.out(`${loaded.files.join(', ')}: valid\n`)
  }
  return problems.length === 0 ? EXIT.ok : EXIT.config
}

/** For root: files that the exchange of the packaged unit, a user of its own, cannot read, as a strict umask makes them. */
async function unreadableForExchange(
  context: CliContext,
  options: ConfigOption,
  signal: AbortSignal,
): Promise<Problem[]> {
  if (process.geteuid?.() !== 0) return []
  const { path, loaded } = await readConfig(context, options)
  // The unit uses this file, and no other.
  if (loaded.kind !== 'ok' || path !== configPathFrom(undefined, {})) return []
  const user = await userNamed(EXCHANGE_USER, signal)
  if (user === null) return []
  const { issuer } = loaded.config
  const caFile = issuer.kind === 'http' ? issuer.caFile : null
  const wanted = loaded.files.map((file) => ({ where: file, file }))
  if (caFile !== null) wanted.push({ where: 'issuer.ca_file', file: caFile })
  const problems: Problem[] = []
  for (const { where, file } of wanted) {
    const denied = await whyDenied(file, user, 'read')
    if (denied === null) continue
    // Owners and modes are not all: an access list may permit it.
    if (!(await canRead(EXCHANGE_USER, file, signal)))
      problems.push({ path: where, message: `the user ${EXCHANGE_USER} cannot read it: ${denied}` })
  }
  return problems
}
