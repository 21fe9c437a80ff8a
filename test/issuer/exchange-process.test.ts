import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import type { HttpIssuerConfig } from '../../agent/config/config.ts'
import { isForExchange } from '../../agent/issuer/exchange-channel.ts'
import { createExchangeClient, type ExchangeClientOptions } from '../../agent/issuer/exchange-client.ts'
import { PROTOCOL } from '../../agent/issuer/exchange-protocol.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'
import { requestFor, startRawServer } from './harness.ts'

let folder: TemporaryFolder
beforeEach(async () => {
  folder = await makeTemporaryFolder()
})
afterEach(() => folder.remove())

const KEY = 'ssh-ed25519 AAAA comment'
const REGISTER = { project: 'p', hostname: 'web1.example.com', alias: null, ttl: null }
const never = new AbortController().signal
const MAIN = fileURLToPath(new URL('../../agent/main.ts', import.meta.url))

interface Request {
  readonly route: string
  readonly code: string
}

/** @param program `sh -c` with these lines, or a whole command */
function optionsFor(program: string | readonly string[], wish: Partial<HttpIssuerConfig> = {}) {
  const requests: Request[] = []
  const loginFailures: string[] = []
  const options: ExchangeClientOptions = {
    socket: null,
    mayBeChild: true,
    program: typeof program === 'string' ? ['/bin/sh', '-c', program] : program,
    settings: {
      issuer: {
        kind: 'http',
        url: 'http://127.0.0.1:1',
        sshHostId: '8c1efcfc-434c-4c43-80e3-53c9eae6672a',
        caFile: null,
        timeoutMilliseconds: 1000,
        auth: { method: 'token', tokenFile: join(folder.path, 'token') },
        ...wish,
      },
      log: { level: 'error', format: 'json' },
    },
    clock: { now: () => 1_800_000_000, uptime: () => 0, dice: () => 0, sleep: async () => {} },
    metrics: {
      issuerRequest: (route, code) => void requests.push({ route, code }),
      loginFailed: (method, code) => void loginFailures.push(`${method} ${code}`),
    },
  }
  return { ...options, requests, loginFailures }
}

function client(...given: Parameters<typeof optionsFor>) {
  const { requests, loginFailures, ...options } = optionsFor(...given)
  return { issuer: createExchangeClient(options), requests, loginFailures }
}

/** The unit's socket: as systemd does, it starts a program for each connection, and ends it with that. */
async function unit(program: string): Promise<Pick<ExchangeClientOptions, 'socket' | 'mayBeChild'>> {
  const socket = join(folder.path, 'exchange.sock')
  const server = createServer((connection) => {
    const child = spawn('/bin/sh', ['-c', program], { stdio: ['pipe', 'pipe', 'inherit'] })
    connection.pipe(child.stdin)
    child.stdout.pipe(connection)
    child.stdin.on('error', () => {})
    connection.on('error', () => {})
    connection.once('close', () => child.kill())
  }).listen(socket)
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return { socket, mayBeChild: false }
}

const HEALTH = { reachable: true, lastSuccess: 1_700_000_000, clockSkewSeconds: 3 }
const reply = (answer: object, more: object = {}): string =>
  JSON.stringify({ id: 1, answer, health: HEALTH, requests: [], loginFailures: [], ...more })
const issued = { kind: 'issued', signedKey: 'x', serialNumber: '7', requestId: null }
/** Shell: take settings and a question, then say this. */
const says = (line: string): string =>
  `read -r settings; read -r question; printf '%s\\n' '${line}'; cat >/dev/null`

