import { spawnSync } from 'node:child_process'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { parseCertificate } from '../../agent/cert/host-certificate.ts'
import { createCommandIssuer, secretsOfProgram } from '../../agent/issuer/command-issuer.ts'
import { createExchangeClient } from '../../agent/issuer/exchange-client.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'
import { NEVER, requestFor } from './harness.ts'

const MAIN = fileURLToPath(new URL('../../agent/main.ts', import.meta.url))
const SCRIPT = fileURLToPath(new URL('../../docs/examples/sign-host-key.sh', import.meta.url))
const KEY = 'ssh-ed25519 AAAA root@web1'

let folder: TemporaryFolder
beforeEach(async () => {
  folder = await makeTemporaryFolder()
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await folder.remove()
})

const clock = { now: () => 1_800_000_000, uptime: () => 0, dice: () => 0, sleep: async () => {} }

function issuerOf(command: readonly string[], timeoutMilliseconds = 10_000) {
  const logged: string[] = []
  const requests: string[] = []
  const log = (_: object, message: string): void => void logged.push(message)
  const issuer = createCommandIssuer({
    command,
    timeoutMilliseconds,
    clock,
    log: { debug: log, info: log, warn: log, error: log },
    metrics: { issuerRequest: (route, code) => void requests.push(`${route} ${code}`) },
  })
  return { issuer, logged, requests }
}

/** A shell script in the issuer's place. */
const shell = (script: string): readonly string[] => ['/bin/sh', '-c', script]

test('what it may repeat of its secrets: credentials and passwords of proxies, one with a bare % too', async () => {
  await writeFile(join(folder.path, 'hostcertd_token'), 'canary-of-a-file\n')
  const secrets = await secretsOfProgram({
    CREDENTIALS_DIRECTORY: folder.path,
    HTTPS_PROXY: 'http://user:canary%2Fproxy@proxy.example.com',
    http_proxy: 'http://user:canary-100%@proxy.example.com',
  })
  const said = 'canary-of-a-file canary/proxy canary-100% harmless'
  expect(secrets.redact(said)).toBe('[secret] [secret] [secret] harmless')
})

describe('a program that signs', () => {
  test('it is given one line, and its certificate counts', async () => {
    const file = join(folder.path, 'request')
    const { issuer, requests } = issuerOf(
      shell(`cat >${file}; echo '{"certificate":"ssh-ed25519-cert AAAA","expires":"later"}'`),
    )
    const request = { publicKey: KEY, hostKey: 'ssh_host_ed25519_key', principals: ['a.example.com', 'b'] }
    expect(await issuer.issue(request, NEVER)).toEqual({
      ok: true,
      signedKey: 'ssh-ed25519-cert AAAA',
      serialNumber: null,
      requestId: null,
    })
    expect(await readFile(file, 'utf8')).toBe(
      `{"public_key":"${KEY}","key_type":"ssh-ed25519","host_key":"ssh_host_ed25519_key","principals":["a.example.com","b"]}\n`,
    )
    expect(requests).toEqual(['issue 200'])
    expect(issuer.health()).toEqual({ reachable: true, lastSuccess: clock.now(), clockSkewSeconds: null })
  })

  test('it need not read its input', async () => {
    const { issuer } = issuerOf(shell(`exec <&-; echo '{"certificate":"x"}'`))
    const request = {
      ...requestFor(KEY),
      principals: Array.from({ length: 20_000 }, (_, index) => `n${index}`),
    }
    expect(await issuer.issue(request, NEVER)).toMatchObject({ ok: true, signedKey: 'x' })
  })

  test('it has the named variables only', async () => {
    const given = { LANG: 'C.UTF-8', CREDENTIALS_DIRECTORY: '/run/c', https_proxy: 'http://p', NO_PROXY: 'x' }
    for (const [name, text] of Object.entries({ ...given, SECRET: 's', HOME: '/h', NODE_OPTIONS: '' }))
      vi.stubEnv(name, text)
    const file = join(folder.path, 'environment')
    const { issuer } = issuerOf(['/usr/bin/env'])
    await issuer.issue(requestFor(KEY), NEVER)
    const script = issuerOf(shell(`/usr/bin/env >${file}; echo '{"certificate":"x"}'`))
    await script.issuer.issue(requestFor(KEY), NEVER)
    const names = (await readFile(file, 'utf8')).split('\n').map((line) => line.split('=')[0])
    // The shell sets the last two itself.
    const known = ['PATH', ...Object.keys(given), 'PWD', '_', 'SHLVL', 'OLDPWD', '']
    expect(
      names.filter((name) => name !== undefined && !known.includes(name) && !/_proxy$/i.test(name)),
    ).toEqual([])
    expect(names).toEqual(expect.arrayContaining(['PATH', ...Object.keys(given)]))
  })

  test('its standard error is in the log: printable, line by line, and not without end', async () => {
    const { issuer, logged } = issuerOf(
      shell(`printf 'one\\033[31m\\r\\n\\n%05000d\\nlast' 7 >&2; echo '{"certificate":"x"}'`),
    )
    await issuer.issue(requestFor(KEY), NEVER)
    expect(logged).toEqual(['one [31m', expect.stringMatching(/^0+7$/), 'last'])
    const many = issuerOf(shell(`seq 1 5000 >&2; echo '{"certificate":"x"}'`))
    await many.issuer.issue(requestFor(KEY), NEVER)
    expect(many.logged).toHaveLength(51)
    expect(many.logged.at(-1)).toMatch(/are not logged$/)
  })

  test('it names no CA', async () => {
    expect(await issuerOf(shell('')).issuer.hostCa(NEVER)).toMatchObject({ ok: false, noSuchRoute: true })
  })
})

