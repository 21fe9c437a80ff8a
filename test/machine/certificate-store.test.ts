import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { parsePublicKeyLine, readPublicKey } from '../../agent/cert/public-key.ts'
import { verifyIssued, type VerifiedCertificate } from '../../agent/cert/verify-issued.ts'
import type { FileOperations } from '../../agent/host/files.ts'
import { createCertificateStore } from '../../agent/host/storage.ts'
import { generateKey, signCertificate } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

const NAME = 'ssh_host_ed25519_key'
const OLD = 'the old one\n'

let folder: TemporaryFolder
let directory: string
let place: string

beforeEach(async () => {
  folder = await makeTemporaryFolder()
  directory = join(folder.path, 'certs')
  place = join(directory, `${NAME}-cert.pub`)
})

afterEach(() => folder.remove())

async function verifiedCertificate(): Promise<VerifiedCertificate> {
  const publicKey = await generateKey(join(folder.path, 'key'), 'ed25519', 'root@host1')
  const ca = join(folder.path, 'ca')
  await generateKey(ca, 'ed25519')
  const line = await signCertificate({ ca, publicKey, principals: ['host1'], validity: '-5m:+1h' })
  const hostKey = readPublicKey(parsePublicKeyLine(publicKey))
  const requirements = { hostKey, trustedCas: null, wantedPrincipals: null }
  const verification = verifyIssued(line, requirements, null, 'root@host1', Date.now() / 1000)
  if (!verification.ok) throw new Error(verification.failure.message)
  return verification.value
}

test('a swapped certificate is what ssh-keygen reads, and what read returns', async () => {
  const store = createCertificateStore({ directory })
  expect(await store.read(NAME)).toEqual({ kind: 'absent' })
  const certificate = await verifiedCertificate()
  const before = process.umask(0o077)
  try {
    await store.swap(NAME, certificate)
  } finally {
    process.umask(before)
  }
  expect(store.pathOf(NAME)).toBe(place)
  expect(await store.read(NAME)).toEqual({ kind: 'text', text: `${certificate.line}\n` })
  expect(String(execFileSync('ssh-keygen', ['-L', '-f', place]))).toContain('host certificate')
  // Whatever the umask: sshd, the helper and people read it.
  expect((await fs.stat(place)).mode & 0o777).toBe(0o644)
  expect((await fs.stat(directory)).mode & 0o777).toBe(0o755)
  expect(await fs.readdir(directory)).toEqual([`${NAME}-cert.pub`])
})

test('a swap replaces a symlink and leaves its target alone', async () => {
  await fs.mkdir(directory)
  const target = join(folder.path, 'target')
  await fs.writeFile(target, OLD)
  await fs.symlink(target, place)
  const store = createCertificateStore({ directory })
  expect(await store.read(NAME)).toEqual({ kind: 'text', text: OLD })
  await store.swap(NAME, await verifiedCertificate())
  expect((await fs.lstat(place)).isFile()).toBe(true)
  expect(await fs.readFile(target, 'utf8')).toBe(OLD)
})

test.each<{ name: string; make: () => unknown; why: string }>([
  { name: 'a FIFO', make: () => execFileSync('mkfifo', [place]), why: 'not a regular file' },
  { name: 'a folder', make: () => fs.mkdir(place), why: 'not a regular file' },
  { name: 'a link to a device', make: () => fs.symlink('/dev/zero', place), why: 'not a regular file' },
  { name: 'a link to itself', make: () => fs.symlink(place, place), why: 'ELOOP' },
  { name: 'a large file', make: () => fs.writeFile(place, 'x'.repeat(65_537)), why: 'larger than 64 KiB' },
])('$name cannot be read, and does not hang', async ({ make, why }) => {
  await fs.mkdir(directory)
  await make()
  const stored = await createCertificateStore({ directory }).read(NAME)
  expect(stored).toMatchObject({ kind: 'unreadable', failure: { code: 'STORE_FAILED' } })
  if (stored.kind !== 'unreadable') return
  expect(stored.failure.message).toContain(place)
  expect(stored.failure.message).toContain(why)
})

test('64 KiB can be read', async () => {
  await fs.mkdir(directory)
  await fs.writeFile(place, 'x'.repeat(65_536))
  expect((await createCertificateStore({ directory }).read(NAME)).kind).toBe('text')
})

test('leftovers of a crash are removed once they are old, others are left', async () => {
  await fs.mkdir(directory)
  const names = {
    old: `.${NAME}-cert.pub.hostcertd-0123456789ab.tmp`,
    young: `.${NAME}-cert.pub.hostcertd-ba9876543210.tmp`,
    foreign: '.other.tmp',
  }
  for (const name of Object.values(names)) await fs.writeFile(join(directory, name), 'half')
  const longAgo = new Date(Date.now() - 61_000)
  await fs.utimes(join(directory, names.old), longAgo, longAgo)
  await fs.utimes(join(directory, names.foreign), longAgo, longAgo)
  await createCertificateStore({ directory }).swap(NAME, await verifiedCertificate())
  expect((await fs.readdir(directory)).sort()).toEqual(
    [`${NAME}-cert.pub`, names.foreign, names.young].sort(),
  )
})

