import { execFile } from 'node:child_process'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { certificateOnDisk, isServed } from '../support/looks.ts'
import { needsRoot } from '../support/skip.ts'
import { makeWorld, type World } from '../support/world.ts'
import { measuredVerb } from './injection.ts'
import { report } from './rows.ts'

const run = promisify(execFile)
const TIMEOUT_SECONDS = 2
/** Node's own start and end, on a busy machine, beside the time limits of hostcertd. */
const SPARE_SECONDS = 8
/** A bare exchange takes 70 to 80 MiB for a moment. */
const MOST_MIB = 200

/** Sends until the other side has gone, and waits while it does not read. */
function flood(socket: Socket, text: string | Buffer): void {
  const send = (): void => {
    while (!socket.destroyed && socket.write(text));
    if (!socket.destroyed) socket.once('drain', send)
  }
  send()
}

const drip = (socket: Socket, text: string): void => {
  const timer = setInterval(() => void socket.write(text), 50)
  socket.once('close', () => clearInterval(timer))
}

const OK = 'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n'
const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024, 0x20))

/** What a server does with each connection, from its first byte on. */
const MISBEHAVIOURS: readonly (readonly [name: string, answer: (socket: Socket) => void])[] = [
  ['accepts and says nothing', () => {}],
  ['closes at once', (socket) => void socket.end()],
  ['resets', (socket) => void socket.resetAndDestroy()],
  ['is no HTTP server', (socket) => void socket.end('SSH-2.0-OpenSSH_9.2p1\r\n')],
  ['speaks HTTP/2 only', (socket) => void socket.end(Buffer.from('000000040000000000', 'hex'))],
  ['ends within the status line', (socket) => void socket.end('HTTP/1.1 2')],
  ['ends within the headers', (socket) => void socket.end(`${OK}content-le`)],
  ['ends within the body', (socket) => void socket.end(`${OK}content-length: 100\r\n\r\n{"a`)],
  ['drips headers', (socket) => (socket.write(OK), drip(socket, 'x-a: b\r\n'))],
  [
    'sends headers without end',
    (socket) => (socket.write(OK), flood(socket, `x-a: ${'b'.repeat(8000)}\r\n`)),
  ],
  ['drips a body', (socket) => (socket.write(`${OK}content-length: 100000\r\n\r\n`), drip(socket, ' '))],
  ['sends a body without end', (socket) => (socket.write(`${OK}\r\n`), flood(socket, ' '.repeat(65_536)))],
  [
    'sends chunks without end',
    (socket) => (
      socket.write(`${OK}transfer-encoding: chunked\r\n\r\n`),
      flood(socket, `4000\r\n${' '.repeat(0x4000)}\r\n`)
    ),
  ],
  ['sends no chunks', (socket) => void socket.end(`${OK}transfer-encoding: chunked\r\n\r\nzz\r\n`)],
  ['sends 1xx without end', (socket) => flood(socket, 'HTTP/1.1 102 Processing\r\n\r\n')],
  [
    'sends two lengths',
    (socket) => void socket.end(`${OK}content-length: 2\r\ncontent-length: 50\r\n\r\n{}`),
  ],
  [
    'sends length and chunks',
    (socket) => void socket.end(`${OK}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`),
  ],
  [
    'sends a gzip bomb',
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
    (socket) => void socket.end('HTTP/1.1 307 x\r\nlocation: /\r\ncontent-length: 0\r\n\r\n'),
  ],
  [
    'sends a page',
    (socket) =>
      void socket.end('HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>please log in</html>'),
  ],
  ['sends deep JSON', (socket) => void socket.end(`${OK}\r\n${'['.repeat(200_000)}`)],
  [
    'is busy until the year 9999',
    (socket) =>
      void socket.end(
        'HTTP/1.1 429 x\r\nretry-after: Fri, 31 Dec 9999 23:59:59 GMT\r\ndate: nonsense\r\ncontent-length: 0\r\n\r\n',
      ),
  ],
  [
    'is busy for -1 s',
    (socket) =>
      void socket.end(
        'HTTP/1.1 503 x\r\nretry-after: -1\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-length: 0\r\n\r\n',
      ),
  ],
  [
    'is busy for 1e99 s',
    (socket) =>
      void socket.end(`HTTP/1.1 503 x\r\nretry-after: ${'9'.repeat(99)}\r\ncontent-length: 0\r\n\r\n`),
  ],
]

