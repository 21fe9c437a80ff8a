import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { LogLine } from '../support/agent.ts'
import { ERROR_ROW_NAMES, errorRow, type ErrorRowName, type Fault } from '../support/local-issuer.ts'
import { certificateOnDisk, hostKeyName, isServed, requestsTo } from '../support/looks.ts'
import { makeWorld, type World } from '../support/world.ts'

const NAME = hostKeyName('ed25519')

/** Seconds after the first failure, from the shortest to the longest; a tenth of the hour left would be six minutes. */
const WAITS = {
  issuer: [2, 3],
  key: [3, 5],
  login: [105, 150],
  lock: [303, 323],
  administrator: [84, 120],
  'retry-after': [54, 61],
} as const

interface Row {
  readonly code: string
  readonly wait: keyof typeof WAITS
  readonly route?: 'login'
  /** The web framework's own answers have none. */
  readonly noRequestId?: true
}

const ROWS: Readonly<Record<ErrorRowName, Row>> = {
  'unsupported-key': { code: 'ISSUER_REJECTED', wait: 'key' },
  'unparsable-key': { code: 'ISSUER_REJECTED', wait: 'key' },
  'token-missing': { code: 'ISSUER_UNAUTHORIZED', wait: 'login' },
  'token-unknown': { code: 'ISSUER_UNAUTHORIZED', wait: 'login' },
  'token-used-up': { code: 'ISSUER_UNAUTHORIZED', wait: 'login' },
  'wrong-secret': { code: 'ISSUER_UNAUTHORIZED', wait: 'login', route: 'login' },
  'identity-locked': { code: 'LOGIN_LOCKED', wait: 'lock', route: 'login' },
  'unknown-client-id': { code: 'ISSUER_UNAUTHORIZED', wait: 'login', route: 'login' },
  'token-expired': { code: 'ISSUER_UNAUTHORIZED', wait: 'login' },
  'token-malformed': { code: 'ISSUER_UNAUTHORIZED', wait: 'login' },
  'token-signature': { code: 'ISSUER_UNAUTHORIZED', wait: 'login' },
  'permission-denied': { code: 'ISSUER_FORBIDDEN', wait: 'administrator' },
  'not-member': { code: 'ISSUER_FORBIDDEN', wait: 'administrator' },
  'forbidden-access': { code: 'ISSUER_FORBIDDEN', wait: 'administrator' },
  'forbidden-ip': { code: 'ISSUER_FORBIDDEN', wait: 'administrator' },
  'host-not-found': { code: 'ISSUER_NOT_FOUND', wait: 'administrator' },
  'route-not-found': { code: 'ISSUER_NOT_FOUND', wait: 'administrator', noRequestId: true },
  validation: { code: 'ISSUER_REJECTED', wait: 'key' },
  'rate-limited': { code: 'ISSUER_BUSY', wait: 'retry-after' },
  'server-error': { code: 'ISSUER_BUSY', wait: 'issuer' },
}

const swapSignature = (signedKey: string): string => {
  const [type = '', base64 = ''] = signedKey.split(' ')
  const blob = Buffer.from(base64, 'base64')
  blob.writeUInt8(blob.readUInt8(blob.length - 5) ^ 1, blob.length - 5)
  return `${type} ${blob.toString('base64')}\n`
}

const FAULTS: readonly (Row & { name: string; fault: Fault })[] = [
  { name: 'no answer', fault: { kind: 'hang' }, code: 'ISSUER_TIMEOUT', wait: 'issuer' },
  { name: 'a reset', fault: { kind: 'reset' }, code: 'ISSUER_UNREACHABLE', wait: 'issuer' },
  { name: 'half an answer', fault: { kind: 'half-body' }, code: 'ISSUER_UNREACHABLE', wait: 'issuer' },
  {
    name: 'an answer without end',
    fault: { kind: 'huge' },
    code: 'ISSUER_INVALID_RESPONSE',
    wait: 'key',
  },
  { name: "a proxy's page", fault: { kind: 'html' }, code: 'ISSUER_BUSY', wait: 'issuer' },
  {
    name: "a proxy's page, 200",
    fault: { kind: 'html', status: 200 },
    code: 'ISSUER_INVALID_RESPONSE',
    wait: 'key',
  },
  {
    name: 'no certificate in the answer',
    fault: { status: 200, body: { serialNumber: '1' } },
    code: 'ISSUER_INVALID_RESPONSE',
    wait: 'key',
  },
  {
    name: 'a damaged certificate',
    fault: { kind: 'tamper', edit: swapSignature },
    code: 'CERT_SIGNATURE_INVALID',
    wait: 'key',
  },
  {
    name: 'text for a certificate',
    fault: { kind: 'tamper', edit: () => 'ssh-ed25519-cert-v01@openssh.com AAAA\n' },
    code: 'CERT_UNPARSABLE',
    wait: 'key',
  },
]

