import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { ED25519, makeBareHost, SSH_HOST_ID } from './bare-host.ts'
import { environmentWith, exitOf, PROGRAM } from './hostcertd.ts'

const run = promisify(execFile)

test.concurrent('a reader that is gone is no failure', async () => {
  await using host = await makeBareHost()
  await host.certify(ED25519)
  // `true` reads nothing and is gone long before there is something to write.
  const script = '"$0" "$@" | true; echo "${PIPESTATUS[0]}"'
  const { stdout, stderr } = await run(
    'bash',
    ['--norc', '-c', script, process.execPath, PROGRAM, 'status', '--json', '--config', host.configPath],
    { env: environmentWith({}) },
  )
  expect({ stdout, stderr }).toEqual({ stdout: '0\n', stderr: '' })
})

describe.concurrent('on a terminal', () => {
  test.each([
    { name: 'colour', environment: {}, coloured: true },
    { name: 'none with NO_COLOR', environment: { NO_COLOR: '1' }, coloured: false },
    { name: 'an empty NO_COLOR says nothing', environment: { NO_COLOR: '' }, coloured: true },
  ])('$name', async ({ environment, coloured }) => {
    await using host = await makeBareHost()
    await host.certify(ED25519)
    const command = [process.execPath, PROGRAM, 'status', '--config', host.configPath].join(' ')
    // script(1) gives it a terminal.
    const { stdout } = await run('script', ['-qec', command, '/dev/null'], {
      env: environmentWith({ ...environment, TERM: 'xterm' }),
    })
    expect(stdout).toContain('ssh_host_ed25519_key')
    expect(stdout.includes('\u001B[32mvalid')).toBe(coloured)
  })
})

describe.concurrent('signals', () => {
  test.each([
    { verb: 'wait', signal: 'SIGINT', status: 1 },
    { verb: 'wait', signal: 'SIGTERM', status: 1 },
    { verb: 'renew', signal: 'SIGINT', status: 1 },
    { verb: 'run', signal: 'SIGINT', status: 0 },
    { verb: 'run', signal: 'SIGTERM', status: 0 },
  ] as const)('$signal ends $verb with $status', async ({ verb, signal, status }) => {
    // Issuer and daemon in one: accepts, and never answers.
    const silent = createServer().listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const { port } = silent.address() as AddressInfo
    await using host = await makeBareHost({
      issuer: { url: `http://127.0.0.1:${port}`, ssh_host_id: SSH_HOST_ID },
      health: { listen: verb === 'run' ? 'none' : `127.0.0.1:${port}` },
    })
    const child = spawn(process.execPath, [PROGRAM, verb, '--config', host.configPath], {
      env: environmentWith({}),
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    try {
      const told = text(child.stderr)
      await once(silent, 'connection')
      child.kill(signal)
      expect(await exitOf(child)).toBe(status)
      expect((await told).includes(`ended by ${signal}\n`)).toBe(verb !== 'run')
    } finally {
      child.kill('SIGKILL')
      silent.close()
    }
  })
})