describe('an exchange that answers', () => {
  test('the answer, what it says of the issuer, and its requests', async () => {
    const requests = [{ route: 'login', code: '200', seconds: 0.1 }]
    const loginFailures = ['LOGIN_PLATFORM']
    const asked = client(says(reply(issued, { requests, loginFailures })))
    const { issuer, requests: seen } = asked
    const { kind: _, ...want } = issued
    expect(await issuer.issue(requestFor(KEY), never)).toMatchObject({ ok: true, ...want })
    expect(issuer.health()).toEqual(HEALTH)
    expect(seen).toEqual([{ route: 'login', code: '200' }])
    expect(asked.loginFailures).toEqual(['token LOGIN_PLATFORM'])
    issuer.end()
  })

  test('one process for all questions until the end, and another one after it', async () => {
    const starts = join(folder.path, 'starts')
    const line = reply(issued).replace('"id":1', '"id":%d')
    const { issuer } = client(
      `echo >>${starts}; read -r settings
      while read -r question; do id=\${question#*:}; printf '${line}\\n' "\${id%%,*}"; done`,
    )
    await issuer.issue(requestFor(KEY), never)
    await issuer.issue(requestFor(KEY), never)
    expect(await readFile(starts, 'utf8')).toBe('\n')
    issuer.end()
    await issuer.issue(requestFor(KEY), never)
    expect(await readFile(starts, 'utf8')).toBe('\n\n')
    issuer.end()
  })

  /** Answers every question, and says in a file when it is started. */
  const answersAll = (starts: string): string => `echo >>${starts}; read -r settings
    while read -r question; do id=\${question#*:}; printf '${reply(issued).replace('"id":1', '"id":%d')}\\n' "\${id%%,*}"; done`

  test.each([
    {
      of: 'the unit',
      starts: [1, 1, 2, 2, 3],
      why: 'systemd would end it in the middle of a question',
    },
    { of: 'a child', starts: [1, 1, 1, 1, 1], why: 'it has no age limit' },
  ])('one of $of after two minutes: $why', async ({ of, starts }) => {
    const file = join(folder.path, 'starts-of-age')
    const { requests: _, loginFailures: __, ...options } = optionsFor(answersAll(file))
    const way = of === 'the unit' ? await unit(answersAll(file)) : {}
    let uptime = 1000
    const clock = { ...options.clock, uptime: () => uptime }
    const issuer = createExchangeClient({ ...options, ...way, clock })
    for (const [index, seconds] of [0, 110, 30, 110, 600].entries()) {
      uptime += seconds
      expect(await issuer.issue(requestFor(KEY), never)).toMatchObject({ ok: true })
      expect(await readFile(file, 'utf8')).toBe('\n'.repeat(starts[index] ?? 0))
    }
    issuer.end()
  })

  /** Answers one question and ends, the first of all with a host. */
  const endsAfterOne = (settings: string): string => {
    const host = { id: FOUND, projectId: 'p', hostname: 'web1.example.com', alias: null, hostCertTtl: null }
    const found = { kind: 'found', project: null, host, similar: [], visible: 1 }
    const answer = (line: string) => `printf '${line.replace('"id":1', '"id":%d')}\\n' "\${id%%,*}"`
    return `read -r given; printf '%s\\n' "$given" >>${settings}; read -r question; id=\${question#*:}
      if test $(wc -l <${settings}) -gt 1; then ${answer(reply(issued))}; else ${answer(reply(found))}; fi`
  }
  const FOUND = 'f0e1d2c3-434c-4c43-80e3-53c9eae6672a'
  const by = { kind: 'name', project: 'p', hostname: 'web1.example.com' } as const

  test('one of the unit that has ended between two questions is started again, for the host that it found', async () => {
    const settings = join(folder.path, 'settings')
    const program = endsAfterOne(settings)
    const { requests: _, loginFailures: __, ...options } = optionsFor(program, { sshHostId: '' })
    const issuer = createExchangeClient({ ...options, ...(await unit(program)) })
    expect(await issuer.findHost({ by }, never)).toMatchObject({ kind: 'found' })
    // It ends by itself, which is seen a moment later.
    await expect.poll(async () => (await issuer.issue(requestFor(KEY), never)).ok).toBe(true)
    const given = (await readFile(settings, 'utf8')).trimEnd().split('\n')
    const ids = given.map((line) => (JSON.parse(line) as { issuer: HttpIssuerConfig }).issuer.sshHostId)
    expect(ids).toEqual(['', FOUND])
    issuer.end()
  })

  test('a child that has ended is a failed attempt: another one might be another user’s', async () => {
    const settings = join(folder.path, 'settings-of-child')
    const { issuer } = client(endsAfterOne(settings), { sshHostId: '' })
    expect(await issuer.findHost({ by }, never)).toMatchObject({ kind: 'found' })
    const failure = { code: 'ISSUER_UNREACHABLE', message: expect.stringMatching(/exit status 0$/) }
    expect(await issuer.issue(requestFor(KEY), never)).toMatchObject({ ok: false, failure })
    expect((await readFile(settings, 'utf8')).trimEnd().split('\n')).toHaveLength(1)
    issuer.end()
  })

  test('a message of several lines and controls is one printable line', async () => {
    const failure = {
      code: 'ISSUER_BUSY',
      message: 'one\u001b[31m\ntwo\u202e',
      next: 'issuer-backoff',
      retryAfterSeconds: 5,
      requestId: 'req-1',
    }
    const { issuer } = client(
      says(reply({ kind: 'failed', failure, noSuchRoute: false, mayBeRegistered: false })),
    )
    const answer = await issuer.issue(requestFor(KEY), never)
    expect(answer).toMatchObject({ ok: false, failure: { code: 'ISSUER_BUSY', message: 'one [31m two' } })
    issuer.end()
  })
})

