import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { parseCaKeys } from '../../agent/cert/public-key.ts'
import type { Enrollment } from '../../agent/host/enrollment.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { EnrollHost, NAMES } from './enroll-host.ts'

/** What `enroll` finds and plans on a host, seen by `--dry-run`. */

const CONFIG = '/etc/hostcertd/hostcertd.yaml'
const PINS = '/etc/hostcertd/host-ca.pub'
const DEFAULTS = '/etc/default/hostcertd'
const ENROLLMENT = '/var/lib/hostcertd-enroll/enrollment.json'
const RETURN = '/var/lib/hostcertd-enroll/ephemeral.json'
const INSTANCE = '/var/lib/cloud/data/instance-id'
const TOKEN = '/etc/hostcertd/credentials/token'
const KEEP = { url: null, hostId: null, method: null, login: {} }

let host: EnrollHost
beforeAll(async () => {
  host = await EnrollHost.make()
})
beforeEach(() => host.reset())
afterAll(() => host[Symbol.asyncDispose]())

function configured({ principals }: { readonly principals?: string } = {}): string {
  return `issuer:
  url: https://issuer.example.com
  ssh_host_id: ${NAMES.hostId}
auth:
  method: token
  token_file: credential:token
verify:
  principals: [${principals ?? NAMES.host}]
`
}

function enrolled(changes: Partial<Enrollment> = {}): string {
  const enrollment: Enrollment = {
    version: 1,
    machine_id: 'a'.repeat(32),
    instance_id: { cloud_init: null, board_asset_tag: null },
    host_keys: [],
    enrolled_at: '2026-01-01T00:00:00Z',
    enrolled_by: 'root',
    hostcertd: '0',
    host_id: NAMES.hostId,
    hostname: NAMES.host,
    ephemeral: false,
    ...changes,
  }
  return JSON.stringify(enrollment)
}

function enrollmentIn(files: Awaited<ReturnType<EnrollHost['look']>>['files']): Partial<Enrollment> {
  return JSON.parse(files[ENROLLMENT]?.content ?? '{}') as Partial<Enrollment>
}

describe('the configuration', () => {
  test.each([
    { name: 'names that a person added stay', principals: `${NAMES.host}, www.example.com`, hostname: null },
    { name: 'with --hostname too', principals: `${NAMES.host}, www.example.com`, hostname: NAMES.host },
  ])('$name', async ({ principals, hostname }) => {
    const files = { [CONFIG]: configured({ principals }), [PINS]: host.caKeys[0] }
    const looked = await host.look({ files, options: { ...KEEP, hostname } })
    expect(looked).toMatchObject({ error: null })
    expect(looked.files[CONFIG]).toBeUndefined()
  })

  test('another --hostname replaces the names', async () => {
    const files = { [CONFIG]: configured({ principals: 'web2.example.com' }), [PINS]: host.caKeys[0] }
    const looked = await host.look({
      files,
      options: { ...KEEP, hostId: NAMES.hostId, hostname: NAMES.host },
    })
    expect(looked.files[CONFIG]?.content).toContain(`principals: [${NAMES.host}]`)
  })

  test('what is wrong with it is named where it has to say how the host logs in', async () => {
    const files = { [CONFIG]: configured().replace('token_file', 'tokenfile') }
    const { error } = await host.look({ files, options: KEEP })
    expect(error).toMatch(/auth\.tokenfile/)
  })

  test.each(['HOSTCERTD_CONFIG=/etc/other.yaml', 'A=b\nHOSTCERTD_CONFIG="/etc/other.yaml"'])(
    'the service reads another one by its environment: %s',
    async (text) => {
      const { error } = await host.look({ files: { [DEFAULTS]: `${text}\n` } })
      expect(error).toMatch(/^\/etc\/default\/hostcertd sets HOSTCERTD_CONFIG to "\/etc\/other.yaml".*remove/)
    },
  )

  test.each([`HOSTCERTD_CONFIG=${CONFIG}`, '#HOSTCERTD_CONFIG=/etc/other.yaml', 'HOSTCERTD_CONFIG='])(
    'the service reads the usual one: %s',
    async (text) => {
      expect(await host.look({ files: { [DEFAULTS]: `${text}\n` } })).toMatchObject({ error: null })
    },
  )
})

