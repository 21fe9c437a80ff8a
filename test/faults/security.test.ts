import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { basename, join } from 'node:path'
import { text as readAll } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { HOST_KEY_TYPES, hostKeyName, isServed, requestPass, untilReady } from '../support/looks.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { makeWorld, type World } from '../support/world.ts'
import { measuredVerb } from './injection.ts'
import { isWhole, report } from './rows.ts'

const run = promisify(execFile)
const PROGRAM = fileURLToPath(new URL('../../dist/hostcertd.js', import.meta.url))
const DAEMON = [process.execPath, '--jitless', '--optimize-for-size', '--max-semi-space-size=1', PROGRAM]
const PRIVATE_KEYS = HOST_KEY_TYPES.map(hostKeyName)

/** `-D`: the program stays the child of the test. `-f`: all that it starts is followed too. */
function traced(file: string): readonly string[] {
  const calls = 'trace=%file,openat2,execve,execveat'
  return ['strace', '-D', '-f', '-qq', '-s', '4096', '-e', calls, '-o', file]
}

interface Trace {
  /** Programs that opened a private host key, or tried to, as `PROGRAM KEY`. */
  readonly opened: readonly string[]
  readonly calls: number
}

async function readTrace(file: string): Promise<Trace> {
  const lines = (await readFile(file, 'utf8')).split('\n')
  const programs = new Map<string, string>()
  const opened = new Set<string>()
  for (const line of lines) {
    const [, pid = '', call = '', rest = ''] = /^(\d+) +(\w+)\((.*)$/.exec(line) ?? []
    if (call.startsWith('execve')) programs.set(pid, basename(/"([^"]*)"/.exec(rest)?.[1] ?? ''))
    if (!/^(?:open|openat|openat2|creat)$/.test(call)) continue
    // Also by a path relative to a folder.
    const key = PRIVATE_KEYS.find((name) => rest.includes(`/${name}"`) || rest.includes(`"${name}"`))
    if (key !== undefined) opened.add(`${programs.get(pid) ?? 'a thread of node'} ${key}`)
  }
  return { opened: [...opened], calls: lines.length }
}

test('`run`, `renew` and verbs that only look never open a private host key, nor does a program that they start', async () => {
  await using temporary = await makeTemporaryFolder()
  const daemonTrace = join(temporary.path, 'run')
  await using world = await makeWorld({ launch: [...traced(daemonTrace), ...DAEMON] })
  const { agent, sshd } = world
  const flaws: string[] = []
  const judge = async (what: string, file: string, allowed = /^$/): Promise<void> => {
    const { opened, calls } = await readTrace(file)
    if (calls < 50) flaws.push(`${what}: only ${calls} calls were seen`)
    flaws.push(...opened.filter((one) => !allowed.test(one)).map((one) => `${what}: ${one}`))
  }
  await agent.configure(world.configWith({}))
  const verbs = [
    ['renew', '--force'],
    ['status'],
    ['check'],
    ['needs-renewal'],
    ['config', 'validate'],
    ['metrics', 'write', join(world.folder, 'metrics.prom')],
    ['doctor'],
  ]
  for (const [index, verb] of verbs.entries()) {
    const file = join(temporary.path, String(index))
    const { status, stderr } = await measuredVerb(agent.configPath, verb, traced(file))
    if (verb[0] === 'renew' && status !== 0) flaws.push(`renew: status ${status}: ${stderr}`)
    // It has ssh-keygen compare the two halves of a key and sshd check its configuration, as the user that runs it.
    await judge(verb.join(' '), file, verb[0] === 'doctor' ? /^(?:ssh-keygen|sshd) / : undefined)
  }
  await agent.start()
  await untilReady(world, 60)
  await sshd.rotateKey('ed25519', 'rename')
  await agent.waitFor('a certificate for the new key', async () => isServed(world, 'ed25519'), 60)
  agent.signal('SIGHUP')
  await requestPass(world)
  await agent.stop()
  await judge('run', daemonTrace)

  // What the test looks for can be found.
  const control = join(temporary.path, 'control')
  await run('strace', [
    ...traced(control).slice(2),
    'ssh-keygen',
    '-y',
    '-f',
    join(sshd.folder, 'ssh_host_rsa_key'),
  ])
  expect((await readTrace(control)).opened).toEqual(['ssh-keygen ssh_host_rsa_key'])
  await report({
    part: 'Secrets and private keys',
    fault: 'a private host key opened by `run` or by a verb',
    tried: verbs.length + 1,
    lost: 0,
    wrong: flaws.length,
    recoveredSeconds: null,
  })
  expect(flaws).toEqual([])
})

const CORE = randomBytes(18).toString('hex')
/** With all that has to be escaped somewhere; the part in the middle looks the same in most encodings. */
const SECRET = `cAnary/"7\\+${CORE}=%41~`

const inJson = (text: string): string => JSON.stringify(text).slice(1, -1)
const ENCODINGS: Readonly<Record<string, (text: string) => string>> = {
  'as it is': (text) => text,
  'in JSON': inJson,
  'in JSON within JSON': (text) => inJson(inJson(text)),
  'in JSON, all escaped': (text) =>
    Array.from(text, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`).join(''),
  'in a URL': encodeURIComponent,
  'in a URL, all escaped': (text) =>
    [...Buffer.from(text)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join(''),
  'in base64': (text) => Buffer.from(text).toString('base64'),
  'in base64 behind a name': (text) => Buffer.from(`id:${text}`).toString('base64'),
  'in base64 for URLs': (text) => Buffer.from(`i:${text}`).toString('base64url'),
}

/** What a secret with this part in it contains in each encoding, in lower case. */
function tracesOf(core: string): readonly string[] {
  const base64 = [0, 1, 2].flatMap((offset) => {
    const encoded = Buffer.from(`${'x'.repeat(offset)}${core}`).toString('base64')
    // The characters at both ends also hold bits of what is around it.
    const part = encoded.slice(4, -4)
    return [part, part.replaceAll('+', '-').replaceAll('/', '_')]
  })
  const escaped = [ENCODINGS['in JSON, all escaped'], ENCODINGS['in a URL, all escaped']].map(
    (encode) => encode?.(core) ?? core,
  )
  return [core, ...escaped, ...base64].map((text) => text.toLowerCase())
}

const ROUTES = ['login', 'issue'] as const

type Answer = readonly [status: number, type: string, body: string]
/** How an issuer, or what is in front of it, may repeat what it was sent. */
const REFUSALS: readonly ((said: string) => Answer)[] = [
  (said) => [403, 'application/json', JSON.stringify({ message: said, error: said, reqId: said })],
  (said) => [502, 'text/html', `<h1>${said}</h1>`],
  (said) => [422, 'application/json', JSON.stringify({ message: [{ path: [said], message: said }] })],
  (said) => [200, 'application/json', JSON.stringify({ signedKey: said, serialNumber: said, message: said })],
]

/** On a connection of its own: one that is kept may be closed by the other side at any time. */
async function ask(
  url: string,
  method: string,
  headers: Readonly<Record<string, string>>,
  content: Buffer,
): Promise<{ readonly status: number; readonly type: string; readonly body: string }> {
  const asked = request(url, { method, headers, agent: false })
  asked.end(content)
  const [answer] = (await once(asked, 'response')) as [IncomingMessage]
  const { statusCode = 0, headers: answered } = answer
  return { status: statusCode, type: answered['content-type'] ?? '', body: await readAll(answer) }
}

/** What stands between hostcertd and the issuer: notes access tokens, repeats secrets, or keeps a request waiting. */
class Relay implements AsyncDisposable {
  readonly tokens: string[] = []
  /** Null: all requests pass. `login`, `issue`: refuse that one with the secrets that it brought, encoded. */
  echo: { readonly route: 'login' | 'issue'; readonly answer: (secret: string) => Answer } | null = null
  /** A request that waits, and how to let it go. */
  #held: (() => void) | null = null
  holdsNext = false
  readonly #issuer: string
  readonly #server = createServer((received, response) => void this.#handle(received, response))

  constructor(issuer: string) {
    this.#issuer = issuer
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
    const address = this.#server.address()
    return `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
  }

  get holds(): boolean {
    return this.#held !== null
  }

  release(): void {
    this.#held?.()
    this.#held = null
  }

  async #handle(received: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => {})
    const parts: Buffer[] = []
    for await (const part of received) parts.push(part as Buffer)
    const { method = '', url = '', headers } = received
    const route = url.endsWith('/login') ? 'login' : url.endsWith('/issue-host-cert') ? 'issue' : null
    if (this.holdsNext && route === 'issue') {
      this.holdsNext = false
      await new Promise<void>((resolve) => (this.#held = resolve))
    }
    if (this.echo !== null && route === this.echo.route) {
      const token = (headers.authorization ?? '').replace('Bearer ', '')
      const [status, type, body] = this.echo.answer(route === 'login' ? SECRET : token)
      response.writeHead(status, { 'content-type': type }).end(body)
      return
    }
    const { authorization, 'content-type': type } = headers
    const passed = { ...(authorization === undefined ? {} : { authorization }), 'content-type': type ?? '' }
    const answer = await ask(`${this.#issuer}${url}`, method, passed, Buffer.concat(parts))
    const { body } = answer
    const token = /"accessToken":"([^"]+)"/.exec(body)?.[1]
    if (token !== undefined) this.tokens.push(token)
    response.writeHead(answer.status, { 'content-type': answer.type }).end(body)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.release()
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

/** The process's children, theirs, and so on. */
function descendantsOf(pid: number): number[] {
  try {
    const tasks = readdirSync(`/proc/${pid}/task`)
    const children = tasks.flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
    )
    return children.concat(children.flatMap(descendantsOf))
  } catch {
    return []
  }
}

/** Notes arguments and environment of every process that this test starts, while they run. */
class ProcessWatch implements Disposable {
  readonly seen = new Set<string>()
  readonly #timer = setInterval(() => {
    for (const pid of descendantsOf(process.pid)) {
      for (const file of ['cmdline', 'environ']) {
        try {
          this.seen.add(readFileSync(`/proc/${pid}/${file}`, 'latin1'))
        } catch {
          // It has ended.
        }
      }
    }
  }, 40);

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }
}