test('a folder in its place is a failure that names it, and nothing is left over', async () => {
  await fs.mkdir(place, { recursive: true })
  const swap = createCertificateStore({ directory }).swap(NAME, await verifiedCertificate())
  await expect(swap).rejects.toMatchObject({ code: 'STORE_FAILED' })
  await expect(swap).rejects.toThrow(place)
  expect(await fs.readdir(directory)).toEqual([`${NAME}-cert.pub`])
})

test('a directory that cannot be made is a failure', async () => {
  await fs.writeFile(directory, 'a file')
  const swap = createCertificateStore({ directory }).swap(NAME, await verifiedCertificate())
  await expect(swap).rejects.toMatchObject({ code: 'STORE_FAILED' })
})

function failure(code: string): Error {
  return Object.assign(new Error(`${code}: said the disk`), { code })
}

const FAULTS: readonly { name: string; operations: FileOperations; inPlace: 'old' | 'new' }[] = [
  {
    name: 'the file is not made',
    operations: { ...fs, open: () => Promise.reject(failure('EROFS')) },
    inPlace: 'old',
  },
  {
    name: 'the content is not written',
    operations: { ...fs, open: openWith((handle) => failing(handle, 'writeFile', 'not done')) },
    inPlace: 'old',
  },
  {
    name: 'the content is written but reported failed',
    operations: { ...fs, open: openWith((handle) => failing(handle, 'writeFile', 'done')) },
    inPlace: 'old',
  },
  {
    name: 'the content is not synced',
    operations: { ...fs, open: openWith((handle) => failing(handle, 'sync', 'not done')) },
    inPlace: 'old',
  },
  {
    name: 'the rename is not done',
    operations: { ...fs, rename: () => Promise.reject(failure('EIO')) },
    inPlace: 'old',
  },
  {
    name: 'the rename is done but reported failed',
    operations: {
      ...fs,
      rename: async (from, to) => {
        await fs.rename(from, to)
        throw failure('EIO')
      },
    },
    inPlace: 'new',
  },
]

/** Only folders are opened for reading. */
function foldersFailWith(code: string): FileOperations['open'] {
  return async (...args) => {
    const handle = await fs.open(...args)
    if (args[1] === 'r') handle.sync = () => Promise.reject(failure(code))
    return handle
  }
}

// CIFS, VirtualBox and some FUSE file systems: fsync(2) of a folder is EINVAL there.
test.each(['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'])(
  'a file system that cannot sync a folder (%s) is no failure',
  async (code) => {
    const store = createCertificateStore({ directory, operations: { ...fs, open: foldersFailWith(code) } })
    await store.swap(NAME, await verifiedCertificate())
    expect(await store.read(NAME)).toMatchObject({ kind: 'text' })
  },
)

test.each(['EIO', 'ENOSPC', 'EROFS'])('one that fails to (%s) is', async (code) => {
  const store = createCertificateStore({ directory, operations: { ...fs, open: foldersFailWith(code) } })
  await expect(store.swap(NAME, await verifiedCertificate())).rejects.toMatchObject({ code: 'STORE_FAILED' })
})

/** Spoils the first file that is opened, which is the temporary one. */
function openWith(spoil: (handle: fs.FileHandle) => fs.FileHandle): FileOperations['open'] {
  return async (...args) => spoil(await fs.open(...args))
}

function failing(handle: fs.FileHandle, method: 'writeFile' | 'sync', how: 'done' | 'not done') {
  const real = handle[method].bind(handle)
  const faulty = async (text: string): Promise<void> => {
    if (how === 'done') await real(text)
    throw failure('ENOSPC')
  }
  return Object.assign(handle, { [method]: faulty })
}

test.each(FAULTS)('when $name, a whole certificate stays and no other file', async (fault) => {
  await fs.mkdir(directory)
  await fs.writeFile(place, OLD)
  const certificate = await verifiedCertificate()
  const store = createCertificateStore({ directory, operations: fault.operations })
  await expect(store.swap(NAME, certificate)).rejects.toMatchObject({ code: 'STORE_FAILED' })
  expect(await fs.readFile(place, 'utf8')).toBe(fault.inPlace === 'old' ? OLD : `${certificate.line}\n`)
  expect(await fs.readdir(directory)).toEqual([`${NAME}-cert.pub`])
  // The next attempt is not hindered by it.
  await createCertificateStore({ directory }).swap(NAME, certificate)
  expect(await fs.readFile(place, 'utf8')).toBe(`${certificate.line}\n`)
})