describe('the host CA', () => {
  test('of several that are pinned, clients are told the one that signed first', async () => {
    const [ca, other] = host.caKeys
    const looked = await host.look({ files: { [PINS]: `${ca}\n${other}\n` } })
    expect(looked.error).toBeNull()
    expect(looked.knownHosts).toEqual([ca, other].map((key) => `@cert-authority *.example.com ${key.trim()}`))
    expect(looked.files[PINS]).toBeUndefined()
  })

  test('a host that would be registered has no certificate yet, and no line for clients', async () => {
    const options = { hostId: null, project: NAMES.project, register: { ttl: null, alias: null } }
    const looked = await host.look({ files: { [PINS]: host.caKeys[1] }, options })
    expect(looked).toMatchObject({ error: null, hostId: null, knownHosts: [] })
    expect(looked.steps[0]).toEqual({ step: 'register the host', changed: true, detail: NAMES.host })
    expect(looked.told.join('\n')).toContain('stands for the id that the issuer gives')
  })

  test('a pin that --ca-fingerprint does not name is named', async () => {
    const [fingerprint, other] = host.caKeys.map((key) => parseCaKeys(key)[0]?.fingerprint ?? '')
    const files = { [PINS]: `${host.caKeys.join('\n')}\n` }
    const { told } = await host.look({ files, options: { caFingerprints: [fingerprint ?? ''] } })
    expect(told.filter((line) => line.includes('also pins the CA'))).toEqual([
      expect.stringContaining(`${PINS} also pins the CA ${other}`),
    ])
    expect((await host.look({ files })).told.join('\n')).not.toContain('also pins')
  })
})

describe('--from-certificate', () => {
  const FROM = {
    ...KEEP,
    url: 'https://issuer.example.com',
    method: 'token',
    login: { token_file: 'credential:token' },
    fromCertificate: true,
  } as const

  test('the host is the one of a certificate for a host key of this machine', async () => {
    const files = { '/etc/ssh/ssh_host_ed25519_key-cert.pub': await host.certify(NAMES.hostId) }
    expect(await host.look({ files, options: FROM })).toMatchObject({ error: null, hostId: NAMES.hostId })
  })

  test('a user certificate, and one for a key of another machine, say nothing', async () => {
    const foreign = await generateKey(host.path('foreign'), 'ed25519', '')
    const files = {
      '/etc/ssh/user-cert.pub': await host.certify(NAMES.hostId, { kind: 'user' }),
      '/etc/ssh/left-cert.pub': await host.certify(NAMES.otherId, { publicKey: foreign }),
    }
    const { error } = await host.look({ files, options: FROM })
    expect(error).toMatch(/no host certificate in .* is for a host key of this machine/)
  })

  test('two hosts are not guessed between, until one is configured', async () => {
    const files = {
      '/etc/ssh/one-cert.pub': await host.certify(NAMES.hostId),
      '/etc/ssh/two-cert.pub': await host.certify(NAMES.otherId),
    }
    const { error } = await host.look({ files, options: FROM })
    expect(error).toMatch(/are for different hosts, .*8c1efcfc.*: name the right one by --host-id/)
    const again = await host.look({ files: { [CONFIG]: configured() }, options: FROM })
    expect(again).toMatchObject({ error: null, hostId: NAMES.hostId })
  })
})

test('a host without public halves of its keys is enrolled, and they are written', async () => {
  await rm(host.path('etc/ssh/ssh_host_ed25519_key.pub'))
  const looked = await host.look()
  expect(looked.error).toBeNull()
  expect(looked.files['/etc/ssh/ssh_host_ed25519_key.pub']?.content).toMatch(/^ssh-ed25519 /)
  expect(enrollmentIn(looked.files).host_keys).toEqual([expect.stringMatching(/^SHA256:/)])
})

