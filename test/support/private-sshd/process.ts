import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, rm, stat } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { SSHD, type SshdPaths } from './configuration.ts'

/** Where sshd as root puts its unprivileged half; it does not start without. */
const PRIVILEGE_SEPARATION_FOLDER = '/run/sshd'
const START_MILLISECONDS = 20_000
const STOP_MILLISECONDS = 5_000

/** A port of 127.0.0.1 that was free just now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const closed = once(server, 'close')
  server.close()
  await closed
  return port
}

/** Make what sshd needs to run as root, and say so; nothing for an ordinary user. */
export async function makePrivilegeSeparationFolder(): Promise<void> {
  if (process.getuid?.() !== 0) return
  const made = await mkdir(PRIVILEGE_SEPARATION_FOLDER, { recursive: true, mode: 0o755 })
  if (made !== undefined) console.error(`made ${made}, which sshd needs to run as root`)
}

/**
 * Start a listener in the foreground, as a child of this process that ends with it, and wait until it listens.
 *
 * @throws with sshd's log when it ends at once or does not listen in time
 */
export async function startListener(paths: SshdPaths): Promise<ChildProcess> {
  const before = (await readLog(paths)).length
  const child = spawn(SSHD, ['-D', '-f', paths.config, '-E', paths.log], { stdio: 'ignore' })
  const kill = () => child.kill('SIGTERM')
  process.once('exit', kill)
  child.once('exit', () => process.off('exit', kill))
  const deadline = Date.now() + START_MILLISECONDS
  for (;;) {
    const log = (await readLog(paths)).slice(before)
    // The pid file comes after the port, and a reload needs it.
    if (/Server listening on/.test(log) && (await exists(paths.pid))) return child
    if (!isRunning(child)) throw new Error(`sshd ended at once:\n${log}`)
    if (Date.now() > deadline) {
      await stopListener(child, paths)
      throw new Error(`sshd did not listen in ${START_MILLISECONDS / 1000} s:\n${log}`)
    }
    await sleep(10)
  }
}

/** End a listener that {@link startListener} started, by force when it does not go. */
export async function stopListener(child: ChildProcess, paths: SshdPaths): Promise<void> {
  if (isRunning(child)) {
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    const force = setTimeout(() => child.kill('SIGKILL'), STOP_MILLISECONDS)
    await ended
    clearTimeout(force)
  }
  // A process number left behind may be another process's by the next reload.
  await rm(paths.pid, { force: true })
}

export function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null
}

export async function readLog(paths: SshdPaths): Promise<string> {
  return (await exists(paths.log)) ? await readFile(paths.log, 'utf8') : ''
}

async function exists(path: string): Promise<boolean> {
  try {
    return (await stat(path)).size > 0
  } catch {
    return false
  }
}
