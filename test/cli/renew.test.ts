import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { errorRow, startLocalIssuer, type LocalIssuer } from '../support/local-issuer.ts'
import { certificateOf, ECDSA, ED25519, makeBareHost, memberOf, type BareHost } from './bare-host.ts'
import { exitOf } from './hostcertd.ts'

const OLD = { validity: '-100h:+1h' }

let host: BareHost
let issuer: LocalIssuer
let configure: (changes?: object) => Promise<void>

beforeEach(async () => {
  host = await makeBareHost()
  issuer = await startLocalIssuer({ folder: host.folder })
  const hostId = issuer.addHost({ hostname: 'web1.example.com', ttlSeconds: 3600 })
  const { clientId, clientSecret } = issuer.addIdentity({ mayIssueFor: [hostId] })
  const clientSecretFile = join(host.folder, 'client-secret')
  await writeFile(clientSecretFile, `${clientSecret}\n`)
  const ca = join(host.folder, 'issuer-ca.pub')
  await writeFile(ca, `${issuer.caPublicKey}\n`)
  const usual = {
    ...memberOf({ url: issuer.url, hostId, clientId, clientSecretFile }),
    verify: { host_ca_file: ca },
  }
  configure = async (changes = {}) => host.configure({ ...usual, ...changes })
  await configure()
})

afterEach(async () => {
  await issuer.stop()
  await host[Symbol.asyncDispose]()
})

test('issues what is due, and then nothing is; --force issues all the same', async () => {
  const first = await host.verb(['renew'])
  expect(first).toMatchObject({ status: 0, stderr: '' })
  expect(first.stdout).toMatch(
    /^ssh_host_ed25519_key: renewed \(absent\), serial \d+, valid until \d{4}-\S+Z\n$/,
  )
  const placed = await certificateOf(host, ED25519)
  expect(placed).toMatch(/^ssh-ed25519-cert-v01@openssh\.com /)

  expect(await host.verb(['renew'])).toEqual({ status: 0, stdout: 'nothing is due\n', stderr: '' })
  expect(await host.verb(['renew', '--json'])).toEqual({ status: 0, stdout: '[]\n', stderr: '' })
  expect(issuer.issued).toHaveLength(1)

  const forced = await host.verb(['renew', '--force', '--json'])
  expect(forced).toMatchObject({ status: 0, stderr: '' })
  expect(JSON.parse(forced.stdout)).toEqual([
    {
      host_key: ED25519,
      result: 'renewed',
      reason: 'forced',
      serial: String(issuer.issued[1]?.serial),
      valid_after: expect.stringMatching(/Z$/) as string,
      valid_before: expect.stringMatching(/Z$/) as string,
    },
  ])
  expect(await certificateOf(host, ED25519)).not.toBe(placed)
})

test('a key of a type that the issuer refuses: ignored, which is no failure, and not asked for again', async () => {
  const name = 'ssh_host_p521_key'
  await host.addHostKey(name, 'ecdsa-521')
  const first = await host.verb(['renew'])
  expect(first).toMatchObject({ status: 0, stderr: '' })
  expect(first.stdout).toMatch(
    /^ssh_host_ed25519_key: renewed .*\nssh_host_p521_key: ignored: the issuer does not sign .*unsupported key type/,
  )
  const requests = issuer.requests.length
  expect(await host.verb(['renew'])).toEqual({ status: 0, stdout: 'nothing is due\n', stderr: '' })
  expect(issuer.requests).toHaveLength(requests)
  const asked = await host.verb(['renew', '--json', '--host-key', name])
  expect(asked).toMatchObject({ status: 0, stderr: '' })
  expect(JSON.parse(asked.stdout)).toMatchObject([
    { host_key: name, result: 'ignored', error: { code: 'ISSUER_REJECTED' } },
  ])
})

test('--dry-run issues and verifies, and writes nothing', async () => {
  const marker = join(host.folder, 'reloaded')
  await configure({ sshd: { address: 'none', reload_command: ['/usr/bin/touch', marker] } })
  const before = await host.files()
  const result = await host.verb(['renew', '--dry-run'])
  expect(result).toMatchObject({ status: 0, stderr: '' })
  expect(result.stdout).toMatch(/^ssh_host_ed25519_key: would be renewed \(absent\), serial \d+/)
  expect(issuer.issued).toHaveLength(1)
  const after = await host.files()
  expect(after.filter((file) => !file.startsWith('issuer'))).toEqual(
    before.filter((file) => !file.startsWith('issuer')),
  )

  issuer.failNext({ status: 503, body: {} }, 1, 'issue')
  expect(await host.verb(['renew', '--dry-run', '--force'])).toMatchObject({ status: 1, stdout: '' })
  expect((await host.files()).join('\n')).not.toMatch(/attempts\.json|reloaded|-cert\.pub/)
  // The same without --dry-run does reload, so the marker would have shown it.
  expect(await host.verb(['renew'])).toMatchObject({ status: 0 })
  expect((await host.files()).join('\n')).toMatch(/attempts\.json[^]*reloaded|reloaded[^]*attempts\.json/)
})

