import { execFile, spawn } from 'node:child_process'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { needsRoot } from '../support/skip.ts'
import { FailingRenewals, flood, Port } from './failing-renewals.ts'

const run = promisify(execFile)

const drip = (socket: Socket, text: string): void => {
  const timer = setInterval(() => void socket.write(text), 50)
  socket.once('close', () => clearInterval(timer))
}

const OK = 'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n'
const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024, 0x20))

/** What a server does with each connection, from its first byte on. */
const MISBEHAVIOURS: readonly (readonly [name: string, code: string, answer: (socket: Socket) => void])[] = [
  ['accepts the connection and sends nothing', 'ISSUER_TIMEOUT', () => {}],
  ['closes the connection at once', 'ISSUER_UNREACHABLE', (socket) => void socket.end()],
  ['resets the connection', 'ISSUER_UNREACHABLE', (socket) => void socket.resetAndDestroy()],
  [
    'is not an HTTP server',
    'ISSUER_INVALID_RESPONSE',
    (socket) => void socket.end('SSH-2.0-OpenSSH_9.2p1\r\n'),
  ],
  [
    'closes the connection inside the status line',
    'ISSUER_UNREACHABLE',
    (socket) => void socket.end('HTTP/1.1 2'),
  ],
  [
    'closes the connection inside the headers',
    'ISSUER_UNREACHABLE',
    (socket) => void socket.end(`${OK}content-le`),
  ],
  [
    'closes the connection inside the body',
    'ISSUER_UNREACHABLE',
    (socket) => void socket.end(`${OK}content-length: 100\r\n\r\n{"a`),
  ],
  [
    'sends headers slowly, without end',
    'ISSUER_TIMEOUT',
    (socket) => (socket.write(OK), drip(socket, 'x-a: b\r\n')),
  ],
  [
    'sends headers fast, without end',
    'ISSUER_INVALID_RESPONSE',
    (socket) => (socket.write(OK), flood(socket, `x-a: ${'b'.repeat(8000)}\r\n`)),
  ],
  [
    'sends a body slowly',
    'ISSUER_TIMEOUT',
    (socket) => (socket.write(`${OK}content-length: 100000\r\n\r\n`), drip(socket, ' ')),
  ],
  [
    'sends a body without end',
    'ISSUER_INVALID_RESPONSE',
    (socket) => (socket.write(`${OK}\r\n`), flood(socket, ' '.repeat(65_536))),
  ],
  [
    'sends chunks without end',
    'ISSUER_INVALID_RESPONSE',
    (socket) => (
      socket.write(`${OK}transfer-encoding: chunked\r\n\r\n`),
      flood(socket, `4000\r\n${' '.repeat(0x4000)}\r\n`)
    ),
  ],
  [
    'sends an invalid chunk',
    'ISSUER_INVALID_RESPONSE',
    (socket) => void socket.end(`${OK}transfer-encoding: chunked\r\n\r\nzz\r\n`),
  ],
  ['sends 102 without end', 'ISSUER_TIMEOUT', (socket) => flood(socket, 'HTTP/1.1 102 Processing\r\n\r\n')],
  [
    'sends two different Content-Length headers',
    'ISSUER_UNREACHABLE',
    (socket) => void socket.end(`${OK}content-length: 2\r\ncontent-length: 50\r\n\r\n{}`),
  ],
  [
    'sends both Content-Length and chunks',
    'ISSUER_UNREACHABLE',
    (socket) => void socket.end(`${OK}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`),
  ],
  [
    'sends a gzip bomb',
    'ISSUER_INVALID_RESPONSE',
    (socket) =>
      void socket.end(
        Buffer.concat([
          Buffer.from(`${OK}content-encoding: gzip\r\ncontent-length: ${bomb.length}\r\n\r\n`),
          bomb,
        ]),
      ),
  ],
  [
    'redirects to itself',
    'ISSUER_INVALID_RESPONSE',
    (socket) => void socket.end('HTTP/1.1 307 x\r\nlocation: /\r\ncontent-length: 0\r\n\r\n'),
  ],
  [
    'sends a login page',
    'ISSUER_INVALID_RESPONSE',
    (socket) =>
      void socket.end('HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>please log in</html>'),
  ],
  [
    'sends deeply nested JSON',
    'ISSUER_INVALID_RESPONSE',
    (socket) => void socket.end(`${OK}\r\n${'['.repeat(200_000)}`),
  ],
]

test('servers that misbehave', async () => {
  await using renewals = await FailingRenewals.start()
  for (const [name, code, answer] of MISBEHAVIOURS) {
    await using port = await Port.answering(answer)
    await renewals.attempt({ name, code, config: { issuer: { url: `http://127.0.0.1:${port.number}` } } })
  }
  await renewals.report('servers that misbehave')
  expect(renewals.flaws).toEqual([])
})

/** How many of the server's first bytes on a connection arrive; the rest of them, and the end, never do. */
type Arriving = (first: string) => number

const HANGS: readonly (readonly [stage: string, https: boolean, arriving: Arriving])[] = [
  ['before the TLS handshake', true, () => 0],
  ['inside the TLS handshake', true, () => 100],
  ['after the request', false, () => 0],
  ['inside the headers', false, () => 30],
  ['inside the body', false, (first) => first.indexOf('\r\n\r\n') + 10],
]

