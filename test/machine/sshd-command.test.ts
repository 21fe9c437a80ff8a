import { execFileSync } from 'node:child_process'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createSshd, type SshdOptions } from '../../agent/host/sshd.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

const never = new AbortController().signal
const DONE = { kind: 'done', listen: [], notes: [], reloadNeeded: false }

let folder: TemporaryFolder
/** Of the process that a test's script leaves, if it does. */
let pidFile: string
beforeEach(async () => {
  folder = await makeTemporaryFolder()
  pidFile = join(folder.path, 'pid')
})
afterEach(async () => {
  const pid = Number(await readFile(pidFile, 'utf8').catch(() => ''))
  if (pid > 1 && isAlive(pid)) process.kill(pid, 'SIGKILL')
  await folder.remove()
})

function sshdWith(options: Partial<SshdOptions>) {
  return createSshd({
    reloadCommand: null,
    helperSocket: join(folder.path, 'no-helper'),
    ...options,
  })
}

async function script(text: string): Promise<string> {
  const path = join(folder.path, 'reload')
  await writeFile(path, `#!/bin/sh\n${text}\n`)
  await chmod(path, 0o755)
  return path
}

function reloadFailed(words: string) {
  return { kind: 'failed', failure: { code: 'SSHD_RELOAD_FAILED', message: expect.stringContaining(words) } }
}

test('runs without a shell, with its arguments as they are; install is not needed', async () => {
  const out = join(folder.path, 'out')
  const program = await script(`printf '%s|' "$@" >${out}`)
  const sshd = sshdWith({ reloadCommand: [program, 'a b', '$HOME', ''] })
  expect(sshd.canReload).toBe(true)
  expect(await sshd.install(never)).toEqual(DONE)
  expect(sshd.hasHelper).toBe(false)
  expect(await sshd.installNeeded(new Map([['key', 'text']]), ['key'])).toBe(false)
  expect(await sshd.reload(never)).toEqual(DONE)
  expect(await readFile(out, 'utf8')).toBe('a b|$HOME||')
})

test.each([
  {
    name: 'a bad configuration',
    text: 'printf "line 1: bad\\n\\033[31mline 2\\n" >&2; exit 78',
    code: 'SSHD_CONFIG_INVALID',
    message: 'status 78: line 1: bad [31mline 2',
  },
  { name: 'any other status', text: 'exit 3', code: 'SSHD_RELOAD_FAILED', message: 'status 3' },
  { name: 'a signal', text: 'kill -9 $$', code: 'SSHD_RELOAD_FAILED', message: 'killed by SIGKILL' },
  {
    name: 'a flood of words',
    text: 'head -c 10000000 /dev/zero | tr "\\0" x >&2; exit 1',
    code: 'SSHD_RELOAD_FAILED',
    message: 'xxx',
  },
])('$name: $code', async ({ text, code, message }) => {
  const outcome = await sshdWith({ reloadCommand: [await script(text)] }).reload(never)
  expect(outcome).toMatchObject({ kind: 'failed', failure: { code } })
  if (outcome.kind !== 'failed') return
  expect(outcome.failure.message).toContain(message)
  expect(outcome.failure.message).not.toContain('\n')
  expect(outcome.failure.message.length).toBeLessThan(600)
})

test.each(['/no/such/program', '/etc', 'a\0b'])('%j cannot be run', async (program) => {
  const outcome = await sshdWith({ reloadCommand: [program] }).reload(never)
  expect(outcome).toMatchObject({ kind: 'failed', failure: { code: 'SSHD_RELOAD_FAILED' } })
})

test('one that hangs is stopped with what it started', async () => {
  const program = await script(`trap '' TERM; sleep 300 & echo $! >${pidFile}; wait; wait`)
  const sshd = sshdWith({ reloadCommand: [program], commandTimeoutMilliseconds: 3000 })
  const outcome = await sshd.reload(never)
  expect(outcome).toEqual(reloadFailed('did not finish within 3 s'))
  const pid = Number(await readFile(pidFile, 'utf8'))
  await expect.poll(() => isAlive(pid)).toBe(false)
})

test('one that leaves a child behind with its output is done when it ends', async () => {
  const program = await script(`sleep 300 & echo $! >${pidFile}`)
  expect(await sshdWith({ reloadCommand: [program] }).reload(never)).toEqual(DONE)
})

test('an abort ends the wait and the program', async () => {
  const program = await script(`echo $$ >${pidFile}; exec sleep 300`)
  const controller = new AbortController()
  const reload = sshdWith({ reloadCommand: [program] }).reload(controller.signal)
  await expect.poll(() => readFile(pidFile, 'utf8').catch(() => '')).not.toBe('')
  const reason = new Error('shutting down')
  controller.abort(reason)
  await expect(reload).rejects.toBe(reason)
  const pid = Number(await readFile(pidFile, 'utf8'))
  await expect.poll(() => isAlive(pid)).toBe(false)
})

/** A process that ended but was not waited for yet counts as gone: nobody here may be its parent. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(String(execFileSync('cat', [`/proc/${pid}/status`], { stdio: 'pipe' })))
  } catch {
    return false
  }
}