/** Which of these texts are in a process's memory, in one byte or two for a character. */
function inMemory(pid: number, texts: readonly string[]): string[] {
  const wanted = texts.map((text) => ({ text, forms: [Buffer.from(text), Buffer.from(text, 'utf16le')] }))
  const found = new Set<string>()
  const memory = openSync(`/proc/${pid}/mem`, 'r')
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, from = '', to = ''] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? []
      const [start, size] = [Number.parseInt(from, 16), Number.parseInt(to, 16) - Number.parseInt(from, 16)]
      if (!(size > 0) || size > 512 * 1024 * 1024) continue
      const bytes = Buffer.alloc(size)
      try {
        readSync(memory, bytes, 0, size, start)
      } catch {
        // Reserved, and never touched.
        continue
      }
      for (const { text, forms } of wanted) if (forms.some((form) => bytes.includes(form))) found.add(text)
    }
  } finally {
    closeSync(memory)
  }
  return [...found]
}

/** Everything that hostcertd wrote or shows, by name. */
async function everythingShown({ agent, folder }: World): Promise<Map<string, string>> {
  const shown = new Map<string, string>()
  shown.set('the log', JSON.stringify(agent.log))
  for (const path of [
    '/livez',
    '/readyz',
    '/readyz/ssh_host_ed25519_key',
    '/healthz',
    '/status',
    '/metrics',
    '/',
    '/none',
  ])
    shown.set(path, await (await agent.health(path)).text())
  for (const name of await readdir(folder, { recursive: true })) {
    // The secret's own file, and what belongs to the issuer.
    if (name.endsWith('client-secret') || name.startsWith('issuer')) continue
    const text = await readFile(join(folder, name), 'latin1').catch(() => null)
    if (text !== null) shown.set(`the file ${name}`, text)
  }
  return shown
}

