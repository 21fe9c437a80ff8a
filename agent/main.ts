#!/usr/bin/env node
import { stat } from 'node:fs/promises'
import { stderr, stdout } from 'node:process'
import { Daemon } from './cli/daemon.ts'
import type { CliContext } from './cli/context.ts'
import { runProgram } from './cli/program.ts'
import { composeDaemon, composeHost, NO_METRICS } from './compose.ts'
import { createLog } from './log.ts'
import { versionInfo } from './version.ts'

/** After a signal to end the program has this long, whatever hangs. */
const END_MILLISECONDS = 9_500
const DEFAULT_COLUMNS = 80

const version = versionInfo()
const { env: environment } = process

const context: CliContext = {
  version,
  environment,
  out: (text) => void stdout.write(text),
  err: (text) => void stderr.write(`${text}\n`),
  terminal: {
    colour: stdout.isTTY && (environment['NO_COLOR'] ?? '') === '',
    columns: stdout.isTTY ? stdout.columns : DEFAULT_COLUMNS,
  },
  log: (config) => createLog({ level: 'warn', format: 'pretty', ...config?.log, version: version.version }),
  composeHost: (config, log) => composeHost(config, version, log, NO_METRICS),
  createDaemon: (config, load) => {
    const daemon = new Daemon(composeDaemon(config, version), load)
    process.on('SIGHUP', () => daemon.reload())
    process.on('SIGUSR1', () => daemon.lookNow())
    return daemon
  },
  becomeOwnerOf,
}

/** Root has no business in what the daemon owns: files made by it would lock the daemon out. */
async function becomeOwnerOf(folder: string): Promise<void> {
  if (process.geteuid?.() !== 0) return
  let owner: { uid: number; gid: number }
  try {
    owner = await stat(folder)
  } catch {
    return
  }
  if (owner.uid === 0) return
  process.setgroups?.([owner.gid])
  process.setgid?.(owner.gid)
  process.setuid?.(owner.uid)
}

const isDaemon = process.argv[2] === 'run'
const end = new AbortController()
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.on(signal, () => {
    end.abort(new Error(`ended by ${signal}`))
    setTimeout(() => process.exit(isDaemon ? 0 : 1), END_MILLISECONDS).unref()
  })
}
// A pipe that nobody reads any more, `hostcertd status | head -1` say, is no failure.
stdout.on('error', () => {})
stderr.on('error', () => {})

try {
  process.exitCode = await runProgram(process.argv.slice(2), context, end.signal)
} catch (error) {
  if (!end.signal.aborted) throw error
  process.exitCode = 1
}