describe('an exchange that fails is one failed attempt', () => {
  test.each([
    {
      name: 'it is not there',
      program: ['/nowhere/exchange'],
      says: /cannot be started: \/nowhere\/exchange: no such file/,
      next: 'local',
    },
    {
      name: 'it is no program',
      program: ['/etc/passwd'],
      says: /cannot be started: \/etc\/passwd: permission denied/,
      next: 'local',
    },
    {
      name: 'its file cannot be read',
      program: [process.execPath, '/nowhere/hostcertd.js', 'exchange'],
      says: /cannot be started: \/nowhere\/hostcertd\.js: no such file/,
      next: 'local',
    },
    { name: 'it ends', program: ['/bin/sh', '-c', 'exit 3'], says: /exit status 3$/ },
    { name: 'it is killed', program: ['/bin/sh', '-c', 'kill -KILL $$'], says: /by SIGKILL$/ },
    {
      name: 'it is killed at a question',
      program: ['/bin/sh', '-c', 'read -r settings; read -r question; kill -SEGV $$'],
      says: /by SIGSEGV$/,
    },
  ])('$name', async ({ program, says: words, next = 'issuer-backoff' }) => {
    const mayBeRegistered = next !== 'local'
    const { issuer, requests } = client(program)
    const want = { code: 'ISSUER_UNREACHABLE', message: expect.stringMatching(words), next }
    expect(await issuer.issue(requestFor(KEY), never)).toMatchObject({ ok: false, failure: want })
    expect(await issuer.hostCa(never)).toMatchObject({ ok: false, noSuchRoute: false, failure: want })
    expect(await issuer.registerHost(REGISTER, never)).toMatchObject({ failure: want, mayBeRegistered })
    expect(issuer.health().reachable).toBe(false)
    expect(requests).toEqual(['issue', 'host-ca'].map((route) => ({ route, code: 'ISSUER_UNREACHABLE' })))
  })

  test.each([
    { name: 'no JSON', line: 'hello' },
    { name: 'another shape', line: '{"answer":{"kind":"issued"}}' },
    {
      name: 'a code that there is not',
      line: reply({ kind: 'failed', failure: { code: 'X' }, noSuchRoute: false, mayBeRegistered: false }),
    },
    { name: 'a serial that is none', line: reply({ ...issued, serialNumber: '7; x' }) },
    { name: 'the answer of another kind', line: reply({ kind: 'host-ca', keys: ['ssh-ed25519 AAAA'] }) },
    { name: 'the answer to another question', line: reply(issued, { id: 2 }) },
    {
      name: 'a time that cannot be printed',
      line: reply(issued, { health: { ...HEALTH, lastSuccess: -1e300 } }),
    },
    {
      name: 'a status that is none',
      line: reply(issued, { requests: [{ route: 'issue', code: 'x', seconds: 1 }] }),
    },
    {
      name: 'how long for ever is',
      line: reply(issued, { requests: [{ route: 'issue', code: '200', seconds: 1e308 }] }),
    },
  ])('it says $name', async ({ line }) => {
    const { issuer } = client(says(line))
    expect(await issuer.issue(requestFor(KEY), never)).toMatchObject({
      ok: false,
      failure: { code: 'ISSUER_INVALID_RESPONSE' },
    })
    issuer.end()
  })

  test.each([{ keys: [] }, { keys: ['#'] }, { keys: ['nonsense'] }])(
    'it names no CA: $keys',
    async ({ keys }) => {
      const { issuer } = client(says(reply({ kind: 'host-ca', keys })))
      expect(await issuer.hostCa(never)).toMatchObject({
        ok: false,
        noSuchRoute: false,
        failure: { code: 'ISSUER_INVALID_RESPONSE' },
      })
      issuer.end()
    },
  )

  test('it says a line without end', async () => {
    const { issuer } = client('read -r settings; exec cat /dev/zero')
    expect(await issuer.issue(requestFor(KEY), never)).toMatchObject({
      ok: false,
      failure: { message: expect.stringContaining('more than 65536 characters') },
    })
  })

  test('it hangs until the signal fires: it is killed, and the signal says why', async () => {
    const pid = join(folder.path, 'pid')
    const { issuer } = client(`echo $$ >${pid}; exec sleep 600`)
    const stop = new AbortController()
    const asked = issuer.issue(requestFor(KEY), stop.signal)
    await expect.poll(async () => readFile(pid, 'utf8').catch(() => '')).not.toBe('')
    stop.abort(new Error('enough'))
    await expect(asked).rejects.toThrow('enough')
    const path = `/proc/${(await readFile(pid, 'utf8')).trim()}`
    await expect.poll(async () => readdir(path).catch(() => 'gone'), { timeout: 20_000 }).toBe('gone')
  })
})

