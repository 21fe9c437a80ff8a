import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, statSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { ListenAddress } from '../../agent/health/listen.ts'
import { HealthServer } from '../../agent/health/server.ts'
import { RecordingLog } from '../fakes/recording-log.ts'
import { ask, open, SOURCES, started } from '../support/health-server.ts'

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'hostcertd-health-'))
  onTestFinished(() => rm(path, { recursive: true }))
  return path
}

test('a port that is taken is told, and taken once it is free', async () => {
  const other = createServer()
  onTestFinished(() => {
    other.close()
  })
  other.listen(0, '127.0.0.1')
  await once(other, 'listening')
  const { port } = other.address() as AddressInfo
  const server = new HealthServer({ kind: 'tcp', host: '127.0.0.1', port }, SOURCES, new RecordingLog())
  onTestFinished(() => server.stop())
  for (let i = 0; i < 2; i++) {
    const result = await server.start()
    expect(result.ok ? '' : result.message).toContain(`cannot listen on 127.0.0.1:${port}: `)
    expect(result.ok ? '' : result.message).toContain('EADDRINUSE')
  }
  other.close()
  await once(other, 'close')
  expect(await server.start()).toEqual({ ok: true, address: `127.0.0.1:${port}` })
  expect((await ask({ port }, '/livez')).status).toBe(200)
})

test('start and stop, twice and at once', async () => {
  const { server, port } = await started()
  expect(await server.start()).toEqual({ ok: true, address: `127.0.0.1:${port}` })
  const idle = await open(port)
  idle.resume()
  const gone = once(idle, 'close')
  await Promise.all([server.stop(), server.stop()])
  await gone
  await expect(ask({ port }, '/livez')).rejects.toThrow('ECONNREFUSED')
  const [again] = await Promise.all([server.start(), server.stop()])
  expect(again.ok).toBe(true)
  const end = await server.stop()
  expect(end).toBeUndefined()
})

test('stop does not wait for an answer that is under way', async () => {
  const asked = Promise.withResolvers<void>()
  const metricsText = (): Promise<string> => {
    asked.resolve()
    return new Promise(() => {})
  }
  const { server, port } = await started({ sources: { metricsText } })
  const answer = ask({ port }, '/metrics')
  await Promise.all([
    expect(answer).rejects.toMatchObject({ code: 'ECONNRESET' }),
    (async () => {
      await asked.promise
      await server.stop()
    })(),
  ])
})

test('none: nothing is opened', async () => {
  const server = new HealthServer({ kind: 'none' }, SOURCES, new RecordingLog())
  expect(await server.start()).toEqual({ ok: true, address: null })
  await server.stop()
})

test('a unix socket: anybody may connect, gone after stop', async () => {
  const path = join(await folder(), 'health.sock')
  const { server } = await started({ listen: { kind: 'unix', path } })
  expect(statSync(path).mode & 0o777).toBe(0o666)
  expect((await ask({ socketPath: path }, '/readyz')).status).toBe(200)
  await server.stop()
  expect(existsSync(path)).toBe(false)
})

test('the socket of a dead process is replaced', async () => {
  const path = join(await folder(), 'health.sock')
  const script = `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`
  spawnSync(process.execPath, ['--eval', script, path])
  expect(statSync(path).isSocket()).toBe(true)
  await started({ listen: { kind: 'unix', path } })
  expect((await ask({ socketPath: path }, '/readyz')).status).toBe(200)
})

test('the socket of a living process is left alone', async () => {
  const path = join(await folder(), 'health.sock')
  await started({ listen: { kind: 'unix', path } })
  const second = new HealthServer({ kind: 'unix', path }, SOURCES, new RecordingLog())
  const result = await second.start()
  expect(result.ok ? '' : result.message).toBe(
    `cannot listen on unix:${path}: another process may be listening there`,
  )
  await second.stop()
  expect((await ask({ socketPath: path }, '/readyz')).status).toBe(200)
})

test('a file in the place of the socket is left alone', async () => {
  const path = join(await folder(), 'health.sock')
  writeFileSync(path, 'precious')
  const server = new HealthServer({ kind: 'unix', path }, SOURCES, new RecordingLog())
  const result = await server.start()
  expect(result.ok ? '' : result.message).toContain('there is a file that is no socket')
  expect(statSync(path).size).toBe(8)
})

test.each<{ name: string; listen: ListenAddress }>([
  { name: 'a folder that is not there', listen: { kind: 'unix', path: '/nonexistent/health.sock' } },
  { name: 'a path too long for a socket', listen: { kind: 'unix', path: `/tmp/${'x'.repeat(200)}` } },
  { name: 'an address of another host', listen: { kind: 'tcp', host: '192.0.2.1', port: 9847 } },
  { name: 'a port out of range', listen: { kind: 'tcp', host: '127.0.0.1', port: 70_000 } },
])('$name is told, not thrown', async ({ listen }) => {
  const server = new HealthServer(listen, SOURCES, new RecordingLog())
  const result = await server.start()
  expect(result.ok ? '' : result.message).toMatch(/^cannot listen on \S+: ./)
})

test('a process that stops its server ends', () => {
  const module = new URL('../../agent/health/server.ts', import.meta.url).href
  const script = `
    import { connect } from 'node:net'
    import { once } from 'node:events'
    import { HealthServer } from ${JSON.stringify(module)}
    const server = new HealthServer({ kind: 'tcp', host: '127.0.0.1', port: 0 }, {}, {})
    const { address } = await server.start()
    const socket = connect(Number(address.split(':')[1]), '127.0.0.1')
    await once(socket, 'connect')
    socket.unref()
    await server.stop()
    console.log('stopped')`
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '--eval', script], {
    encoding: 'utf8',
    timeout: 15_000,
  })
  expect({ stdout, stderr, status }).toEqual({ stdout: 'stopped\n', stderr: '', status: 0 })
})
