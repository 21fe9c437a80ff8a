import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { IssuerConfig } from '../../agent/config/config.ts'
import {
  createExchangeClient,
  type ExchangeClient,
  type ExchangeClientOptions,
} from '../../agent/issuer/exchange-client.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'
import { NEVER, sendJson, startRawServer } from './harness.ts'

const MAIN = fileURLToPath(new URL('../../agent/main.ts', import.meta.url))
/** Writes a line to a file when the HTTP library is loaded. */
const hooks = (file: string): string =>
  `data:text/javascript,${encodeURIComponent(
    `import { appendFileSync } from 'node:fs'; import { registerHooks } from 'node:module'
    registerHooks({ resolve(name, context, next) {
      if (name === 'undici') appendFileSync(${JSON.stringify(file)}, 'loaded\\n')
      return next(name, context)
    } })`,
  )}`

let folder: TemporaryFolder
const at = (name: string): string => join(folder.path, name)
beforeEach(async () => {
  folder = await makeTemporaryFolder()
  await mkdir(at('keys'))
})
afterEach(() => folder.remove())

const script = (): readonly string[] => ['/bin/sh', '-c', `cat >${at('request')}; echo '{"certificate":"x"}'`]
const commandIssuer = (): IssuerConfig => ({
  kind: 'command',
  command: script(),
  timeoutMilliseconds: 30_000,
})

/**
 * `hostcertd exchange --configured`, as the unit starts it, with this configuration.
 *
 * @param instance as systemd names it: number, process and user of the connection
 */
async function unitWith(
  configured: object,
  issuer: IssuerConfig,
  instance = '3-4711-992',
  more: Partial<ExchangeClientOptions['settings']> = {},
): Promise<ExchangeClient> {
  const log = { level: 'error', format: 'json' } as const
  await writeFile(at('hostcertd.yaml'), JSON.stringify({ host_keys: at('keys/*.pub'), log, ...configured }))
  const node = [process.execPath, '--import', hooks(at('undici')), MAIN, 'exchange', '--configured', instance]
  return createExchangeClient({
    program: ['/usr/bin/env', `HOSTCERTD_CONFIG=${at('hostcertd.yaml')}`, ...node],
    socket: null,
    mayBeChild: true,
    settings: { issuer, log, ...more },
    clock: { now: () => 1_800_000_000, uptime: () => 0, dice: () => 0, sleep: async () => {} },
    metrics: { issuerRequest: () => {}, loginFailed: () => {} },
  })
}

describe('hostcertd exchange --configured, with issuer.command', () => {
  const configured = (
    verify: object = { host_ca_file: '/ca.pub', principals: ['web1.example.com'] },
  ): object => ({
    issuer: { command: script() },
    verify,
  })
  const asked = { hostKey: 'other', principals: ['other.example.com'] }

  test('name and principals come from its own configuration, and HTTP is not loaded', async () => {
    const publicKey = await generateKey(at('keys/ssh_host_ed25519_key'), 'ed25519', 'root@web1')
    const issuer = await unitWith(configured(), commandIssuer())
    expect(await issuer.issue({ publicKey, ...asked }, NEVER)).toMatchObject({ ok: true, serialNumber: null })
    expect(JSON.parse(await readFile(at('request'), 'utf8'))).toEqual({
      public_key: publicKey,
      key_type: 'ssh-ed25519',
      host_key: 'ssh_host_ed25519_key',
      principals: ['web1.example.com'],
    })
    await expect(readFile(at('undici'))).rejects.toThrow('ENOENT')
    issuer.end()
  })

  test('no other key is signed than one of this host', async () => {
    const publicKey = await generateKey(at('stranger'), 'ed25519')
    const issuer = await unitWith(configured(), commandIssuer())
    expect(await issuer.issue({ publicKey, ...asked }, NEVER)).toMatchObject({
      failure: { code: 'ISSUER_REJECTED', message: 'this key is not one of those that host_keys names' },
    })
    issuer.end()
  })

  test('nor one in a second line: the line is made anew', async () => {
    const stranger = await generateKey(at('stranger'), 'ed25519')
    const [type, blob] = (await generateKey(at('keys/ssh_host_ed25519_key'), 'ed25519')).split(' ')
    const issuer = await unitWith(configured(), commandIssuer())
    const publicKey = `x ${blob} c\n${stranger}`
    expect(await issuer.issue({ publicKey, ...asked }, NEVER)).toMatchObject({ ok: true })
    issuer.end()
    const request = JSON.parse(await readFile(at('request'), 'utf8'))
    expect(request.public_key).toMatch(new RegExp(`^${type} `))
    expect(request.public_key).not.toContain('\n')
  })

  test.each([
    {
      name: 'another program',
      issuer: { ...commandIssuerAs('/bin/other') },
      says: /differs from the one in use/,
    },
    { name: 'no pinned CA', verify: {}, says: /^verify\.host_ca_file: is required with issuer\.command/ },
    {
      name: 'principals that are none',
      verify: { host_ca_file: '/c', principals: 'a' },
      says: /^verify\.principals: must be a list/,
    },
  ])('$name: refused', async ({ issuer = null, verify, says }) => {
    const publicKey = await generateKey(at('keys/ssh_host_ed25519_key'), 'ed25519')
    const exchange = await unitWith(configured(verify), issuer ?? commandIssuer())
    expect(await exchange.issue({ publicKey, ...asked }, NEVER)).toMatchObject({
      failure: { code: 'CONFIG_INVALID', message: expect.stringMatching(says) },
    })
    await expect(readFile(at('request'))).rejects.toThrow('ENOENT')
    exchange.end()
  })
})

