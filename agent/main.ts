#!/usr/bin/env node
// First of all: it listens from then on. By itself, for the formatter leaves such an import where it is.
import './signals.ts'
import { existsSync } from 'node:fs'
import { stderr, stdout } from 'node:process'
import { messageOf } from './cert/errors.ts'
import { escapeControls } from './cert/text.ts'
import type { CliContext } from './cli/context.ts'
import { statusIn } from './cli/daemon-client.ts'
import { Daemon } from './cli/daemon.ts'
import { runProgram } from './cli/program.ts'
import { createUntilServed } from './cli/wait.ts'
import { composeDaemon, composeHost, daemonLog, NO_METRICS, verbLog, verbLogSettings } from './compose.ts'
import type { Config, HttpIssuerConfig } from './config/config.ts'
import type { ToolsOptions } from './enroll/tools.ts'
import { isSocket } from './host/files.ts'
import { dropPrivileges, systemClock } from './host/machine.ts'
import { runProgram as runCommand } from './host/programs.ts'
import { makeRevocationList } from './host/revocation-list.ts'
import { lastUserCaSuccess } from './host/user-ca-status.ts'
import { EXCHANGE_SOCKET, type ExchangeWay, isForExchange } from './issuer/exchange-channel.ts'
import { createExchangeClient, type ExchangeClient } from './issuer/exchange-client.ts'
import type { StatusDocument } from './renewal/status-document.ts'
import { hearSignals } from './signals.ts'
import { versionInfo } from './version.ts'

/** After a signal to end the program has this long, whatever hangs. */
const END_MILLISECONDS = 9_500
/** Of the ten seconds that a shutdown may take longer. */
const POWER_OFF_MILLISECONDS = 7_000
/** For sshd to be asked about every host key. */
const STATUS_MILLISECONDS = 60_000
const MOST_STATUS_BYTES = 4 * 1024 * 1024
/** Of the service. */
const STATE_FOLDER = '/var/lib/hostcertd'
/** Of a terminal that does not say. */
const USUAL_COLUMNS = 80

const version = versionInfo()
const { env: environment } = process
/** Set by hostcertd.service, whose sandbox no child could run in. */
const unitSocket = environment['HOSTCERTD_EXCHANGE_SOCKET'] ?? null
const ownProgram = [process.execPath, ...process.execArgv.filter(isForExchange), process.argv[1] ?? '']
const exchange: ExchangeWay = {
  program: [...ownProgram, 'exchange'],
  // The unit behind the socket uses the configuration of the host, and no other.
  socket: unitSocket ?? (hasOwnConfiguration(process.argv) ? null : EXCHANGE_SOCKET),
  mayBeChild: unitSocket === null,
}

/** Whether a configuration is named on the command line or in the environment. */
function hasOwnConfiguration([, , , ...options]: readonly string[]): boolean {
  if (options.some((option) => /^--config(?:=|$)/.test(option))) return true
  return (environment['HOSTCERTD_CONFIG'] ?? '') !== ''
}

const context: CliContext = {
  version,
  environment,
  out: (text) => void stdout.write(text),
  err: (text) => void stderr.write(`${text.split('\n').map(escapeControls).join('\n')}\n`),
  terminal: {
    colour: stdout.isTTY && (environment['NO_COLOR'] ?? '') === '',
    columns: stdout.isTTY ? stdout.columns || USUAL_COLUMNS : Infinity,
  },
  composeHost: (config) => composeHost(config, verbLog(config, version), NO_METRICS, exchange),
  composeIssuer: (config) => {
    const isUnit = exchange.socket !== null && isSocket(exchange.socket)
    const program = [...exchange.program, '--as-owner-of', config.stateDirectory]
    const ports = { clock: systemClock, metrics: NO_METRICS }
    // A verb is for people, and its messages are its own.
    const settings = { ...config, log: verbLogSettings(config) }
    const issuer = createExchangeClient({ ...exchange, program, settings, ...ports })
    if (!isUnit && process.geteuid?.() === 0) issuer.start()
    return issuer
  },
  enrollTools: async (mode, signal) => {
    const { openTools } = await import('./enroll/tools.ts')
    return openTools(await toolsOptions(), mode, signal)
  },
  issuerTools: async () => {
    const { hostTools } = await import('./enroll/tools.ts')
    return hostTools(await toolsOptions())
  },
  makeRevocationList,
  refreshCas: async (configFile, load, isNow, signal) => {
    const { reloadConfiguredSshd } = await import('./enroll/reload.ts')
    const { openFinishedJournal } = await import('./enroll/tools.ts')
    const { refreshCas } = await import('./enroll/ca-refresh.ts')
    await using _lock = await openFinishedJournal(signal)
    const config = await load()
    // Never as a child, which would be root.
    const way = { ...exchange, socket: unitSocket ?? EXCHANGE_SOCKET, mayBeChild: false }
    const ports = { clock: systemClock, metrics: NO_METRICS }
    const source = createExchangeClient({ ...way, settings: config, ...ports })
    const reloadSshd = async (until: AbortSignal) => reloadConfiguredSshd(until, configFile)
    const tools = { clock: systemClock, log: daemonLog(config, version), source, reloadSshd }
    try {
      return await refreshCas(config, tools, isNow, signal)
    } finally {
      source.end()
    }
  },
  lastUserCaSuccess,
  exchangeProgram: exchange.program,
  createDaemon: (config, load) => {
    const daemon = new Daemon(composeDaemon(config, version, exchange), load)
    hearSignals((signal) => (signal === 'SIGHUP' ? daemon.reload() : daemon.startPass()))
    return daemon
  },
  daemonLog: () => daemonLog(null, version),
  sleep: async (milliseconds, signal) => systemClock.sleep(milliseconds, signal),
  dropPrivileges,
}