async function listen(answer: (socket: Socket) => void): Promise<{ server: Server; port: number }> {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => answer(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  return { server, port: typeof address === 'object' && address !== null ? address.port : 0 }
}

async function enrolledWorld(): Promise<{ world: World; placed: string | null }> {
  const world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'] } })
  await world.agent.configure(world.configWith({}))
  const { status, stderr } = await world.agent.verb('renew')
  if (status !== 0) throw new Error(stderr)
  return { world, placed: await certificateOnDisk(world, 'ed25519') }
}

test('servers that misbehave', async () => {
  const { world, placed } = await enrolledWorld()
  await using _ = world
  const { agent } = world
  const flaws: string[] = []
  let [longest, peak] = [0, 0]
  for (const [name, answer] of MISBEHAVIOURS) {
    const { server, port } = await listen(answer)
    await agent.configure(
      world.configWith({ issuer: { url: `http://127.0.0.1:${port}`, timeout: `${TIMEOUT_SECONDS}s` } }),
    )
    const got = await measuredVerb(agent.configPath, ['renew', '--force'])
    server.close()
    longest = Math.max(longest, got.seconds)
    peak = Math.max(peak, got.peakMib)
    if (got.status !== 1) flaws.push(`${name}: status ${got.status}, ${got.signal}: ${got.stderr}`)
    if (!/ISSUER_[A-Z_]+: /.test(got.stderr)) flaws.push(`${name}: ${got.stderr}`)
    if (got.seconds > TIMEOUT_SECONDS + SPARE_SECONDS) flaws.push(`${name}: ${got.seconds} s`)
    if (got.peakMib > MOST_MIB) flaws.push(`${name}: ${got.peakMib} MiB`)
    if ((await certificateOnDisk(world, 'ed25519')) !== placed) flaws.push(`${name}: lost`)
  }
  await agent.configure(world.configWith({}))
  const began = performance.now()
  const { status } = await agent.verb('renew', '--force')
  if (status !== 0 || !(await isServed(world, 'ed25519'))) flaws.push('it does not recover')
  await report({
    part: 'Network',
    fault: `servers that misbehave, ${TIMEOUT_SECONDS} s for a request`,
    tried: MISBEHAVIOURS.length,
    lost: flaws.filter((flaw) => flaw.endsWith(': lost')).length,
    wrong: flaws.length,
    recoveredSeconds: (performance.now() - began) / 1000,
    remark: `ended within ${longest.toFixed(1)} s, at most ${peak.toFixed(0)} MiB resident`,
  })
  expect(flaws).toEqual([])
})

/** A network namespace whose resolver asks three name servers that never answer. */
async function silentNames(name: string): Promise<AsyncDisposable> {
  const dispose = async (): Promise<void> => {
    await run('ip', ['netns', 'delete', name]).catch(() => {})
    await rm(`/etc/netns/${name}`, { recursive: true, force: true })
  }
  await mkdir(`/etc/netns/${name}`, { recursive: true })
  await writeFile(
    `/etc/netns/${name}/resolv.conf`,
    ['192.0.2.1', '192.0.2.2', '192.0.2.3'].map((at) => `nameserver ${at}\n`).join(''),
  )
  try {
    await run('ip', ['netns', 'add', name])
    // Packets leave for a neighbour that is not there, and nothing comes back.
    const commands = [
      'link set lo up',
      'link add hole type veth peer name gone',
      'link set gone up',
      'link set hole up',
      'address add 10.99.0.1/24 dev hole',
      'neighbour add 10.99.0.2 lladdr 02:00:00:00:00:02 dev hole nud permanent',
      'route add default via 10.99.0.2',
      '-6 address add fd99::1/64 dev hole nodad',
      '-6 neighbour add fd99::2 lladdr 02:00:00:00:00:02 dev hole nud permanent',
      '-6 route add default via fd99::2',
    ]
    for (const command of commands) await run('ip', ['-n', name, ...command.split(' ')])
  } catch (error) {
    await dispose()
    throw error
  }
  return { [Symbol.asyncDispose]: dispose }
}

test('name servers that never answer, and an address that nobody has', needsRoot, async () => {
  const { world, placed } = await enrolledWorld()
  await using _ = world
  const name = `hostcertd${process.pid}dns`
  await using _names = await silentNames(name)
  const { agent } = world
  const flaws: string[] = []
  let longest = 0
  for (const url of ['https://issuer.example.com', 'https://192.0.2.9', 'https://[2001:db8::9]']) {
    await agent.configure(
      world.configWith({ issuer: { url, timeout: `${TIMEOUT_SECONDS}s` }, sshd: { address: 'none' } }),
    )
    const got = await measuredVerb(agent.configPath, ['renew', '--force'], ['ip', 'netns', 'exec', name])
    longest = Math.max(longest, got.seconds)
    if (got.status !== 1) flaws.push(`${url}: status ${got.status}, ${got.signal}: ${got.stderr}`)
    if (got.seconds > TIMEOUT_SECONDS + SPARE_SECONDS) flaws.push(`${url}: ${got.seconds} s`)
    if ((await certificateOnDisk(world, 'ed25519')) !== placed) flaws.push(`${url}: lost`)
  }
  await report({
    part: 'Network',
    fault: 'name servers that never answer, addresses without a host',
    tried: 3,
    lost: flaws.filter((flaw) => flaw.endsWith(': lost')).length,
    wrong: flaws.length,
    recoveredSeconds: null,
    remark: `ended within ${longest.toFixed(1)} s`,
  })
  expect(flaws).toEqual([])
})
