import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createServiceManager } from '../../agent/host/systemd.ts'
import { RecordingLog } from '../fakes/recording-log.ts'
import { runsIf } from '../support/skip.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

let folder: TemporaryFolder
let log: RecordingLog
beforeEach(async () => {
  folder = await makeTemporaryFolder()
  log = new RecordingLog()
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await folder.remove()
})

describe('the program systemd-notify', () => {
  let calls: string

  /** Stands in for the real one, which a small machine may lack, and writes down its arguments. */
  async function standIn(text = ''): Promise<void> {
    calls = join(folder.path, 'calls')
    const program = join(folder.path, 'systemd-notify')
    await writeFile(program, `#!/bin/sh\n${text}\nprintf '%s|' "$@" >>${calls}\necho >>${calls}\n`)
    await chmod(program, 0o755)
    vi.stubEnv('PATH', `${folder.path}:${process.env['PATH']}`)
    vi.stubEnv('NOTIFY_SOCKET', '/run/no/such/socket')
  }

  async function called(): Promise<string[]> {
    return (await readFile(calls, 'utf8').catch(() => '')).split('\n').slice(0, -1)
  }

  test('gets every message, in the order of the calls, also when nobody waits', async () => {
    // The first is the slowest, so that order does not come by itself.
    await standIn('case "$1" in --ready) sleep 0.2 ;; esac')
    const manager = createServiceManager({ log })
    const before = process.hrtime.bigint() / 1000n
    void manager.ready('2 certificates\nSTOPPING=1')
    void manager.watchdog()
    void manager.reloading()
    void manager.status('all is well')
    await manager.stopping()
    const after = process.hrtime.bigint() / 1000n
    const lines = await called()
    expect(lines).toEqual([
      `--ready|--pid=${process.pid}|--status=2 certificates STOPPING=1|`,
      'WATCHDOG=1|',
      expect.stringMatching(/^RELOADING=1\|MONOTONIC_USEC=\d+\|$/),
      `--pid=${process.pid}|--status=all is well|`,
      'STOPPING=1|',
    ])
    const microseconds = BigInt(/USEC=(\d+)/.exec(lines[2] ?? '')?.[1] ?? 0)
    expect(microseconds >= before && microseconds <= after).toBe(true)
    expect(log.lines).toEqual([])
  })

  test('hears a status only when it changed, and READY always', async () => {
    await standIn()
    const manager = createServiceManager({ log })
    await manager.ready('one')
    await manager.status('one')
    await manager.status('two')
    await manager.status('two')
    await manager.ready('two')
    const statuses = (await called()).map((line) => line.replaceAll(`--pid=${process.pid}|`, ''))
    expect(statuses).toEqual(['--ready|--status=one|', '--status=two|', '--ready|--status=two|'])
  })

  test('may fail: it is logged once, for debugging, and a status is sent again', async () => {
    await standIn('exit 1')
    const manager = createServiceManager({ log })
    await manager.ready('one')
    await manager.watchdog()
    await manager.status('one')
    expect(log.lines.map(({ level }) => level)).toEqual(['debug'])
    await standIn()
    await manager.status('one')
    expect(await called()).toHaveLength(1)
  })

  test('may be missing', async () => {
    vi.stubEnv('PATH', folder.path)
    vi.stubEnv('NOTIFY_SOCKET', '/run/no/such/socket')
    const manager = createServiceManager({ log })
    await manager.watchdog()
    await manager.status('one')
    expect(log.messages('debug')).toEqual([expect.stringContaining('systemd-notify')])
  })

  test('may hang: each message is given up after a time', async () => {
    await standIn('sleep 2')
    const manager = createServiceManager({ log, timeoutMilliseconds: 100 })
    const start = performance.now()
    await Promise.all([manager.watchdog(), manager.status('one')])
    expect(performance.now() - start).toBeLessThan(1900)
    expect(log.messages('debug')).toHaveLength(1)
  })

  test('is not run without NOTIFY_SOCKET', async () => {
    await standIn()
    vi.stubEnv('NOTIFY_SOCKET', undefined)
    vi.stubEnv('WATCHDOG_USEC', '30000000')
    const manager = createServiceManager({ log })
    await Promise.all([manager.ready('a'), manager.status('b'), manager.watchdog()])
    await Promise.all([manager.reloading(), manager.stopping()])
    expect(await called()).toEqual([])
    expect(manager.watchdogSeconds).toBeNull()
    expect(log.lines).toEqual([])
  })
})

test.each([
  { usec: undefined, pid: undefined, want: null },
  { usec: '300000000', pid: undefined, want: 300 },
  { usec: '500000', pid: String(process.pid), want: 0.5 },
  { usec: '300000000', pid: '1', want: null },
  { usec: '0', pid: undefined, want: null },
  { usec: 'soon', pid: undefined, want: null },
])('WATCHDOG_USEC=$usec WATCHDOG_PID=$pid: $want s', ({ usec, pid, want }) => {
  vi.stubEnv('NOTIFY_SOCKET', '/run/systemd/notify')
  vi.stubEnv('WATCHDOG_USEC', usec)
  vi.stubEnv('WATCHDOG_PID', pid)
  expect(createServiceManager({ log }).watchdogSeconds).toBe(want)
})

/** Node has no datagram sockets of AF_UNIX, so another language receives. */
const RECEIVER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('bound', flush=True)
while True:
    print(s.recv(4096).decode().replace('\\n', ' '), flush=True)
`

function runs(program: string, ...args: string[]): boolean {
  return spawnSync(program, args, { stdio: 'ignore' }).status === 0
}

describe(
  'a real socket',
  runsIf(
    runs('systemd-notify', '--version') && runs('python3', '--version'),
    'systemd-notify or python3 is missing',
  ),
  () => {
    let receiver: ChildProcess | null = null
    afterEach(() => {
      receiver?.kill('SIGKILL')
    })

    test('receives each message in order', async () => {
      const socket = join(folder.path, 'notify')
      const python = String(execFileSync('python3', ['-c', 'import sys; print(sys.executable)'])).trim()
      const child = spawn(python, ['-c', RECEIVER, socket], { stdio: ['ignore', 'pipe', 'inherit'] })
      receiver = child
      const lines: string[] = []
      const reader = createInterface({ input: child.stdout })
      // After each message the program asks for a sign that it was read; our receiver gives it by closing a file.
      reader.on('line', (line) => line.startsWith('BARRIER=1') || lines.push(line))
      await once(reader, 'line')
      vi.stubEnv('NOTIFY_SOCKET', socket)
      const manager = createServiceManager({ log })
      await manager.ready('2 certificates')
      await manager.watchdog()
      await manager.reloading()
      await manager.stopping()
      await expect.poll(() => lines.length).toBe(5)
      expect(lines[1]).toContain('READY=1')
      expect(lines[1]).toContain('STATUS=2 certificates')
      expect(lines[1]).toContain(`MAINPID=${process.pid}`)
      expect(lines[2]).toContain('WATCHDOG=1')
      expect(lines[3]).toMatch(/RELOADING=1 MONOTONIC_USEC=\d+/)
      expect(lines[4]).toContain('STOPPING=1')
      for (const line of lines.slice(2)) expect(line).not.toContain('MAINPID')
      expect(log.lines).toEqual([])
    })
  },
)