/** Passes on everything, but of one connection only the first of the server's bytes. */
async function hangingRelay(to: number, hangsAt: number, arriving: Arriving): Promise<Port> {
  let connections = 0
  const server = createServer((client) => {
    connections += 1
    const upstream = connect(to, '127.0.0.1').on('error', () => {})
    client.pipe(upstream)
    client.once('close', () => upstream.destroy())
    if (connections !== hangsAt) upstream.pipe(client)
    else
      upstream.once('data', (bytes: Buffer) => {
        client.write(bytes.subarray(0, arriving(bytes.toString('latin1'))))
        upstream.resume()
      })
  })
  return Port.of(server)
}

test.each([false, true])('connections that hang at each stage, with TLS: %s', async (https) => {
  await using renewals = await FailingRenewals.start({ https })
  const stages = HANGS.filter((row) => row[1] === https)
  for (const [stage, , arriving] of stages) {
    for (const [index, route] of ['login', 'issuing'].entries()) {
      await using port = await hangingRelay(renewals.world.issuer.port, index + 1, arriving)
      const url = `${https ? 'https' : 'http'}://127.0.0.1:${port.number}`
      await renewals.attempt({
        name: `${stage} of the ${route}`,
        code: 'ISSUER_TIMEOUT',
        config: { issuer: { url } },
      })
    }
  }
  await renewals.report(
    `connections that hang ${stages.map(([stage]) => stage).join(', ')}, of the login and of the issuing`,
  )
  expect(renewals.flaws).toEqual([])
})

/** A network namespace without answers: packets leave for a neighbour that is not there. */
async function silentNetwork(name: string): Promise<AsyncDisposable> {
  const etc = `/etc/netns/${name}`
  const dispose = async (): Promise<void> => {
    await run('ip', ['netns', 'delete', name]).catch(() => {})
    await rm(etc, { recursive: true, force: true })
  }
  const nameServers = ['192.0.2.1', '192.0.2.2', '192.0.2.3'].map((at) => `nameserver ${at}\n`)
  await mkdir(etc, { recursive: true })
  await writeFile(join(etc, 'resolv.conf'), nameServers.join(''))
  // The one name that may be asked without TLS.
  await writeFile(join(etc, 'hosts'), '2001:db8::9 localhost\n192.0.2.9 localhost\n127.0.0.1 localhost\n')
  try {
    await run('ip', ['netns', 'add', name])
    const commands = [
      'link set lo up',
      'link add hole type veth peer name gone',
      'link set gone up',
      'link set hole up',
      'address add 10.99.0.1/24 dev hole',
      'neighbour add 10.99.0.2 lladdr 02:00:00:00:00:02 dev hole nud permanent',
      'route add default via 10.99.0.2',
      '-6 address add 2001:db8:1::1/64 dev hole nodad',
      '-6 neighbour add 2001:db8:1::2 lladdr 02:00:00:00:00:02 dev hole nud permanent',
      '-6 route add default via 2001:db8:1::2',
    ]
    for (const command of commands) await run('ip', ['-n', name, ...command.split(' ')])
  } catch (error) {
    await dispose()
    throw error
  }
  return { [Symbol.asyncDispose]: dispose }
}

/** In a namespace, passes connections to 127.0.0.1 on to a socket that is a file. */
const RELAY = `
const { connect, createServer } = require('node:net')
createServer((client) => {
  const upstream = connect(process.argv[1])
  client.on('error', () => {}).pipe(upstream).on('error', () => {}).pipe(client)
}).listen(0, '127.0.0.1', function () { console.log(this.address().port) })
`

/** A port of 127.0.0.1 in a namespace that leads to a port of ours. */
async function portInside(
  namespace: readonly [string, ...string[]],
  folder: string,
  to: number,
): Promise<AsyncDisposable & { number: number }> {
  const path = join(folder, 'relay.sock')
  const outside = createServer((socket) => {
    socket
      .on('error', () => {})
      .pipe(connect(to, '127.0.0.1').on('error', () => {}))
      .pipe(socket)
  })
  await new Promise<void>((resolve) => outside.listen(path, resolve))
  const [program, ...args] = [...namespace, process.execPath, '-e', RELAY, path]
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const dispose = async (): Promise<void> => {
    child.kill()
    await new Promise((resolve) => outside.close(resolve))
  }
  for await (const line of createInterface({ input: child.stdout })) {
    return { number: Number(line), [Symbol.asyncDispose]: dispose }
  }
  await dispose()
  throw new Error('the relay did not start')
}

test('a network without answers', needsRoot, async () => {
  await using renewals = await FailingRenewals.start()
  const name = `hostcertd${process.pid}net`
  await using _network = await silentNetwork(name)
  const wrapper = ['ip', 'netns', 'exec', name] as const
  const sshd = { address: 'none' }
  for (const [fault, url] of [
    ['name servers that never answer', 'https://issuer.example.com'],
    ['an IPv4 address that never answers', 'https://192.0.2.9'],
    ['an IPv6 address that never answers', 'https://[2001:db8::9]'],
  ] as const)
    await renewals.attempt({
      name: fault,
      code: 'ISSUER_TIMEOUT',
      config: { issuer: { url }, sshd },
      wrapper,
    })
  const { issuer, folder } = renewals.world
  await using port = await portInside(wrapper, folder, issuer.port)
  await renewals.attempt({
    name: 'a name with three addresses, of which one answers',
    code: null,
    config: { issuer: { url: `http://localhost:${port.number}` }, sshd },
    wrapper,
  })
  await renewals.report(
    'name servers and addresses that never answer; an IPv6 and an IPv4 address before the one that does',
  )
  expect(renewals.flaws).toEqual([])
})