test('--host-key: only that one; one that is not there is an error and nothing is done', async () => {
  await host.addHostKey(ECDSA, 'ecdsa')
  const path = host.hostKeyPath(ECDSA)
  const one = await host.verb(['renew', '--host-key', path])
  expect(one).toMatchObject({ status: 0, stderr: '' })
  expect(one.stdout).toMatch(new RegExp(`^${ECDSA}: renewed`))
  expect(await certificateOf(host, ED25519)).toBeNull()

  const unknown = await host.verb(['renew', '--force', '--host-key', '/etc/other.pub'])
  expect(unknown).toEqual({
    status: 1,
    stdout: '',
    stderr: `HOST_KEY_UNREADABLE: no such host key: /etc/other.pub (available: ${ECDSA}, ${ED25519})\n`,
  })
  expect(issuer.issued).toHaveLength(1)
})

test('the first one, before there is a state directory', async () => {
  await rm(host.statePath, { recursive: true })
  expect(await host.verb(['renew'])).toMatchObject({ status: 0, stderr: '' })
})

test('a failure is 1 and told on stderr, and the backoff it leaves does not hold up the next renew', async () => {
  await host.certify(ED25519, { ...OLD, ca: issuer.caKeyPath })
  issuer.failNext({ status: 403, body: { message: 'no' } }, 1, 'issue')
  const failed = await host.verb(['renew'])
  expect(failed).toMatchObject({ status: 1, stdout: '' })
  expect(failed.stderr).toMatch(/^ssh_host_ed25519_key: ISSUER_FORBIDDEN: /m)
  const again = await host.verb(['renew'])
  expect(again).toMatchObject({ status: 0 })
  expect(again.stdout).toMatch(/^ssh_host_ed25519_key: renewed/)
})

test('a locked login is waited out: 1, not asked again, and says for how long', async () => {
  issuer.failNext(errorRow('identity-locked'), 1, 'login')
  expect(await host.verb(['renew'])).toMatchObject({ status: 1 })
  const requests = issuer.requests.length
  const [text, json] = [await host.verb(['renew', '--force']), await host.verb(['renew', '--json'])]
  expect(text).toMatchObject({ status: 1, stdout: '' })
  expect(text.stderr).toMatch(
    /^ssh_host_ed25519_key: due \(absent\), not tried: the issuer has locked the login for another [45]m.*\n$/,
  )
  expect(json.status).toBe(1)
  expect(JSON.parse(json.stdout)).toEqual([
    {
      host_key: ED25519,
      result: 'waiting',
      reason: 'absent',
      until: expect.stringMatching(/Z$/) as string,
    },
  ])
  expect(issuer.requests).toHaveLength(requests)
})

test('a host key that cannot be read is a failure', async () => {
  await writeFile(host.hostKeyPath('ssh_host_rsa_key'), 'ssh-rsa half')
  const result = await host.verb(['renew'])
  expect(result.status).toBe(1)
  expect(result.stdout).toMatch(/^ssh_host_ed25519_key: renewed/)
  expect(result.stderr).toMatch(/^ssh_host_rsa_key: HOST_KEY_UNREADABLE: /m)
})

test('waits for the lock while another process holds it', async () => {
  const lock = join(host.statePath, 'lock')
  const holder = spawn('sh', ['-c', 'exec flock "$0" sh -c "echo held; read _"', lock], {
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  try {
    await once(holder.stdout, 'data')
    let ended = false
    const renewal = host.verb(['renew']).finally(() => {
      ended = true
    })
    await sleep(2_500)
    expect(ended).toBe(false)
    expect(issuer.requests).toHaveLength(0)
    holder.stdin.end('\n')
    expect(await renewal).toMatchObject({ status: 0 })
  } finally {
    holder.stdin.end()
    holder.kill()
    await exitOf(holder)
  }
})

test('a state directory that cannot be: 1, with its name', async () => {
  // Below a file.
  await configure({ state_directory: join(host.configPath, 'state') })
  const { status, stdout, stderr } = await host.verb(['renew'])
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
  expect(stderr).toMatch(/^STORE_FAILED: .*hostcertd\.yaml\/state/)
})

test('a credential that cannot be read matters only when something is due', async () => {
  await configure({ auth: { method: 'token', token_file: '/nowhere/token' } })
  const failed = await host.verb(['renew'])
  expect(failed.status).toBe(1)
  expect(failed.stderr).toMatch(/^ssh_host_ed25519_key: CREDENTIAL_UNREADABLE: .*\/nowhere\/token/m)
  await host.certify(ED25519, { ca: issuer.caKeyPath })
  expect(await host.verb(['renew'])).toMatchObject({ status: 0, stdout: 'nothing is due\n' })
})
