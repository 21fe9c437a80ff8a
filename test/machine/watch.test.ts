import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { replaceFile } from '../../agent/host/files.ts'
import { createFileWatcher, foldersOf, type FileWatcher } from '../../agent/host/watch.ts'
import { RecordingLog } from '../fakes/recording-log.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

/** Longer than the quiet time; for what must not happen. */
const A_WHILE = 500

let folder: TemporaryFolder
let directory: string
let changes: number
let watcher: FileWatcher | null
let log: RecordingLog

beforeEach(async () => {
  folder = await makeTemporaryFolder()
  directory = join(folder.path, 'ssh')
  await mkdir(directory)
  changes = 0
  watcher = null
  log = new RecordingLog()
})
afterEach(async () => {
  await watcher?.close()
  await folder.remove()
})

function at(name: string): string {
  return join(directory, name)
}

async function watch(folders = [directory]): Promise<FileWatcher> {
  watcher = createFileWatcher({ folders, onChange: () => changes++, log, quietMilliseconds: 100 })
  await watcher.rewatch()
  return watcher
}

/** How often we are called once something was done; waits for the first call. */
async function changesAfter(what: () => Promise<unknown>): Promise<number> {
  await wait(A_WHILE)
  changes = 0
  await what()
  await expect.poll(() => changes).toBeGreaterThan(0)
  return changes
}

/** The same where none is expected. */
async function changesDespite(what: () => Promise<unknown>): Promise<number> {
  await wait(A_WHILE)
  changes = 0
  await what()
  await wait(A_WHILE)
  return changes
}

test('a public key or a certificate that is made, changed, replaced or removed', async () => {
  await writeFile(at('there.pub'), 'one')
  await watch()
  expect(await changesDespite(async () => undefined)).toBe(0)
  expect(await changesAfter(() => writeFile(at('there.pub'), 'two'))).toBe(1)
  expect(await changesAfter(() => replaceFile(at('there.pub'), 'ten\n', 0o644))).toBe(1)
  expect(await changesAfter(() => replaceFile(at('new-cert.pub'), 'one\n', 0o644))).toBe(1)
  expect(await changesAfter(() => rm(at('there.pub')))).toBe(1)
  expect(await changesAfter(() => rename(at('new-cert.pub'), at('other-cert.pub')))).toBe(1)
  expect(await changesAfter(() => writeFile(at('other-cert.pub'), ''))).toBe(1)
})

test('private keys, other files, our temporary files and sub-folders do not wake us', async () => {
  await mkdir(at('sub.pub'))
  await watch()
  const count = await changesDespite(async () => {
    await writeFile(at('ssh_host_ed25519_key'), 'private')
    await writeFile(at('sshd_config'), 'x')
    await writeFile(at('.key-cert.pub.hostcertd-0123456789ab.tmp'), 'x')
    await writeFile(join(at('sub.pub'), 'inner.pub'), 'x')
    await mkdir(at('more.pub'))
  })
  expect(count).toBe(0)
})

test('many events are few changes, and a stream of them is not waited out', async () => {
  watcher = createFileWatcher({
    folders: [directory],
    onChange: () => changes++,
    log,
    quietMilliseconds: 300,
    longestMilliseconds: 600,
  })
  await watcher.rewatch()
  await Promise.all(Array.from({ length: 30 }, (_, i) => writeFile(at(`${i}.pub`), 'x')))
  await expect.poll(() => changes).toBeGreaterThan(0)
  await wait(1500)
  // Not always one: a busy machine may pause between two events for longer than the quiet time.
  expect(changes).toBeLessThanOrEqual(3)
  changes = 0
  for (let i = 0; i < 20; i++) {
    await writeFile(at('busy.pub'), String(i))
    await wait(50)
  }
  expect(changes).toBeGreaterThan(0)
})

test('a folder that comes later is found by rewatch', async () => {
  const late = join(folder.path, 'certs')
  const watching = await watch([directory, late])
  await mkdir(late)
  expect(await changesAfter(() => watching.rewatch())).toBe(1)
  expect(await changesDespite(() => watching.rewatch())).toBe(0)
  expect(await changesAfter(() => writeFile(join(late, 'a-cert.pub'), 'x'))).toBe(1)
  expect(log.messages('warn')).toEqual([])
})

test('a folder that is deleted and made again is watched again', async () => {
  await writeFile(at('a.pub'), 'x')
  const watching = await watch()
  expect(await changesAfter(() => rm(directory, { recursive: true }))).toBe(1)
  const count = await changesAfter(async () => {
    await mkdir(directory)
    await watching.rewatch()
  })
  expect(count).toBe(1)
  expect(await changesAfter(() => writeFile(at('a.pub'), 'y'))).toBe(1)
})

test('a folder that another takes the place of is watched again', async () => {
  await writeFile(at('a.pub'), 'x')
  const watching = await watch()
  const other = join(folder.path, 'other')
  await mkdir(other)
  await writeFile(join(other, 'a.pub'), 'y')
  const count = await changesAfter(async () => {
    await rename(directory, `${directory}.old`)
    await rename(other, directory)
    await watching.rewatch()
  })
  expect(count).toBe(1)
  expect(await changesAfter(() => writeFile(at('b.pub'), 'y'))).toBe(1)
  expect(await changesDespite(() => writeFile(join(`${directory}.old`, 'a.pub'), 'y'))).toBe(0)
})

test('a path that is no folder is no crash', async () => {
  await writeFile(at('file'), 'x')
  await watch([join(at('file'), 'below'), directory])
  expect(await changesAfter(() => writeFile(at('a.pub'), 'x'))).toBe(1)
})

test('nothing is called after close, and close may come at once or twice', async () => {
  const watching = await watch()
  await writeFile(at('a.pub'), 'x')
  await wait(30)
  await watching.close()
  await watching.close()
  await watching.rewatch()
  await writeFile(at('b.pub'), 'x')
  await wait(A_WHILE)
  expect(changes).toBe(0)
  const other = createFileWatcher({ folders: [directory], onChange: () => changes++, log })
  const starting = other.rewatch()
  await other.close()
  await starting
})

test.each([
  { patterns: ['/etc/ssh/ssh_host_*_key.pub'], want: ['/etc/ssh'] },
  { patterns: ['/etc/ssh/a.pub', '/etc/ssh/b?.pub', '/opt/keys/[ab].pub'], want: ['/etc/ssh', '/opt/keys'] },
  { patterns: ['/etc/ssh*/key.pub'], want: ['/etc'] },
  { patterns: ['/etc/*/key.pub'], want: ['/etc'] },
  { patterns: ['/*.pub'], want: ['/'] },
])('the folders of $patterns', ({ patterns, want }) => {
  expect(foldersOf(patterns)).toEqual(want)
})