test('the client secret and access tokens are in no log, file, answer, argument, environment or resident memory', async () => {
  await using world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'] } })
  const { agent, hostId, issuer } = world
  const { clientId } = issuer.addIdentity({ mayIssueFor: [hostId] })
  issuer.setClientSecret(clientId, SECRET)
  const secretFile = join(agent.folder, 'client-secret')
  await writeFile(secretFile, `${SECRET}\n`, { mode: 0o600 })
  await using relay = new Relay(issuer.url)
  using watch = new ProcessWatch()
  const config = world.configWith({
    issuer: { url: await relay.listen(), timeout: '20s' },
    auth: { client_id: clientId, client_secret_file: secretFile },
    log: { format: 'json', level: 'trace' },
  })
  await agent.configure(config)
  const shown = new Map<string, string>()
  let verbs = 0
  const runVerb = async (what: string, ...args: readonly string[]): Promise<number | null> => {
    const { status, stdout, stderr } = await agent.verb(...args)
    shown.set(`${(verbs += 1)}. ${args.join(' ')}, ${what}`, stdout + stderr)
    return status
  }
  const flaws: string[] = []

  // The daemon issues; meanwhile its exchange has the secret, or had it, and it itself does not.
  relay.holdsNext = true
  await agent.launch()
  await agent.waitFor('the exchange asks for a certificate', () => relay.holds, 60)
  const wantedInMemory = [CORE, relay.tokens.at(-1) ?? 'no token']
  const exchange = descendantsOf(agent.pid).find((pid) =>
    readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('exchange'),
  )
  // What the test looks for can be found.
  expect(inMemory(exchange ?? 0, wantedInMemory)).toEqual(wantedInMemory)
  flaws.push(...inMemory(agent.pid, wantedInMemory).map((text) => `the daemon's memory: ${text}`))
  relay.release()
  await untilReady(world, 60)
  const answers = Object.entries(ENCODINGS)
  const rounds = answers.flatMap(([encoding, encode], index) =>
    ROUTES.filter((_, step) => isWhole || step === index % 2).flatMap((route) =>
      REFUSALS.filter((_, shape) => isWhole || shape === Math.floor(index / 2) % REFUSALS.length).map(
        (answer) => ({
          name: `${route} refused with the secret ${encoding}`,
          echo: { route, answer: (secret: string) => answer(encode(secret)) },
        }),
      ),
    ),
  )
  for (const { name, echo } of rounds) {
    relay.echo = echo
    if ((await runVerb(name, 'renew', '--force')) !== 1) flaws.push(`${name}: renew did not fail`)
  }
  // The daemon is refused in the same ways, and keeps what it was told for its pages.
  await world.sshd.rotateKey('ed25519', 'rename')
  for (const { echo } of rounds.slice(0, isWhole ? rounds.length : 4)) {
    relay.echo = echo
    const from = agent.log.length
    agent.signal('SIGHUP')
    await agent.waitFor('a refusal in the log', () =>
      agent.log.slice(from).some(({ level }) => level === 'warn' || level === 'error'),
    )
  }
  for (const args of [
    ['status'],
    ['status', '--json'],
    ['check'],
    ['doctor'],
    ['doctor', '--json'],
    ['needs-renewal'],
  ])
    await runVerb('refused', ...args)
  for (const [name, text] of await everythingShown(world)) shown.set(name, text)

  relay.echo = null
  const began = performance.now()
  agent.signal('SIGHUP')
  await untilReady(world, 60)
  const seconds = (performance.now() - began) / 1000
  if (!(await isServed(world, 'ed25519'))) flaws.push('it does not recover')
  await runVerb('all well', 'doctor', '--issue')
  await runVerb('all well', 'renew', '--force')
  const daemonMemory = [CORE, ...relay.tokens.map((token) => token.slice(-24))]
  flaws.push(...inMemory(agent.pid, daemonMemory).map((text) => `the daemon's memory, later: ${text}`))
  for (const [name, text] of await everythingShown(world)) shown.set(`${name}, later`, text)

  const exchanges = [...watch.seen].filter((text) => text.includes('\0exchange\0'))
  expect(exchanges.length).toBeGreaterThan(0)
  for (const text of watch.seen) shown.set(`arguments or environment: ${text.slice(0, 80)}`, text)
  const needles = [CORE, ...relay.tokens.map((token) => token.slice(-24))].flatMap(tracesOf)
  for (const [name, text] of shown) {
    const lowerCase = text.toLowerCase()
    if (needles.some((needle) => lowerCase.includes(needle))) flaws.push(`${name}: ${text.slice(0, 2000)}`)
  }
  await report({
    part: 'Secrets and private keys',
    fault: 'an issuer that repeats the client secret and the access token, encoded',
    tried: rounds.length,
    lost: 0,
    wrong: flaws.length,
    recoveredSeconds: seconds,
    remark: `${shown.size} places and ${needles.length} forms were searched, and the resident memory`,
  })
  expect(flaws).toEqual([])
})