describe('a program that fails', () => {
  test.each([
    {
      name: 'is not there',
      command: ['/nowhere/sign'],
      code: 'ISSUER_UNREACHABLE',
      says: /cannot start \/nowhere\/sign \(issuer\.command\): no such file/,
    },
    {
      name: 'is not executable',
      command: ['/etc/passwd'],
      code: 'ISSUER_UNREACHABLE',
      says: /permission denied/,
    },
    {
      name: 'has an argument that is none',
      command: ['/bin/sh', 'a\0b'],
      code: 'ISSUER_UNREACHABLE',
      says: /cannot start/,
    },
    { name: 'says nothing', command: shell(''), code: 'ISSUER_INVALID_RESPONSE', says: /wrote no answer/ },
    {
      name: 'writes no JSON',
      command: shell('echo yes'),
      code: 'ISSUER_INVALID_RESPONSE',
      says: /no JSON object: "yes"/,
    },
    {
      name: 'writes a list',
      command: shell('echo "[]"'),
      code: 'ISSUER_INVALID_RESPONSE',
      says: /no JSON object/,
    },
    {
      name: 'writes two lines',
      command: shell(`echo '{"certificate":"x"}'; echo more`),
      code: 'ISSUER_INVALID_RESPONSE',
      says: /more than one line/,
    },
    {
      name: 'writes an empty certificate',
      command: shell(`echo '{"certificate":" "}'`),
      code: 'ISSUER_INVALID_RESPONSE',
      says: /without a certificate/,
    },
    {
      name: 'writes a certificate that is no text',
      command: shell(`echo '{"certificate":7}'`),
      code: 'ISSUER_INVALID_RESPONSE',
      says: /without a certificate/,
    },
    {
      name: 'writes both',
      command: shell(`echo '{"certificate":"x","error":{"message":"y"}}'`),
      code: 'ISSUER_INVALID_RESPONSE',
      says: /both/,
    },
    {
      name: 'writes an error without a message',
      command: shell(`echo '{"error":"no"}'`),
      code: 'ISSUER_INVALID_RESPONSE',
      says: /error without a message/,
    },
    {
      name: 'writes without end',
      command: shell('exec cat /dev/zero'),
      code: 'ISSUER_INVALID_RESPONSE',
      says: /more than 64 KiB and was killed/,
    },
    {
      name: 'fails, and says why',
      command: shell(`echo '{"certificate":"x"}'; echo 'no route' >&2; exit 3`),
      code: 'ISSUER_INVALID_RESPONSE',
      says: /failed with exit status 3: no route$/,
    },
    {
      name: 'is killed',
      command: shell('kill -SEGV $$'),
      code: 'ISSUER_INVALID_RESPONSE',
      says: /failed with SIGSEGV/,
    },
    {
      name: 'is too late',
      command: shell('exec sleep 600'),
      code: 'ISSUER_TIMEOUT',
      says: /did not finish within 1 s and was killed/,
      timeout: 1000,
    },
    {
      name: 'refuses',
      command: shell(`printf '{"error":{"message":"no\\\\u001b[1m\\\\nnever","why":1}}\\n'`),
      code: 'ISSUER_REJECTED',
      says: /\/bin\/sh refused to sign: no \[1m never$/,
    },
  ])('it $name: $code', async ({ command, code, says, timeout = 10_000 }) => {
    const { issuer, requests } = issuerOf(command, timeout)
    const answer = await issuer.issue(requestFor(KEY), NEVER)
    expect(answer).toMatchObject({
      ok: false,
      failure: { code, message: expect.stringMatching(says), retryAfterSeconds: null },
    })
    expect(requests).toEqual([`issue ${code}`])
    expect(issuer.health().reachable).toBe(code === 'ISSUER_REJECTED')
  })

  test.each([
    { written: '60', want: { retryAfterSeconds: 60, next: 'issuer-backoff' } },
    { written: '1e300', want: { retryAfterSeconds: 1e300, next: 'issuer-backoff' } },
    { written: '"soon"', want: { retryAfterSeconds: null, next: 'key-backoff' } },
    { written: '-1', want: { retryAfterSeconds: null, next: 'key-backoff' } },
    { written: 'null', want: { retryAfterSeconds: null, next: 'key-backoff' } },
  ])('retry_after of $written', async ({ written, want }) => {
    const { issuer } = issuerOf(shell(`echo '{"error":{"message":"later","retry_after":${written}}}'`))
    expect(await issuer.issue(requestFor(KEY), NEVER)).toMatchObject({ failure: want })
  })

  async function pidIn(file: string): Promise<number> {
    await expect.poll(async () => readFile(file, 'utf8').catch(() => ''), { timeout: 10_000 }).toMatch(/\n$/)
    return Number(await readFile(file, 'utf8'))
  }

  async function expectGone(pid: number): Promise<void> {
    const stateOf = async (): Promise<string> => readFile(`/proc/${pid}/stat`, 'utf8').catch(() => 'gone')
    await expect.poll(stateOf, { timeout: 10_000 }).toMatch(/^gone$|\) Z /)
  }

  test('what it started is killed with it: at the deadline, by the signal, and when it ends', async () => {
    const background = (file: string, rest: string) => shell(`sleep 600 & echo $! >${file}; ${rest}`)
    const files = ['deadline', 'signal', 'end'].map((name) => join(folder.path, name))
    const [deadline = '', bySignal = '', end = ''] = files
    await issuerOf(background(deadline, 'wait'), 3000).issuer.issue(requestFor(KEY), NEVER)
    await expectGone(await pidIn(deadline))

    const stop = new AbortController()
    const asked = issuerOf(background(bySignal, 'wait')).issuer.issue(requestFor(KEY), stop.signal)
    const pid = await pidIn(bySignal)
    stop.abort(new Error('enough'))
    await expect(asked).rejects.toThrow('enough')
    await expectGone(pid)

    const ended = issuerOf(background(end, `echo '{"certificate":"x"}'`))
    expect(await ended.issuer.issue(requestFor(KEY), NEVER)).toMatchObject({ ok: true })
    await expectGone(await pidIn(end))
  })

  test('with the exchange that runs it', async () => {
    const file = join(folder.path, 'pid')
    const command = shell(`echo $$ >${file}; exec sleep 600`)
    const settings = {
      issuer: { kind: 'command', command, timeoutMilliseconds: 60_000 },
      log: { level: 'error', format: 'json' },
    } as const
    const metrics = { issuerRequest: () => {}, loginFailed: () => {} }
    const program = [process.execPath, MAIN, 'exchange']
    const issuer = createExchangeClient({ program, socket: null, mayBeChild: true, settings, clock, metrics })
    const stop = new AbortController()
    const asked = issuer.issue(requestFor(KEY), stop.signal)
    const pid = await pidIn(file)
    stop.abort(new Error('enough'))
    await expect(asked).rejects.toThrow('enough')
    await expectGone(pid)
  })
})

