import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { isHostPattern } from '../cert/known-hosts.ts'
import { parseDuration } from '../cert/time.ts'
import type { LoadedConfig } from '../config/load.ts'
import { problemLine } from '../config/problem.ts'
import type { VersionInfo } from '../version.ts'
import { caRefresh } from './ca-refresh.ts'
import { CA_FORMATS, caShow } from './ca-show.ts'
import { isBelowCritical, parseThreshold, type Threshold } from './check-judgement.ts'
import { check, type CheckOptions } from './check.ts'
import { configValidate } from './config-validate.ts'
import { type CliContext, type ConfigOption, EXIT, linesOf, readConfigAsOwner } from './context.ts'
import { addEnrollOptions, addUnenrollOptions, readIds } from './enroll-options.ts'
import { needsDeleteHost, usageError } from './enroll-usage.ts'
import { enrollVerb, unenrollVerb } from './enroll.ts'
import { inspect } from './inspect.ts'
import { krl } from './krl.ts'
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
      // It may be a secret: `--client-secret=…`.
      outputError: (text, write) => write(text.replace(/(unknown option '[^=']*)=.*'/s, "$1'")),
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
    verb('enroll', 'make this host a member: find or register it, configure it, start the service'),
  ).action(async (options, command: Command) => {
    refuse(command, usageError(context, options))
    await act(async () => enrollVerb(context, options, signal))
  })

  addUnenrollOptions(verb('unenroll', 'take back what enroll did')).action(
    async (options, command: Command) => {
      refuse(command, usageError(context, options) ?? needsDeleteHost(options))
      await act(async () => unenrollVerb(context, options, signal))
    },
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
      const isWrong = warning !== undefined && critical !== undefined && isBelowCritical(warning, critical)
      refuse(command, isWrong ? '--warning must not be less than --critical' : null)
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

  const ca = add('ca', 'what clients and logins trust').helpCommand(false)
  verb('show', 'show the host CAs that this host trusts, as clients need them', ca)
    .addOption(
      new Option('--format <format>', 'what clients read')
        .choices(CA_FORMATS)
        .default(CA_FORMATS[0])
        .conflicts('json'),
    )
    .addOption(hostsOption())
    .addOption(jsonOption())
    .action(async (options) => act(async () => caShow(context, options, signal)))

  verb('refresh', 'bring the user CAs up to date, and say when the issuer names an unknown host CA', ca)
    .option('--now', 'do not wait when the issuer says that it is busy: fail at once')
    .action(async (options) => act(async () => caRefresh(context, options, signal)))

  verb('krl', 'write a revocation list that revokes every certificate of this host, by its key id')
    .argument('<file>', 'file to write, replaced atomically, mode 0644; `-` is standard output')
    .addOption(
      new Option(
        '--host-id <id>',
        'id of the host at the issuer (default: this host); may be repeated',
      ).argParser(readIds),
    )
    .action(async (file, options) => act(async () => krl(context, file, options)))

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

/** @param why null when there is nothing to refuse */
function refuse(command: Command, why: string | null): void {
  if (why !== null) command.error(`error: ${why}`)
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

function hostsOption(): Option {
  const parse = (text: string): readonly string[] => {
    const patterns = text.split(',')
    if (patterns.every(isHostPattern)) return patterns
    throw new InvalidArgumentError(
      'It must be patterns of host names such as *.example.com, separated by commas.',
    )
  }
  return new Option(
    '--hosts <pattern>',
    "hosts that the CA is trusted for (default: the domain of this host's certificates)",
  ).argParser(parse)
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
  daemon.warn(loaded.warnings)
  await daemon.run(config, stop)
  return EXIT.ok
}
