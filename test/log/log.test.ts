import { spawn, spawnSync, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { fstatSync, openSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'

const LOG_MODULE = fileURLToPath(new URL('../../agent/log/log.ts', import.meta.url))
const OPTIONS = { level: 'info', format: 'json', version: '1.2.3' }
const JWT = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl'
const SPACED_JWT = 'eyAiYWxnIjogIkhTMjU2IiB9.eyAic3ViIjogIjEiIH0.c2lnbmF0dXJl'

interface Run {
  readonly options?: Partial<typeof OPTIONS>
  readonly env?: Readonly<Record<string, string>>
  /** Statements that use `log`. */
  readonly code: string
}

/** The real thing: a process of its own that logs to its stderr. */
function commandOf({ options = {}, code }: Run): string[] {
  const script = `
    import { createLog } from ${JSON.stringify(LOG_MODULE)}
    const log = createLog(${JSON.stringify({ ...OPTIONS, ...options })})
    ${code}`
  return [process.execPath, '--input-type=module', '--eval', script]
}

function environment({ env = {} }: Run): NodeJS.ProcessEnv {
  const { JOURNAL_STREAM: _, NO_COLOR: __, ...rest } = process.env
  return { ...rest, ...env }
}

function logged(run: Run): string {
  const [program = '', ...args] = commandOf(run)
  const { stderr, status } = spawnSync(program, args, { encoding: 'utf8', env: environment(run) })
  expect({ status, stderr }).toEqual({ status: 0, stderr: expect.any(String) as string })
  return stderr
}

function linesOf(output: string): string[] {
  expect(output.endsWith('\n')).toBe(true)
  return output.slice(0, -1).split('\n')
}

async function spawned(run: Run): Promise<ChildProcessByStdio<null, Readable, Readable>> {
  const [program = '', ...args] = commandOf(run)
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env: environment(run) })
  onTestFinished(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
  return child
}

test('json: one object a line with time, level, message, version and the fields', () => {
  const [line = '', ...rest] = linesOf(
    logged({ code: "log.info({ host_key: 'k', serial: 2n ** 63n, list: [1, [2], null] }, 'a\\nb\\u009b')" }),
  )
  expect(rest).toEqual([])
  expect(line).not.toMatch(/\p{Cc}/u)
  expect(JSON.parse(line)).toEqual({
    level: 'info',
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string,
    version: '1.2.3',
    host_key: 'k',
    serial: '9223372036854775808',
    list: [1, [2], null],
    msg: 'a\nb\u009b',
  })
})

test('json: a field never doubles or hides what every line has', () => {
  const line = logged({ code: "log.info({ level: 'x', time: 'y', msg: 'z', version: 'v' }, 'm')" })
  const keys = [...line.matchAll(/"(\w+)":/g)].map(([, key]) => key)
  expect(keys).toEqual(['level', 'time', 'version', 'level_', 'time_', 'msg_', 'msg'])
  expect(JSON.parse(line)).toMatchObject({ level: 'info', msg: 'm', version: 'v' })
})

test('journal: a priority, no time, never a second line', () => {
  const code = `
    log.error({ error: Object.assign(new Error('no\\nway'), { code: 'ISSUER_TIMEOUT' }) }, 'failed')
    log.warn({ path: '/a b', empty: '', quoted: 'a"b', equals: 'a=b', n: 3, none: null }, 'two\\nlines\\u2028')
    log.info({ principals: ['web1', 'web 2'], state: 'valid' }, 'looked')
    log.configure({ level: 'debug', format: 'journal', version: '1.2.3' })
    log.debug({}, 'turn')`
  expect(linesOf(logged({ options: { format: 'journal' }, code }))).toEqual([
    '<3>failed error.code=ISSUER_TIMEOUT error.message="no\\nway"',
    '<4>two\\nlines\\u2028 path="/a b" empty="" quoted="a\\"b" equals="a=b" n=3',
    '<6>looked principals=["web1","web 2"] state=valid',
    '<7>turn',
  ])
})

test('pretty: a line for a person, without colour where nobody sees it', () => {
  const output = logged({ options: { format: 'pretty' }, code: "log.warn({ host_key: 'k' }, 'late')" })
  expect(output).toMatch(/^\d\d:\d\d:\d\d WARN {2}late {2}host_key=k\n$/)
})

test.each([
  {
    name: 'colour on a terminal',
    env: {},
    want: /^ESC\[90m\d\d:\d\d:\d\dESC\[0m ESC\[31mERRORESC\[0m late\r\n$/,
  },
  { name: 'no colour with NO_COLOR', env: { NO_COLOR: '1' }, want: /^\d\d:\d\d:\d\d ERROR late\r\n$/ },
])('auto: pretty on a terminal; $name', ({ env, want }) => {
  const run = { options: { format: 'auto' }, env, code: "log.error({}, 'late')" }
  const quoted = commandOf(run).map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`)
  const { stdout } = spawnSync('script', ['-qec', quoted.join(' '), '/dev/null'], {
    encoding: 'utf8',
    env: environment(run),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  expect(stdout.replaceAll('\u001B', 'ESC')).toMatch(want)
})

test('auto: journal only when JOURNAL_STREAM is the stderr of this process', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'hostcertd-log-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const path = join(folder, 'stderr')
  const file = openSync(path, 'w')
  const { dev, ino } = fstatSync(file, { bigint: true })
  for (const stream of [`${dev}:${ino}`, `${dev}:${ino + 1n}`]) {
    const run = {
      options: { format: 'auto' },
      env: { JOURNAL_STREAM: stream },
      code: "log.info({}, 'hello')",
    }
    const [program = '', ...args] = commandOf(run)
    spawnSync(program, args, { env: environment(run), stdio: ['ignore', 'ignore', file] })
  }
  const [first, second = ''] = linesOf(readFileSync(path, 'utf8'))
  expect(first).toBe('<6>hello')
  expect(JSON.parse(second)).toMatchObject({ msg: 'hello' })
})

test.each(['json', 'journal', 'pretty'])('%s: no secret gets into a line', (format) => {
  const code = `
    log.info({
      token: 'S1', clientSecret: 'S2', auth: { client_secret: 'S3', deep: { accessToken: 'S4', list: [{ password: 'S5' }] } },
      headers: new Map([['Authorization', 'Bearer S6']]), pin_secret: 123456789, jwt: 'S7',
      text: 'sent Authorization: Basic UzgS8 and Bearer S9', more: '{"clientSecret":"S10"}', url: 'https://me:S11@host/',
      cookies: ['S12'], token_file: '/etc/t', has_token: true,
    }, 'got ${JWT}, ${SPACED_JWT}, password=S13')
    log.error({ error: new Error('Bearer S14', { cause: new Error('access_token=S15&x=1') }) }, 'x')`
  const output = logged({ options: { format, level: 'debug' }, code })
  // Stacks quote the source of --eval: nothing of it may come through either.
  expect(output).not.toMatch(/S\d|123456789|eyJ|eyA/)
  expect(output).toMatch(/token_file"?[=:]"?\/etc\/t/)
  expect(output).toMatch(/has_token"?[=:]true/)
})

test('a stack is kept at debug only', () => {
  const code = "log.error({ error: new Error('x') }, 'x')"
  expect(logged({ code })).not.toContain('stack')
  expect(logged({ code, options: { level: 'debug' } })).toContain('"stack"')
})

test('nothing that is logged can throw, run on for ever or make a giant line', () => {
  const code = `
    const ring = { name: 'ring' }
    ring.self = ring
    const hostile = { get boom() { throw new Error('boom') } }
    log.info({ ring }, 'ring')
    log.info({ hostile }, 'hostile')
    log.info({ long: 'x'.repeat(1e6), wide: Object.fromEntries(Array.from({ length: 1e4 }, (_, i) => ['k' + i, 'x'.repeat(100)])) }, 'y'.repeat(1e6))
    log.info({ f() {}, s: Symbol('s'), u: undefined, n: NaN, d: new Date(NaN), b: Buffer.alloc(3) }, 'odd')`
  const lines = linesOf(logged({ options: { format: 'journal' }, code }))
  expect(lines[0]).toBe('<6>ring ring.name=ring ring.self=…')
  expect(lines[1]).toContain('<6>hostile log_error=')
  expect(lines[2]?.length).toBeLessThan(16_100)
  expect(lines[3]).toBe('<6>odd n=NaN d="invalid date" b="3 bytes"')
  expect(linesOf(logged({ code }))[2]?.length).toBeLessThan(100_000)
})

test('the level counts, and can be changed with the format for those who hold the log', () => {
  const code = `
    const { debug } = log
    debug({}, 'one')
    log.configure({ level: 'debug', format: 'journal', version: '1.2.3' })
    debug({}, 'two')
    log.configure({ level: 'fatal', format: 'json', version: '1.2.3' })
    log.error({}, 'three')`
  expect(logged({ code })).toBe('<7>two\n')
})

test('a reader that is gone does not end the program', async () => {
  const child = await spawned({
    code: `
      process.stdin.destroy()
      const timer = setInterval(() => log.info({}, 'anybody?'), 5)
      setTimeout(() => { clearInterval(timer); console.log('alive') }, 100)`,
  })
  child.stderr.destroy()
  const exit = once(child, 'exit')
  expect(await text(child.stdout)).toBe('alive\n')
  expect(await exit).toEqual([0, null])
})

test('a reader that is stuck does not stop the program; what it missed is counted, no line is torn', async () => {
  const count = 20_000
  const child = await spawned({
    options: { format: 'json' },
    code: `
      process.stderr // opens the pipe without blocking, as a library might
      for (let i = 0; i < ${count}; i++) log.info({ i, pad: 'x'.repeat(100) }, 'line')
      console.log('done')
      setTimeout(() => {}, 60_000)`,
  })
  await once(child.stdout, 'data')
  const seen: { i?: number; lines?: number; msg: string }[] = []
  let rest = ''
  for await (const chunk of child.stderr.setEncoding('utf8')) {
    const parts = (rest + String(chunk)).split('\n')
    rest = parts.pop() ?? ''
    for (const line of parts) seen.push(JSON.parse(line) as (typeof seen)[number])
    if (seen.at(-1)?.lines !== undefined) break
  }
  const last = seen.pop()
  expect(last?.msg).toContain('lost')
  expect(seen.map(({ i }) => i)).toEqual([...seen.keys()])
  expect(seen.length + (last?.lines ?? 0)).toBe(count)
})