function commandIssuerAs(program: string): IssuerConfig {
  return { kind: 'command', command: [program], timeoutMilliseconds: 30_000 }
}

test('with an issuer over HTTP, a problem in `verify` does not concern it', async () => {
  const url = 'http://127.0.0.1:1'
  const sshHostId = '8c1efcfc-434c-4c43-80e3-53c9eae6672a'
  const auth = { method: 'token', tokenFile: at('token') } as const
  const publicKey = await generateKey(at('keys/ssh_host_ed25519_key'), 'ed25519')
  await writeFile(at('token'), 'token')
  const issuer = await unitWith(
    {
      issuer: { url, ssh_host_id: sshHostId },
      auth: { method: 'token', token_file: at('token') },
      verify: { principals: 'a' },
    },
    { kind: 'http', url, sshHostId, caFile: null, timeoutMilliseconds: 30_000, auth },
  )
  expect(await issuer.issue({ publicKey, hostKey: 'x', principals: [] }, NEVER)).toMatchObject({
    failure: { code: 'ISSUER_UNREACHABLE' },
  })
  expect(await readFile(at('undici'), 'utf8')).toMatch(/^(?:loaded\n)+$/)
  issuer.end()
})

describe('hosts at the issuer', () => {
  const sshHostId = '8c1efcfc-434c-4c43-80e3-53c9eae6672a'
  const find = { by: { kind: 'id', id: 'ffffffff-434c-4c43-80e3-53c9eae6672a' } } as const
  const auth = { method: 'token', tokenFile: 'credential:admin-token' } as const
  const http = (url: string): IssuerConfig => ({
    kind: 'http',
    url,
    sshHostId,
    caFile: null,
    timeoutMilliseconds: 30_000,
    auth,
  })
  const configured = (url: string): object => ({
    issuer: { url, ssh_host_id: sshHostId },
    auth: { method: 'token', token_file: 'credential:admin-token' },
  })
  const credentials = { 'admin-token': 'a-token' }
  const serve = async () => startRawServer((_request, response) => sendJson(response, 404, {}))

  test('root, with credentials, is not bound by the configuration', async () => {
    await using server = await serve()
    const exchange = await unitWith(configured('http://127.0.0.1:1'), http(server.url), '3-4711-0', {
      credentials,
    })
    expect(await exchange.findHost(find, NEVER)).toMatchObject({ failure: { code: 'ISSUER_NOT_FOUND' } })
    exchange.end()
    expect(server.seen).toMatchObject([{ headers: { authorization: 'Bearer a-token' } }])
  })

  test.each([
    { systemd: 257, instance: '3-4711_81-0' },
    { systemd: 262, instance: '3-4211-4711_81-0' },
  ])('nor does root need a configuration, with systemd $systemd', async ({ instance }) => {
    await using server = await serve()
    const exchange = await unitWith({ unknown: 1 }, http(server.url), instance, { credentials })
    expect(await exchange.findHost(find, NEVER)).toMatchObject({ failure: { code: 'ISSUER_NOT_FOUND' } })
    exchange.end()
  })

  test.each([
    { name: 'another user', instance: '3-4711-992', more: { credentials } },
    { name: 'another user, with systemd 262', instance: '3-4211-4711_81-992', more: { credentials } },
    { name: 'a user whose number ends as root’s', instance: '3-4711-1000', more: { credentials } },
    { name: 'an unknown user', instance: '3-unknown', more: { credentials } },
    { name: 'no user', instance: '', more: { credentials } },
    { name: 'root, without credentials', instance: '3-4711-0', more: {} },
  ])('$name is bound by it', async ({ instance, more }) => {
    await using server = await serve()
    const exchange = await unitWith(configured('http://127.0.0.1:1'), http(server.url), instance, more)
    expect(await exchange.findHost(find, NEVER)).toMatchObject({
      failure: { code: 'CONFIG_INVALID', message: expect.stringContaining('differs from the one in use') },
    })
    exchange.end()
    expect(server.seen).toEqual([])
  })

  test('the daemon may neither find nor delete any, and asks for the user CA of its own host', async () => {
    await using server = await serve()
    const exchange = await unitWith(configured(server.url), http(server.url))
    const refused = { failure: { code: 'ISSUER_REJECTED', message: expect.stringContaining('only root') } }
    expect(await exchange.findHost(find, NEVER)).toMatchObject(refused)
    expect(await exchange.deleteHost({ hostId: sshHostId }, NEVER)).toMatchObject(refused)
    await exchange.userCa({ hostId: find.by.id }, NEVER)
    exchange.end()
    expect(server.seen).toMatchObject([{ path: `/api/v1/ssh/hosts/${sshHostId}/user-ca-public-key` }])
  })
})
