import { once } from 'node:events'
import { chown, lstat, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { needsRoot } from '../support/skip.ts'
import { ED25519, makeBareHost } from './bare-host.ts'
import { hostcertd } from './hostcertd.ts'

test('without a daemon: what can be seen, mode 0644, and nothing else in the folder', async () => {
  await using host = await makeBareHost()
  await host.certify(ED25519)
  const folder = join(host.folder, 'etc')
  const before = await readdir(folder)
  const file = join(folder, 'hostcertd.prom')
  expect(await host.verb(['metrics', 'write', file])).toEqual({ status: 0, stdout: '', stderr: '' })
  const text = await readFile(file, 'utf8')
  expect(text).toMatch(/^hostcertd_build_info\{version="[^"]+",node="[^"]+"\} 1$/m)
  expect(text).toMatch(
    /^hostcertd_certificate_not_after_timestamp_seconds\{host_key="ssh_host_ed25519_key",.*\} \d+$/m,
  )
  expect(text).toContain(
    `hostcertd_certificate_state{host_key="${ED25519}",key_type="ssh-ed25519",state="valid"} 1`,
  )
  // No loop turns here.
  expect(text).not.toMatch(/^hostcertd_loop_last_turn_timestamp_seconds /m)
  expect((await stat(file)).mode & 0o777).toBe(0o644)
  expect(await readdir(folder)).toEqual([...before, 'hostcertd.prom'].sort())
})

test.each([
  {
    name: 'the daemon',
    text: '# TYPE x gauge\nhostcertd_build_info{version="9"} 1\n',
    status: 200,
    isTaken: true,
  },
  { name: 'another program', text: 'x 1\n', status: 200, isTaken: false },
  { name: 'a failing daemon', text: 'hostcertd_build_info{version="9"} 1\n', status: 500, isTaken: false },
])('with $name on the health port', async ({ text, status, isTaken }) => {
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(request.url ?? '')
    response.writeHead(status).end(text)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    const { port } = server.address() as AddressInfo
    await using host = await makeBareHost({ health: { listen: `127.0.0.1:${port}` } })
    const file = join(host.folder, 'hostcertd.prom')
    expect(await host.verb(['metrics', 'write', file])).toMatchObject({ status: 0 })
    expect(asked).toEqual(['/metrics'])
    expect((await readFile(file, 'utf8')) === text).toBe(isTaken)
  } finally {
    server.close()
  }
})

test('sshd is never connected to: this runs every minute', async () => {
  const sshd = createTcpServer((connection) => connection.destroy())
  const connected: unknown[] = []
  sshd.on('connection', (connection) => connected.push(connection.remoteAddress))
  sshd.listen(0, '127.0.0.1')
  await once(sshd, 'listening')
  try {
    const { port } = sshd.address() as AddressInfo
    await using host = await makeBareHost({ sshd: { address: `127.0.0.1:${port}`, reload: 'never' } })
    await host.certify(ED25519)
    const file = join(host.folder, 'hostcertd.prom')
    expect(await host.verb(['metrics', 'write', file])).toMatchObject({ status: 0 })
    expect(await readFile(file, 'utf8')).toContain('hostcertd_certificate_not_after_timestamp_seconds{')
    expect(connected).toEqual([])
  } finally {
    sshd.close()
  }
})

test('whether user CAs are kept', async () => {
  await using host = await makeBareHost({ user_ca: { install: true } })
  const file = join(host.folder, 'hostcertd.prom')
  expect(await host.verb(['metrics', 'write', file])).toMatchObject({ status: 0 })
  expect(await readFile(file, 'utf8')).toMatch(/^hostcertd_user_ca_enabled 1$/m)
})

test('what lies in its place is replaced, a symlink not followed', async () => {
  await using host = await makeBareHost()
  const target = join(host.folder, 'target')
  const file = join(host.folder, 'hostcertd.prom')
  await writeFile(target, 'untouched')
  await symlink(target, file)
  expect(await host.verb(['metrics', 'write', file])).toMatchObject({ status: 0 })
  expect((await lstat(file)).isFile()).toBe(true)
  expect(await readFile(target, 'utf8')).toBe('untouched')
})

test('not enrolled: a file all the same, with nothing but the build', async () => {
  await using host = await makeBareHost()
  const file = join(host.folder, 'hostcertd.prom')
  const result = await hostcertd(['metrics', 'write', file, '--config', join(host.folder, 'none.yaml')])
  expect(result).toEqual({ status: 0, stdout: '', stderr: '' })
  expect(await readFile(file, 'utf8')).toMatch(/^hostcertd_build_info\{/m)
})

test('a folder that is not there', async () => {
  await using host = await makeBareHost()
  const { status, stderr } = await host.verb(['metrics', 'write', join(host.folder, 'nowhere', 'x.prom')])
  expect(status).toBe(1)
  expect(stderr).toMatch(/^cannot write .*\/nowhere\/x\.prom: no such file or directory \(ENOENT\)\n$/)
})

test('run as root: written by the owner of the state directory', needsRoot, async () => {
  await using host = await makeBareHost()
  await chown(host.statePath, 65_534, 65_534)
  const file = join(host.statePath, 'hostcertd.prom')
  expect(await host.verb(['metrics', 'write', file])).toMatchObject({ status: 0 })
  expect(await stat(file)).toMatchObject({ uid: 65_534 })
  const elsewhere = await host.verb(['metrics', 'write', join(host.folder, 'hostcertd.prom')])
  expect(elsewhere.status).toBe(1)
  expect(elsewhere.stderr).toContain('must be writable by the owner of state_directory')
})
