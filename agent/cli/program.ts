import { Command, CommanderError, Option } from 'commander'
import { configValidate } from './config-validate.ts'
import { EXIT, type CliContext } from './context.ts'
import { inspect } from './inspect.ts'
import { needsRenewal } from './needs-renewal.ts'
import { renew } from './renew.ts'
import { run } from './run.ts'
import { status } from './status.ts'
import { version } from './version.ts'
import { wait } from './wait.ts'

/**
 * Run one verb.
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
  let status_: number = EXIT.ok
  const program = buildProgram(context, signal, (code) => {
    status_ = code
  })
  try {
    await program.parseAsync([...argv], { from: 'user' })
    return status_
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    throw error
  }
}

/** All verbs and options; what completions and the manual are checked against. */
export function buildProgram(
  context: CliContext,
  signal: AbortSignal,
  exit: (code: number) => void,
): Command {
  const program = new Command('hostcertd')
    .description("Keeps this host's OpenSSH certificates fresh.")
    .configureOutput({
      writeOut: (text) => context.out(text),
      writeErr: (text) => context.err(text.trimEnd()),
    })
    .exitOverride()
    .showHelpAfterError('(see --help)')

  const verb = (name: string, description: string): Command =>
    program.command(name).description(description).allowExcessArguments(false).addOption(configOption())
  const json = (): Option => new Option('--json', 'print JSON')
  const hostKey = (): Option => new Option('--host-key <file>', 'only this host key')

  verb('run', 'the daemon, in the foreground').action(async (options) =>
    exit(await run(context, options, signal)),
  )

  verb('renew', 'one pass now: issue what is due, verify, swap, reload, confirm')
    .option('--force', 'issue for all host keys, due or not')
    .option('--dry-run', 'issue and verify, but write nothing')
    .addOption(hostKey())
    .addOption(json())
    .action(async (options) => exit(await renew(context, options, signal)))

  verb(
    'needs-renewal',
    'exit status 0 when something is due, 1 when not, 2 without a certificate or key, 255 on error',
  )
    .addOption(hostKey())
    .addOption(json())
    .action(async (options) => exit(await needsRenewal(context, options, signal)))

  verb('status', 'a line per host key: state, lifetime, due, served, last error')
    .addOption(json())
    .action(async (options) => exit(await status(context, options, signal)))

  verb('inspect', 'what is in a certificate, and whether its signature holds')
    .argument('<file...>', 'certificate files, `-` for standard input')
    .addOption(json())
    .action(async (files, options) => exit(await inspect(context, files, options)))

  verb('wait', "until every host key's certificate is served")
    .option('--timeout <duration>', 'give up after this time, 90s or 5m for example', '60s')
    .action(async (options) => exit(await wait(context, options, signal)))

  const config = program.command('config').description('the configuration')
  config
    .command('validate')
    .description('every problem of the configuration, each with its path')
    .allowExcessArguments(false)
    .addOption(configOption())
    .addOption(json())
    .action(async (options) => exit(await configValidate(context, options)))

  verb('version', 'version, Node, commit')
    .addOption(json())
    .action((options) => exit(version(context, options)))

  return program
}

function configOption(): Option {
  return new Option(
    '--config <file>',
    'configuration file (default: $HOSTCERTD_CONFIG, else /etc/hostcertd/hostcertd.yaml)',
  )
}