describe('the script of the documents', () => {
  async function sign(request: object, ...args: readonly string[]) {
    await generateKey(join(folder.path, 'hostcertd_ca'), 'ed25519')
    vi.stubEnv('CREDENTIALS_DIRECTORY', folder.path)
    const { stdout } = spawnSync('/bin/sh', [SCRIPT, 'credential:ca', 'web1.example.com,web1', ...args], {
      input: `${JSON.stringify(request)}\n`,
      encoding: 'utf8',
    })
    expect(stdout).toMatch(/^[^\n]+\n$/)
    return JSON.parse(stdout) as { certificate?: string; error?: { message: string } }
  }

  test('it signs for the names of its arguments, whatever the request says', async () => {
    const key = await generateKey(
      join(folder.path, 'key'),
      'ecdsa',
      'a "comment" with "public_key":"ssh-rsa AAAA"',
    )
    const { certificate = '' } = await sign(
      { public_key: key, principals: ['other.example.com'], more: 1 },
      '+1h',
    )
    expect(parseCertificate(certificate)).toMatchObject({
      principals: ['web1.example.com', 'web1'],
      keyId: 'web1.example.com',
    })
    expect(certificate).toContain(key.split(' ')[0]?.split('-').at(-1) ?? '')
  })

  test.each([
    { name: 'no key', request: {}, says: 'no public_key in the request' },
    {
      name: 'a key that is none',
      request: { public_key: 'ssh-ed25519 AAAA x' },
      says: 'ssh-keygen did not sign: see the log',
    },
    {
      name: 'a key that wants more',
      request: { public_key: '$(id) `id`' },
      says: 'no public_key in the request',
    },
  ])('$name: refused', async ({ request, says }) => {
    expect(await sign(request)).toEqual({ error: { message: says } })
  })

  test('it is executable, and the file that a package would install', async () => {
    const copy = join(folder.path, 'sign-host-key')
    await writeFile(copy, await readFile(SCRIPT))
    await chmod(copy, 0o755)
    const { issuer } = issuerOf([copy, '/nowhere/ca', 'web1'])
    const key = await generateKey(join(folder.path, 'key'), 'ed25519')
    expect(await issuer.issue(requestFor(key), NEVER)).toMatchObject({ failure: { code: 'ISSUER_REJECTED' } })
  })
})