describe('a registration without an answer', () => {
  test('may have been made if the exchange ended or hung with it, or answered something else', async () => {
    for (const [program, code] of [
      ['read -r settings; read -r question', 'ISSUER_UNREACHABLE'],
      [says('hello'), 'ISSUER_INVALID_RESPONSE'],
      [says(reply(issued)), 'ISSUER_INVALID_RESPONSE'],
    ] as const) {
      const { issuer } = client(program)
      const answer = await issuer.registerHost(REGISTER, never)
      expect(answer).toMatchObject({ kind: 'failed', failure: { code }, mayBeRegistered: true })
      issuer.end()
    }
  })

  test('is what the exchange says of it, if that answers', async () => {
    for (const mayBeRegistered of [true, false]) {
      const failure = { code: 'ISSUER_BUSY', message: 'm', next: 'local', retryAfterSeconds: null }
      const failed = { kind: 'failed', failure: { ...failure, requestId: null }, noSuchRoute: false }
      const { issuer } = client(says(reply({ ...failed, mayBeRegistered })))
      expect(await issuer.registerHost(REGISTER, never)).toMatchObject({ mayBeRegistered })
      issuer.end()
    }
  })

  test('was not made if nobody listens at the socket, or there is none', async () => {
    const { requests: _, loginFailures: __, ...options } = optionsFor('exit')
    const socket = join(folder.path, 'nobody.sock')
    const issuer = createExchangeClient({ ...options, socket, mayBeChild: false })
    const failed = { kind: 'failed', failure: { code: 'ISSUER_UNREACHABLE' }, mayBeRegistered: false }
    expect(await issuer.registerHost(REGISTER, never)).toMatchObject(failed)
    // What a process that is killed leaves behind.
    const listen = `require('net').createServer().listen('${socket}', () => process.kill(process.pid, 'SIGKILL'))`
    await once(spawn(process.execPath, ['-e', listen]), 'exit')
    expect((await stat(socket)).isSocket()).toBe(true)
    expect(await issuer.registerHost(REGISTER, never)).toMatchObject(failed)
  })
})

describe('a diagnosis', () => {
  const question = { login: true, pinned: null, principals: null, issueFor: [] }
  const finding = { step: 'tls', status: 'failure', message: 'a', remedy: null }
  const diagnosed = (changes: object, count = 1): string =>
    says(
      reply({
        kind: 'diagnosed',
        findings: Array.from({ length: count }, () => ({ ...finding, ...changes })),
      }),
    )

  test('its texts are one printable line each', async () => {
    const { issuer, requests } = client(diagnosed({ message: 'a\u001b[31m\nb\u202e', remedy: ' c\td ' }))
    const findings = [{ ...finding, message: 'a [31m b', remedy: 'c d' }]
    expect(await issuer.diagnose(question, never)).toEqual({ ok: true, findings })
    expect(requests).toEqual([])
    issuer.end()
  })

  test.each([
    { name: 'a text without end', line: diagnosed({ message: 'a'.repeat(2000) }) },
    { name: 'a step that the exchange does not take', line: diagnosed({ step: 'sshd-config' }) },
    { name: 'a status that is none', line: diagnosed({ status: 'fine' }) },
    { name: 'more findings than there can be', line: diagnosed({}, 65) },
  ])('$name: the reply is refused', async ({ line }) => {
    const { issuer } = client(line)
    const failure = { code: 'ISSUER_INVALID_RESPONSE' }
    expect(await issuer.diagnose(question, never)).toMatchObject({ ok: false, failure })
    issuer.end()
  })

  test('an exchange that ends is a failure, and no request', async () => {
    const { issuer, requests } = client('exit 3')
    expect(await issuer.diagnose(question, never)).toMatchObject({ ok: false })
    expect(requests).toEqual([])
  })
})