let world: World
let before: string | null
let bytes: string

beforeAll(async () => {
  world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'] } })
  const { agent, issuer, sshd } = world
  await agent.configure(
    world.configWith({ issuer: { url: issuer.url, ssh_host_id: world.hostId, timeout: '1s' } }),
  )
  const first = await agent.verb('renew')
  if (first.status !== 0) throw new Error(`no certificate to begin with: ${first.stderr}`)
  before = await certificateOnDisk(world, 'ed25519')
  bytes = await readFile(sshd.certificatePath('ed25519'), 'utf8')
})
afterAll(async () => world[Symbol.asyncDispose]())

/** Ask for a certificate, with what waits there were forgotten; it must fail as told and leave what is in place. */
async function expectFailure(row: Row): Promise<LogLine> {
  const { agent, sshd } = world
  await rm(join(agent.folder, 'state', 'attempts.json'), { force: true })
  const { status, stdout, stderr } = await agent.verb('renew', '--force', '--json')
  expect(status).toBe(1)
  expect(JSON.parse(stdout)).toMatchObject([{ host_key: NAME, result: 'failed', error: { code: row.code } }])
  const lines = stderr
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as LogLine)
  const line = lines.find(({ code, host_key }) => code === row.code && host_key === NAME)
  const [least, most] = WAITS[row.wait]
  const retryIn = Number(line?.['retry_in_seconds'])
  expect(retryIn).toBeGreaterThanOrEqual(least)
  expect(retryIn).toBeLessThanOrEqual(most)
  expect(await readFile(sshd.certificatePath('ed25519'), 'utf8')).toBe(bytes)
  return line ?? { level: '', msg: '' }
}

test.each(ERROR_ROW_NAMES)('the row %s', async (name) => {
  const { issuer } = world
  const row = ROWS[name]
  const route = row.route ?? 'issue'
  const answer = errorRow(name)
  issuer.failAlways(answer, route)
  const counts = { login: requestsTo(issuer, 'login'), issue: requestsTo(issuer, 'issue') }
  try {
    const line = await expectFailure(row)
    const { reqId } = answer.body as { reqId?: string }
    expect(line['request_id']).toBe(row.noRequestId === true ? null : reqId)
    // A token that is refused is replaced once; nothing else is tried twice.
    const isAboutToken = row.wait === 'login' && route === 'issue'
    expect(requestsTo(issuer, 'login') - counts.login).toBe(isAboutToken ? 2 : 1)
    expect(requestsTo(issuer, 'issue') - counts.issue).toBe(isAboutToken ? 2 : route === 'issue' ? 1 : 0)
  } finally {
    issuer.heal()
  }
})

test.each(FAULTS)('$name', async ({ fault, ...row }) => {
  world.issuer.failAlways(fault, 'issue')
  try {
    await expectFailure(row)
  } finally {
    world.issuer.heal()
  }
})

test('a redirect is not followed, and nobody else gets the token', async () => {
  const { issuer } = world
  const location = `${issuer.url}/elsewhere`
  issuer.failAlways({ kind: 'redirect', location }, 'issue')
  try {
    const line = await expectFailure({ code: 'ISSUER_INVALID_RESPONSE', wait: 'key' })
    expect(line.msg).toContain('/elsewhere')
    expect(issuer.requests.filter(({ path }) => path === '/elsewhere')).toEqual([])
  } finally {
    issuer.heal()
  }
})

test('an issuer that is down, and after all of this the old certificate is served', async () => {
  const { agent, issuer } = world
  await issuer.stop()
  await expectFailure({ code: 'ISSUER_UNREACHABLE', wait: 'issuer' })
  expect(await certificateOnDisk(world, 'ed25519')).toBe(before)
  expect(await isServed(world, 'ed25519')).toBe(true)
  await issuer.start()
  await rm(join(agent.folder, 'state', 'attempts.json'), { force: true })
  expect((await agent.verb('renew', '--force')).status).toBe(0)
  expect(await certificateOnDisk(world, 'ed25519')).not.toBe(before)
})