describe('secrets', () => {
  test('a credential that others can read is corrected, though it is the same', async () => {
    await host.look({ files: { '/etc/token': 'secret\n' } })
    const options = { login: { token_file: '/etc/token' } }
    const open = await host.look({ files: { [TOKEN]: { content: 'secret\n', mode: 0o644 } }, options })
    expect(open.files[TOKEN]).toEqual({ content: 'secret\n', mode: 0o600 })
    const closed = await host.look({ files: { [TOKEN]: { content: 'secret\n', mode: 0o600 } }, options })
    expect(closed.files[TOKEN]).toBeUndefined()
  })

  test('so is a file with the password of a proxy', async () => {
    const content = 'HTTPS_PROXY=http://user:word@proxy.example.com\n'
    const environment = { HTTPS_PROXY: 'http://user:word@proxy.example.com' }
    const looked = await host.look({ files: { [DEFAULTS]: { content, mode: 0o644 } }, environment })
    expect(looked.files[DEFAULTS]).toEqual({ content, mode: 0o600 })
  })
})

describe('enrollment.json', () => {
  const files = () => ({ [CONFIG]: configured(), [PINS]: host.caKeys[0] })

  test('keeps an id that cannot be read any more', async () => {
    const recorded = enrolled({ instance_id: { cloud_init: 'i-1', board_asset_tag: null } })
    const same = await host.look({ files: { ...files(), [ENROLLMENT]: recorded }, options: KEEP })
    expect(same.files[ENROLLMENT]).toBeUndefined()
    const renamed = enrolled({ instance_id: { cloud_init: 'i-1', board_asset_tag: null }, hostname: 'old' })
    const looked = await host.look({ files: { [ENROLLMENT]: renamed }, options: KEEP })
    expect(enrollmentIn(looked.files)).toMatchObject({
      instance_id: { cloud_init: 'i-1' },
      hostname: NAMES.host,
    })
  })

  test('of a copy says what the copy is, and that is told', async () => {
    const recorded = enrolled({ instance_id: { cloud_init: 'i-1', board_asset_tag: 'i-12345678' } })
    const all = { ...files(), [ENROLLMENT]: recorded, [INSTANCE]: 'i-2\n' }
    const looked = await host.look({ files: all, options: KEEP })
    expect(enrollmentIn(looked.files).instance_id?.cloud_init).toBe('i-2')
    expect(enrollmentIn(looked.files).instance_id?.board_asset_tag).not.toBe('i-12345678')
    expect(looked.told).toContainEqual(
      expect.stringMatching(/machine was copied .*; enroll accepts it as it is$/),
    )
  })

  test.each([
    { name: 'the same host', changes: {}, want: true },
    { name: 'another host', changes: { host_id: NAMES.otherId }, want: false },
    { name: 'a copy', changes: { machine_id: 'b'.repeat(32) }, want: false },
  ])('deleted at power-off, $name: still so: $want', async ({ changes, want }) => {
    const recorded = enrolled({ ephemeral: true, ...changes })
    const all = { ...files(), [ENROLLMENT]: recorded, [RETURN]: '{}' }
    const looked = await host.look({ files: all, options: KEEP })
    expect(looked.error).toBeNull()
    const after = enrollmentIn(looked.files)
    expect(looked.files[ENROLLMENT] === undefined ? true : after.ephemeral).toBe(want)
    expect(looked.files[RETURN]).toBe(want ? undefined : null)
    expect(looked.told.some((line) => line.includes('not deleted at the issuer at power-off'))).toBe(!want)
  })
})

describe('the service', () => {
  test.each([
    { name: 'it hangs', systemctl: { isEnabled: ['', 1] } },
    { name: 'there is no bus', systemctl: { isActive: ['', 1] } },
    { name: 'a word that is not known', systemctl: { isActive: ['perplexed', 3] } },
  ] as const)('is not known: $name', async ({ systemctl }) => {
    const { error } = await host.look({ systemctl })
    expect(error).toMatch(/^no answer from `systemctl is-\w+ hostcertd.service`: /)
  })

  test.each([
    { systemctl: { isEnabled: ['not-found', 4], isActive: ['inactive', 4] }, want: 'start the service' },
    { systemctl: { isEnabled: ['disabled', 1], isActive: ['failed', 3] }, want: 'start the service' },
    { systemctl: { isEnabled: ['enabled', 0], isActive: ['active', 0] }, want: 'reload the service' },
  ] as const)('$systemctl: $want', async ({ systemctl, want }) => {
    const { error, steps } = await host.look({ systemctl })
    expect({ error, last: steps.at(-1) }).toEqual({
      error: null,
      last: { step: want, changed: true, detail: 'hostcertd.service' },
    })
  })
})
