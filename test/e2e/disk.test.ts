import { execFile } from 'node:child_process'
import { mkdir, readFile, rename, rm, rmdir, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import type { StatusDocument } from '../../agent/renewal/status-document.ts'
import {
  certificateOnDisk,
  hostKeyName,
  isServed,
  leftovers,
  requestPass,
  requestsTo,
  untilReady,
} from '../support/looks.ts'
import type { HostKeyType } from '../support/private-sshd.ts'
import { generateKey, signCertificate } from '../support/ssh-keygen.ts'
import { HOSTNAME, makeWorld, type World } from '../support/world.ts'

const run = promisify(execFile)

interface Damage {
  readonly name: string
  readonly type: HostKeyType
  readonly state: string
  /** Why a new certificate is asked for. */
  readonly due: string
  readonly make: (world: World, path: string) => Promise<unknown>
}

/** No more than a few for one host key: what keeps breaking is repaired ten times in ten minutes. */
const DAMAGES: readonly Damage[] = [
  {
    name: 'deleted',
    type: 'ed25519',
    state: 'absent null',
    due: 'absent',
    make: async (_world, path) => rm(path),
  },
  {
    name: 'truncated',
    type: 'ecdsa',
    state: 'invalid CERT_UNPARSABLE',
    due: 'unusable',
    make: async (_world, path) => truncate(path, 200),
  },
  {
    name: 'empty',
    type: 'rsa',
    state: 'invalid CERT_UNPARSABLE',
    due: 'unusable',
    make: async (_world, path) => truncate(path, 0),
  },
  {
    name: 'garbage',
    type: 'ed25519',
    state: 'invalid CERT_UNPARSABLE',
    due: 'unusable',
    make: async (_world, path) => writeFile(path, Buffer.alloc(3000, 0xfe)),
  },
  {
    name: 'a byte of the signature changed',
    type: 'ecdsa',
    state: 'invalid CERT_SIGNATURE_INVALID',
    due: 'unusable',
    make: async (_world, path) => {
      const [type = '', base64 = ''] = (await readFile(path, 'utf8')).split(' ')
      const blob = Buffer.from(base64, 'base64')
      blob.writeUInt8(blob.readUInt8(blob.length - 5) ^ 1, blob.length - 5)
      await writeFile(path, `${type} ${blob.toString('base64')}\n`)
    },
  },
  {
    name: "another host's certificate",
    type: 'rsa',
    state: 'invalid CERT_KEY_MISMATCH',
    due: 'key-changed',
    make: async (world, path) => {
      const publicKey = await generateKey(join(world.folder, 'other'), 'rsa', 'root@other')
      await sign(world, path, { publicKey, principals: ['other.example.com'] })
    },
  },
  {
    name: 'a user certificate',
    type: 'ed25519',
    state: 'invalid CERT_NOT_HOST',
    due: 'unusable',
    make: async (world, path) => sign(world, path, { kind: 'user' }),
  },
  {
    name: 'without principals',
    type: 'ecdsa',
    state: 'invalid CERT_NO_PRINCIPALS',
    due: 'unusable',
    make: async (world, path) => sign(world, path, { principals: [] }),
  },
  {
    name: 'of another CA',
    type: 'rsa',
    state: 'invalid CERT_CA_MISMATCH',
    due: 'unusable',
    make: async (world, path) => {
      await generateKey(join(world.folder, 'other-ca'), 'ed25519')
      await sign(world, path, { ca: join(world.folder, 'other-ca') })
    },
  },
  {
    name: 'expired',
    type: 'ed25519',
    state: 'expired CERT_EXPIRED',
    due: 'expired',
    make: async (world, path) => sign(world, path, { validity: '-2h:-1h' }),
  },
  {
    name: 'a FIFO',
    type: 'ecdsa',
    state: 'invalid STORE_FAILED',
    due: 'unusable',
    make: async (_world, path) => {
      const beside = `${path}.fifo`
      await run('mkfifo', [beside])
      await rename(beside, path)
    },
  },
  {
    name: 'a symlink to nothing',
    type: 'rsa',
    state: 'absent null',
    due: 'absent',
    make: async (_world, path) => {
      await rm(path)
      await symlink('/nonexistent', path)
    },
  },
]

/** Put in place of the certificate at `path` another one, by default a good one of the same host key. */
async function sign(
  { issuer }: World,
  path: string,
  wish: Partial<Parameters<typeof signCertificate>[0]>,
): Promise<void> {
  const hostKey = path.replace('/certs/', '/').replace('-cert.pub', '.pub')
  const usual = { ca: issuer.caKeyPath, publicKey: hostKey, principals: [HOSTNAME], validity: '-1m:+1h' }
  await writeFile(path, `${await signCertificate({ ...usual, ...wish })}\n`)
}

test('whatever happens to a certificate on disk is seen for what it is and healed', async () => {
  await using world = await makeWorld()
  const { agent, issuer, sshd } = world
  await agent.start()
  await untilReady(world)
  // From now on `status` looks for itself, and does not touch sshd.
  await agent.configure(world.configWith({ health: { listen: 'none' }, sshd: { address: 'none' } }))

  for (const { name, type, state, due, make } of DAMAGES) {
    const gate = Promise.withResolvers<void>()
    issuer.failNext({ kind: 'pause', until: gate.promise }, 1, 'issue')
    const requests = requestsTo(issuer, 'issue')
    const from = agent.log.length
    await make(world, sshd.certificatePath(type))
    await agent.waitFor(`${name}: a request`, () => requestsTo(issuer, 'issue') > requests)
    expect(await stateOnDisk(world, type), name).toBe(state)
    gate.resolve()
    await agent.waitForLog('sshd serves the certificate', 20, from)
    const asked = agent.log.slice(from).filter(({ msg }) => msg === 'requesting a certificate')
    expect(asked, name).toMatchObject([{ host_key: hostKeyName(type), reason: due }])
    expect(issuer.issued.at(-1)?.line, name).toContain(await certificateOnDisk(world, type))
    expect(await isServed(world, type), name).toBe(true)
    await agent.waitFor(`${name}: readiness`, async () => (await agent.health('/readyz')).status === 200)
  }
  expect(issuer.issued).toHaveLength(3 + DAMAGES.length)
  expect(await leftovers(world)).toEqual([])
})

async function stateOnDisk({ agent }: World, type: HostKeyType): Promise<string> {
  const { stdout } = await agent.verb('status', '--json')
  const { certificates } = JSON.parse(stdout) as StatusDocument
  const found = certificates.find(({ host_key }) => host_key === hostKeyName(type))
  return `${found?.state} ${found?.reason}`
}

test('a folder in the place of a certificate is told of, costs no storm, and heals when it is gone', async () => {
  await using world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'] } })
  const { agent, issuer, sshd } = world
  const path = sshd.certificatePath('ed25519')
  await mkdir(path)
  await agent.start()
  expect(await agent.stateOf(hostKeyName('ed25519'))).toBe('invalid STORE_FAILED')
  expect((await agent.status())?.certificates[0]?.last_error).toMatchObject({ code: 'STORE_FAILED' })
  for (let look = 0; look < 3; look += 1) await requestPass(world)
  expect(issuer.issued).toHaveLength(1)
  await rmdir(path)
  await untilReady(world)
  expect(issuer.issued.length).toBeLessThanOrEqual(3)
  expect(await leftovers(world)).toEqual([])
})
