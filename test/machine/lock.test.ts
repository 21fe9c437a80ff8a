import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { lstat, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createPassLock } from '../../agent/host/lock.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

const never = new AbortController().signal
const ADAPTER = new URL('../../agent/host/lock.ts', import.meta.url).href

let folder: TemporaryFolder
let children: ChildProcess[]
beforeEach(async () => {
  folder = await makeTemporaryFolder()
  children = []
})
afterEach(async () => {
  for (const child of children) child.kill('SIGKILL')
  await folder.remove()
})

/** Another process that takes the lock and keeps it. */
async function holder(): Promise<ChildProcess> {
  const program = `
    const { createPassLock } = await import(${JSON.stringify(ADAPTER)})
    const lock = createPassLock({ stateDirectory: ${JSON.stringify(folder.path)} })
    await lock.acquire(5000, new AbortController().signal)
    process.stdout.write('held')
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  children.push(child)
  await once(child.stdout, 'data')
  return child
}

test('held by one, refused to the other within the time given, free after the release', async () => {
  const lock = createPassLock({ stateDirectory: folder.path })
  const release = await lock.acquire(0, never)
  const second = createPassLock({ stateDirectory: folder.path }).acquire(200, never)
  await expect(second).rejects.toMatchObject({ code: 'STORE_FAILED' })
  await expect(second).rejects.toThrow(join(folder.path, 'lock'))
  await expect(lock.acquire(0, never)).rejects.toMatchObject({ code: 'STORE_FAILED' })
  await release()
  await release()
  await (
    await lock.acquire(0, never)
  )()
})

test('a waiter gets the lock when it is released', async () => {
  const lock = createPassLock({ stateDirectory: folder.path })
  const release = await lock.acquire(0, never)
  let got = false
  const waiting = lock.acquire(20_000, never).then((free) => {
    got = true
    return free
  })
  await new Promise((resolve) => setTimeout(resolve, 150))
  expect(got).toBe(false)
  await release()
  await (
    await waiting
  )()
})

test('another process holds it, and its death by SIGKILL frees it', async () => {
  const child = await holder()
  const lock = createPassLock({ stateDirectory: folder.path })
  await expect(lock.acquire(0, never)).rejects.toMatchObject({ code: 'STORE_FAILED' })
  const waiting = lock.acquire(20_000, never)
  child.kill('SIGKILL')
  await (
    await waiting
  )()
})

test('only one of many at a time', async () => {
  let inside = 0
  let most = 0
  const turn = async (): Promise<void> => {
    const release = await createPassLock({ stateDirectory: folder.path }).acquire(20_000, never)
    most = Math.max(most, ++inside)
    await new Promise((resolve) => setTimeout(resolve, 10))
    inside--
    await release()
  }
  await Promise.all(Array.from({ length: 6 }, turn))
  expect(most).toBe(1)
})

test('a wait ends with the reason of its signal, and leaves nothing locked', async () => {
  const lock = createPassLock({ stateDirectory: folder.path })
  const release = await lock.acquire(0, never)
  const controller = new AbortController()
  const waiting = lock.acquire(60_000, controller.signal)
  const reason = new Error('shutting down')
  setTimeout(() => controller.abort(reason), 50)
  await expect(waiting).rejects.toBe(reason)
  await release()
  await (
    await lock.acquire(5000, never)
  )()
})

test('the lock of a deleted file does not count for one who waited on it', async () => {
  const lock = createPassLock({ stateDirectory: folder.path })
  const release = await lock.acquire(0, never)
  const waiting = lock.acquire(20_000, never)
  await new Promise((resolve) => setTimeout(resolve, 150))
  await rm(join(folder.path, 'lock'))
  await release()
  const release2 = await waiting
  await expect(lock.acquire(0, never)).rejects.toMatchObject({ code: 'STORE_FAILED' })
  await release2()
})

test.each([
  { name: 'a FIFO', make: async (path: string) => void (await promisify(execFile)('mkfifo', [path])) },
  { name: 'a folder', make: async (path: string) => mkdir(path) },
  { name: 'a link to a device', make: async (path: string) => symlink('/dev/null', path) },
])('$name in its place is STORE_FAILED at once, and is left alone', async ({ make }) => {
  const path = join(folder.path, 'lock')
  await make(path)
  const before = await lstat(path)
  const locking = createPassLock({ stateDirectory: folder.path }).acquire(0, never)
  await expect(locking).rejects.toMatchObject({ code: 'STORE_FAILED' })
  await expect(locking).rejects.toThrow(`cannot open ${path}: it is not a regular file`)
  expect((await lstat(path)).ino).toBe(before.ino)
})

test('the first time that it is held, what a crash left is removed: files of ours, and nothing else', async () => {
  const [state, certificates] = [join(folder.path, 'state'), join(folder.path, 'certificates')]
  await Promise.all([state, certificates].map(async (path) => mkdir(path)))
  const target = join(folder.path, 'precious')
  await writeFile(target, 'precious')
  const leftover = '.attempts.json.hostcertd-0123456789ab.tmp'
  const kept = [
    '.attempts.json.other-0123456789ab.tmp',
    '.attempts.json.hostcertd-0123456789.tmp',
    'attempts.json.hostcertd-0123456789ab.tmp',
    'attempts.json',
  ]
  for (const name of [leftover, ...kept]) await writeFile(join(state, name), 'half')
  await writeFile(join(certificates, '.a-cert.pub.hostcertd-0123456789ab.tmp'), 'half')
  const [link, sub] = ['.link.hostcertd-0123456789ab.tmp', '.folder.hostcertd-0123456789ab.tmp']
  await symlink(target, join(certificates, link))
  await mkdir(join(certificates, sub))

  const sweep = [state, certificates, join(folder.path, 'missing')]
  const lock = createPassLock({ stateDirectory: state, sweep })
  const other = await createPassLock({ stateDirectory: state }).acquire(0, never)
  await expect(lock.acquire(0, never)).rejects.toMatchObject({ code: 'STORE_FAILED' })
  expect(await readdir(state)).toContain(leftover)
  await other()
  await (
    await lock.acquire(0, never)
  )()
  expect((await readdir(state)).sort()).toEqual([...kept, 'lock'].sort())
  expect((await readdir(certificates)).sort()).toEqual([link, sub].sort())
  expect(await readFile(target, 'utf8')).toBe('precious')

  await writeFile(join(state, leftover), 'of this process, perhaps')
  await (
    await lock.acquire(0, never)
  )()
  expect(await readdir(state)).toContain(leftover)
})

test('a state directory that cannot be, or no flock: STORE_FAILED that says so', async () => {
  await writeFile(join(folder.path, 'file'), '')
  const missing = createPassLock({ stateDirectory: join(folder.path, 'file', 'state') })
  await expect(missing.acquire(0, never)).rejects.toThrow(/cannot open .*\/lock: .*ENOTDIR/)
  const without = createPassLock({ stateDirectory: folder.path, program: 'no-such-flock' })
  await expect(without.acquire(0, never)).rejects.toThrow(/cannot run no-such-flock/)
})
