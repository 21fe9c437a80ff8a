import { execFileSync } from 'node:child_process'
import { chmod, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { pathsMatching } from '../../agent/host/files.ts'
import { createHostKeys } from '../../agent/host/host-keys.ts'
import type { HostKeyFile } from '../../agent/renewal/ports.ts'
import { isRoot, runsIf } from '../support/skip.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

let folder: TemporaryFolder
beforeEach(async () => {
  folder = await makeTemporaryFolder()
})
afterEach(() => folder.remove())

function at(...parts: string[]): string {
  return join(folder.path, ...parts)
}

function kinds(files: readonly HostKeyFile[]): Record<string, string> {
  return Object.fromEntries(files.map(({ name, content }) => [name, content.kind]))
}

test('keys that a pattern names, by path, with type, fingerprint and comment; certificates are skipped', async () => {
  await generateKey(at('ssh_host_rsa_key'), 'rsa', 'root@host1')
  await generateKey(at('ssh_host_ed25519_key'), 'ed25519', '')
  await generateKey(at('ssh_host_ecdsa_key'), 'ecdsa-521', 'root@host1')
  await writeFile(at('ssh_host_rsa_key-cert.pub'), 'a certificate')
  const files = await createHostKeys({ patterns: [at('ssh_host_*_key*.pub')] }).list()
  expect(files.map(({ path }) => path)).toEqual([
    at('ssh_host_ecdsa_key.pub'),
    at('ssh_host_ed25519_key.pub'),
    at('ssh_host_rsa_key.pub'),
  ])
  // Whether the issuer signs it is not known before it is asked.
  expect(files[0]?.content).toMatchObject({ kind: 'key', key: { type: 'ecdsa-sha2-nistp521' } })
  expect(files[1]).toMatchObject({ name: 'ssh_host_ed25519_key', content: { kind: 'key', comment: '' } })
  const { content } = files[2] ?? {}
  if (content?.kind !== 'key') throw new Error('the RSA key was not read')
  expect(content).toMatchObject({ comment: 'root@host1', key: { type: 'ssh-rsa' } })
  const listed = String(execFileSync('ssh-keygen', ['-l', '-f', at('ssh_host_rsa_key.pub')]))
  expect(listed).toContain(content.key.fingerprint)
})

test('paths, question marks and classes; a path that two patterns name comes once', async () => {
  for (const name of ['a1', 'a2', 'b1', 'plain{x}']) await generateKey(at(name), 'ed25519')
  const listed = async (...patterns: string[]) => kinds(await createHostKeys({ patterns }).list())
  expect(await listed(at('a?.pub'))).toEqual({ a1: 'key', a2: 'key' })
  expect(await listed(at('[ab]1.pub'), at('a1.pub'))).toEqual({ a1: 'key', b1: 'key' })
  expect(await listed(at('plain{x}.pub'))).toEqual({ 'plain{x}': 'key' })
  expect(await listed(at('none.pub'), at('none*.pub'), at('no/such/folder.pub'))).toEqual({})
})

test.each([
  { pattern: '*.pub', want: ['a-b.pub', 'a.pub', 'b.pub', 'x]y.pub', '{c}.pub'] },
  { pattern: '?.pub', want: ['a.pub', 'b.pub'] },
  { pattern: '[!a].pub', want: ['b.pub'] },
  { pattern: '[^a].pub', want: ['b.pub'] },
  { pattern: '[a-b].pub', want: ['a.pub', 'b.pub'] },
  { pattern: 'a[b-]b.pub', want: ['a-b.pub'] },
  { pattern: 'x[]]y.pub', want: ['x]y.pub'] },
  { pattern: '[z-a].pub', want: [] },
  { pattern: '[a.pub', want: [] },
  { pattern: '{a,b}*.pub', want: [] },
  { pattern: '.*.pub', want: ['.hidden.pub'] },
  { pattern: '(a|b)*.pub', want: [] },
  { pattern: 'sub?/*', want: ['sub1/d.pub'] },
  { pattern: '*/d.pub', want: ['sub1/d.pub'] },
  { pattern: '*/none.pub', want: [] },
  { pattern: '../*/a.pub', want: ['a.pub'] },
])('$pattern matches $want, as in a shell', async ({ pattern, want }) => {
  await mkdir(at('sub1'))
  const names = ['a.pub', 'b.pub', 'a-b.pub', 'x]y.pub', '{c}.pub', '.hidden.pub', 'sub1/d.pub']
  await Promise.all(names.map(async (name) => writeFile(at(name), '')))
  const found = await pathsMatching(join(folder.path, pattern))
  expect(found.filter((path) => path.startsWith(folder.path)).toSorted()).toEqual(
    want.map((name) => at(name)),
  )
})

test('a symbolic link that leads nowhere is unreadable, not gone, and says where it leads', async () => {
  await symlink('/nowhere/ssh_host_rsa_key.pub', at('ssh_host_rsa_key.pub'))
  const [file] = await createHostKeys({ patterns: [at('*.pub')] }).list()
  expect(file?.content).toMatchObject({
    kind: 'unreadable',
    failure: {
      code: 'HOST_KEY_UNREADABLE',
      message: expect.stringContaining(
        'it is a symbolic link to "/nowhere/ssh_host_rsa_key.pub", which does not exist',
      ),
    },
  })
})

test('of two paths with one file name the later is shadowed', async () => {
  await mkdir(at('a'))
  await mkdir(at('b'))
  await generateKey(at('a', 'key'), 'ed25519')
  await generateKey(at('b', 'key'), 'ed25519')
  const files = await createHostKeys({ patterns: [at('b', 'key.pub'), at('*', 'key.pub')] }).list()
  expect(files.map(({ path, content }) => [path, content.kind])).toEqual([
    [at('a', 'key.pub'), 'key'],
    [at('b', 'key.pub'), 'shadowed'],
  ])
  expect(files[1]?.content).toEqual({ kind: 'shadowed', by: at('a', 'key.pub') })
})

const ED25519 = `ssh-ed25519 ${Buffer.from('0000000b7373682d65643235353139', 'hex').toString('base64')}`
const NEW = 'ssh-mldsa65-ed25519'
const newBlob = Buffer.concat([Buffer.from([0, 0, 0, NEW.length]), Buffer.from(NEW), Buffer.alloc(40)])

test.each<{ name: string; make: (path: string) => unknown; want: string }>([
  { name: 'empty', make: (path) => writeFile(path, ''), want: 'HOST_KEY_UNREADABLE' },
  { name: 'half-written', make: (path) => writeFile(path, 'ssh-ed2551'), want: 'HOST_KEY_UNREADABLE' },
  { name: 'damaged', make: (path) => writeFile(path, `${ED25519}\n`), want: 'HOST_KEY_UNREADABLE' },
  { name: 'large', make: (path) => writeFile(path, '#'.repeat(65_537)), want: 'HOST_KEY_UNREADABLE' },
  { name: 'a FIFO', make: (path) => execFileSync('mkfifo', [path]), want: 'HOST_KEY_UNREADABLE' },
  { name: 'a folder', make: (path) => mkdir(path), want: 'HOST_KEY_UNREADABLE' },
  { name: 'a device', make: (path) => symlink('/dev/zero', path), want: 'HOST_KEY_UNREADABLE' },
  { name: 'a dangling link', make: (path) => symlink('/no/such', path), want: 'HOST_KEY_UNREADABLE' },
  {
    name: 'of a type that came later',
    make: (path) => writeFile(path, `${NEW} ${newBlob.toString('base64')} k\n`),
    want: 'HOST_KEY_UNSUPPORTED',
  },
])('$name: $want, and the others are read all the same', async ({ make, want }) => {
  await generateKey(at('good'), 'ed25519')
  await make(at('bad.pub'))
  const files = await createHostKeys({ patterns: [at('*.pub')] }).list()
  expect(kinds(files)).toMatchObject({ good: 'key' })
  const bad = files.find(({ name }) => name === 'bad')?.content
  expect(bad).toMatchObject({ failure: { code: want, message: expect.stringContaining(at('bad.pub')) } })
})

test(
  'a file that is not ours to read is unreadable',
  runsIf(!isRoot, 'root can read every file'),
  async () => {
    await generateKey(at('key'), 'ed25519')
    await chmod(at('key.pub'), 0)
    const [file] = await createHostKeys({ patterns: [at('key.pub')] }).list()
    expect(file?.content).toMatchObject({ kind: 'unreadable' })
  },
)

test('read tells the key that is there now, and null when it is gone', async () => {
  const keys = createHostKeys({ patterns: [at('*.pub')] })
  await generateKey(at('key'), 'ed25519')
  const [listed] = await keys.list()
  expect(await keys.read(at('key.pub'))).toEqual(listed)
  await generateKey(at('fresh'), 'ed25519')
  await rename(at('fresh.pub'), at('key.pub'))
  const rotated = await keys.read(at('key.pub'))
  expect(rotated?.content.kind).toBe('key')
  expect(rotated).not.toEqual(listed)
  await rm(at('key.pub'))
  expect(await keys.read(at('key.pub'))).toBeNull()
})