async function toolsOptions(): Promise<ToolsOptions> {
  const { personAt } = await import('./enroll/show.ts')
  const person = personAt({
    input: process.stdin,
    output: stderr,
    colour: stderr.isTTY && (environment['NO_COLOR'] ?? '') === '',
    print: context.err,
  })
  const log = { level: 'warn', format: 'pretty' } as const
  // It works on the configuration of the host only, so the unit's exchange does, however that file is named. Where there
  // is no unit, the child becomes the owner of the state.
  const way = {
    ...exchange,
    program: existsSync(STATE_FOLDER)
      ? [...exchange.program, '--as-owner-of', STATE_FOLDER]
      : exchange.program,
    socket: unitSocket ?? EXCHANGE_SOCKET,
    metrics: NO_METRICS,
  }
  return {
    ...way,
    version: version.version,
    environment,
    person,
    log,
    untilServed: createUntilServed(statusByVerb),
  }
}

/** By a child, which becomes the owner of the state first: root reads none of it. */
async function statusByVerb(signal: AbortSignal): Promise<StatusDocument | null> {
  const limits = { timeoutMilliseconds: STATUS_MILLISECONDS, outputBytes: MOST_STATUS_BYTES, signal }
  const { stdout: printed } = await runCommand([...ownProgram, 'status', '--json'], limits)
  return statusIn(printed)
}

// They undo what they did, which may take a while.
const LONG_VERBS: readonly (string | undefined)[] = ['enroll', 'unenroll']
// Verbs that only look have nothing to bring to an end, and are ended by the signal itself.
const VERBS_THAT_END_CLEANLY: readonly (string | undefined)[] = [
  'run',
  'renew',
  'needs-renewal',
  'wait',
  'ca',
  ...LONG_VERBS,
]
const end = new AbortController()
if (VERBS_THAT_END_CLEANLY.includes(process.argv[2])) {
  // What a terminal that is closed sends would end a long verb half-way.
  const signals = LONG_VERBS.includes(process.argv[2]) ? ['SIGHUP'] : []
  for (const signal of ['SIGTERM', 'SIGINT', ...signals]) {
    process.on(signal, () => {
      end.abort(new Error(`ended by ${signal}`))
      if (LONG_VERBS.includes(process.argv[2])) return
      setTimeout(() => process.exit(process.argv[2] === 'run' ? 0 : 1), END_MILLISECONDS).unref()
    })
  }
}
// A pipe that nobody reads any more, `hostcertd status | head -1` say, is no failure; a full disk is.
stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') process.exitCode = 1
})
stderr.on('error', () => {})

async function main(): Promise<void> {
  const [, , verb] = process.argv
  // Said by the daemon alone, and in no help.
  if (verb === 'exchange') {
    const { runExchange } = await import('./exchange.ts')
    await runExchange(version, process.argv.slice(3))
  }
  // Run by hostcertd-ephemeral.service alone, and in no help.
  if (verb === 'power-off') {
    const { deleteAtPowerOff } = await import('./enroll/ephemeral.ts')
    const limit = AbortSignal.timeout(POWER_OFF_MILLISECONDS)
    const openExchange = (issuer: HttpIssuerConfig, log: Config['log']): ExchangeClient => {
      const way = { ...exchange, socket: null, mayBeChild: true }
      return createExchangeClient({
        ...way,
        settings: { issuer, log },
        clock: systemClock,
        metrics: NO_METRICS,
      })
    }
    const options = { environment, report: context.err, openExchange }
    const isDone = await deleteAtPowerOff(options, limit).catch((error: unknown) => {
      const why = limit.aborted ? `no answer within ${POWER_OFF_MILLISECONDS / 1000} s` : messageOf(error)
      context.err(`this host stays at the issuer: ${why}`)
      return false
    })
    process.exit(isDone ? 0 : 1)
  }
  // Not exit(): what was written to a pipe may still be on its way.
  const status = await runProgram(process.argv.slice(2), context, end.signal)
  process.exitCode ||= status
}

void main()
