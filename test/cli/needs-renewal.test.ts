import { writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { ECDSA, ED25519, makeBareHost, type BareHost } from './bare-host.ts'

/** Two thirds over: the window of 33 % is open, whatever the jitter. */
const OLD = { validity: '-100h:+1h' }

interface Case {
  readonly name: string
  readonly prepare: (host: BareHost) => Promise<unknown>
  readonly args?: readonly string[]
  readonly status: number
  readonly stdout: string
  readonly stderr?: RegExp
}

const withEcdsa = async (host: BareHost): Promise<void> => {
  await host.addHostKey(ECDSA, 'ecdsa')
  await host.certify(ECDSA)
  await host.certify(ED25519, OLD)
}

const CASES: readonly Case[] = [
  {
    name: 'fresh',
    prepare: async (host) => host.certify(ED25519),
    status: 1,
    stdout: `${ED25519}: not due\n`,
  },
  {
    name: 'in its window',
    prepare: async (host) => host.certify(ED25519, OLD),
    status: 0,
    stdout: `${ED25519}: due (overdue)\n`,
  },
  {
    name: 'expired',
    prepare: async (host) => host.certify(ED25519, { validity: '-2h:-1h' }),
    status: 0,
    stdout: `${ED25519}: due (expired)\n`,
  },
  {
    name: 'damaged',
    prepare: async (host) => writeFile(host.certificatePath(ED25519), 'nonsense\n'),
    status: 0,
    stdout: `${ED25519}: due (unusable)\n`,
  },
  { name: 'no certificate', prepare: async () => {}, status: 2, stdout: `${ED25519}: due (absent)\n` },
  {
    name: 'one of two without a certificate',
    prepare: async (host) => {
      await withEcdsa(host)
      await host.addHostKey('ssh_host_rsa_key', 'rsa')
    },
    status: 2,
    stdout: `${ECDSA}: not due\n${ED25519}: due (overdue)\nssh_host_rsa_key: due (absent)\n`,
  },
  {
    name: 'one of two due',
    prepare: withEcdsa,
    status: 0,
    stdout: `${ECDSA}: not due\n${ED25519}: due (overdue)\n`,
  },
  {
    name: 'asked for the other',
    prepare: withEcdsa,
    args: ['--host-key', ECDSA],
    status: 1,
    stdout: `${ECDSA}: not due\n`,
  },
  {
    name: 'no key at all',
    prepare: async (host) => host.configure({ host_keys: '/nowhere/*.pub' }),
    status: 2,
    stdout: '',
    stderr: /^warning: host_keys: /,
  },
  {
    name: 'no such key',
    prepare: async () => {},
    args: ['--host-key', 'ssh_host_dsa_key'],
    status: 2,
    stdout: '',
    stderr: /^no such host key: ssh_host_dsa_key \(available: ssh_host_ed25519_key\)\n$/,
  },
  {
    name: 'pinned CA unreadable',
    prepare: async (host) => host.configure({ verify: { host_ca_file: '/nowhere/ca.pub' } }),
    status: 255,
    stdout: '',
    stderr: /^CONFIG_INVALID: .*\/nowhere\/ca\.pub/,
  },
]

test.concurrent.each(CASES)('$status: $name', async ({ prepare, args = [], status, stdout, stderr }) => {
  await using host = await makeBareHost()
  await prepare(host)
  const before = await host.files()
  const result = await host.verb(['needs-renewal', ...args])
  expect(result).toMatchObject({ status, stdout })
  expect(result.stderr).toMatch(stderr ?? /^$/)
  expect(await host.files()).toEqual(before)
})

test.concurrent('a host key is named by its path, with or without .pub, or by its name', async () => {
  await using host = await makeBareHost()
  await withEcdsa(host)
  const path = host.hostKeyPath(ED25519)
  const given = [path, path.replace('.pub', ''), ED25519, `${ED25519}.pub`]
  for (const hostKey of given) {
    const result = await host.verb(['needs-renewal', '--host-key', hostKey, '--json'])
    expect(result, hostKey).toMatchObject({ status: 0, stderr: '' })
    expect(JSON.parse(result.stdout), hostKey).toEqual([
      { host_key: ED25519, due: true, reason: 'overdue', state: 'overdue' },
    ])
  }
  // The same name elsewhere is another key.
  const elsewhere = await host.verb(['needs-renewal', '--host-key', `/elsewhere/${ED25519}.pub`])
  expect(elsewhere.status).toBe(2)
})