/** The real one: it says in the order of its life what it is asked, and ends with its input. */
describe('hostcertd exchange', () => {
  const program = [process.execPath, MAIN, 'exchange']

  test('asks the issuer, and tells what went wrong', async () => {
    await writeFile(join(folder.path, 'token'), 'secret-token\n')
    const { issuer, requests } = client(program)
    const answer = await issuer.issue(requestFor(KEY), never)
    expect(answer).toMatchObject({ ok: false, failure: { code: 'ISSUER_UNREACHABLE' } })
    expect(JSON.stringify(answer)).not.toContain('secret-token')
    expect(issuer.health().reachable).toBe(false)
    expect(requests).toEqual([{ route: 'issue', code: 'ISSUER_UNREACHABLE' }])
    issuer.end()
  })

  test('reads the credential itself', async () => {
    const { issuer } = client(program)
    expect(await issuer.issue(requestFor(KEY), never)).toMatchObject({
      failure: { code: 'CREDENTIAL_UNREADABLE' },
    })
    issuer.end()
  })

  test.each([
    { length: 32 * 1024, result: { ok: true } },
    { length: 32 * 1024 + 1, result: { ok: false, failure: { code: 'ISSUER_INVALID_RESPONSE' } } },
  ])('a certificate of $length characters', async ({ length, result }) => {
    await writeFile(join(folder.path, 'token'), 'secret-token\n')
    const body = JSON.stringify({ signedKey: 'x'.repeat(length), serialNumber: '7' })
    await using server = await startRawServer((_request, response) => response.end(body))
    const { issuer } = client(program, { url: server.url, timeoutMilliseconds: 10_000 })
    expect(await issuer.issue(requestFor(KEY), never)).toMatchObject(result)
    issuer.end()
  })

  test('ends with its input, whatever it waits for', async () => {
    await writeFile(join(folder.path, 'token'), 'secret-token\n')
    // Accepts, and never answers.
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    const port = address !== null && typeof address === 'object' ? address.port : 0
    const { settings } = optionsFor(program, { url: `http://127.0.0.1:${port}`, timeoutMilliseconds: 60_000 })
    const [node = '', ...args] = program
    const child = spawn(node, args, { stdio: ['pipe', 'inherit', 'inherit'] })
    const connected = once(server, 'connection')
    child.stdin.write(`${JSON.stringify({ protocol: PROTOCOL, ...settings })}\n`)
    child.stdin.write(`${JSON.stringify({ id: 1, ask: 'issue', ...requestFor(KEY) })}\n`)
    await connected
    expect(child.exitCode).toBeNull()
    child.stdin.end()
    expect(await once(child, 'close')).toEqual([null, 'SIGKILL'])
    server.close()
  })

  test('of a daemon that speaks otherwise it says to restart that, and ends', async () => {
    const [node = '', ...args] = program
    const child = spawn(node, args, { stdio: ['pipe', 'pipe', 'pipe'] })
    let stderr = ''
    child.stderr.on('data', (part) => (stderr += String(part)))
    child.stdin.write(`${JSON.stringify({ protocol: 0 })}\n`)
    await once(child, 'close')
    expect(JSON.parse(stderr)).toMatchObject({
      level: 'error',
      msg: 'hostcertd exchange: hostcertd was upgraded under the running daemon: restart it',
    })
  })
})

test('of the flags of Node that the daemon has, those that make it small or debug it are not for the exchange', () => {
  const flags = [
    '--jitless',
    '--optimize-for-size',
    '--max-semi-space-size=1',
    '--inspect',
    '--inspect=0',
    '--inspect-brk',
    '--inspect-port=1',
  ]
  expect(flags.filter(isForExchange)).toEqual(['--inspect-port=1'])
})
