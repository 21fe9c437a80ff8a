import { execFileSync } from 'node:child_process'
import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createPinnedCas } from '../../agent/host/pinned-cas.ts'
import { RecordingLog } from '../fakes/recording-log.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

let folder: TemporaryFolder
let path: string
beforeEach(async () => {
  folder = await makeTemporaryFolder()
  path = join(folder.path, 'host-ca.pub')
})
afterEach(() => folder.remove())

test('none configured is null', async () => {
  expect(await createPinnedCas({ path: null, log: new RecordingLog() }).read()).toBeNull()
})

test('keys are read, kept while the file stays, and read anew when it is replaced', async () => {
  const first = await generateKey(join(folder.path, 'a'), 'ed25519', 'ca one')
  const second = await generateKey(join(folder.path, 'b'), 'ed25519', 'ca two')
  await writeFile(path, `# host CA\n\n${first}\n${second}\n`)
  const cas = createPinnedCas({ path, log: new RecordingLog() })
  const keys = await cas.read()
  expect(keys?.map(({ type }) => type)).toEqual(['ssh-ed25519', 'ssh-ed25519'])
  expect(await cas.read()).toBe(keys)
  // The same length, so that the size alone does not tell.
  await writeFile(`${path}.new`, `# host CA\n\n${second}\n${first}\n`)
  await rename(`${path}.new`, path)
  expect((await cas.read())?.map(({ fingerprint }) => fingerprint)).toEqual(
    keys?.map(({ fingerprint }) => fingerprint).toReversed(),
  )
})

test.each<{ name: string; make: () => unknown; why: string }>([
  { name: 'missing', make: () => undefined, why: 'ENOENT' },
  { name: 'empty', make: () => writeFile(path, ''), why: 'it holds no CA key' },
  { name: 'only comments', make: () => writeFile(path, '# none\n\n'), why: 'it holds no CA key' },
  { name: 'damaged', make: () => writeFile(path, '# a\nssh-ed25519 AAAA\n'), why: 'line 2' },
  { name: 'a FIFO', make: () => execFileSync('mkfifo', [path]), why: 'not a regular file' },
  { name: 'large', make: () => writeFile(path, '#'.repeat(70_000)), why: 'larger than 64 KiB' },
])('$name: CONFIG_INVALID that names the file', async ({ make, why }) => {
  await make()
  const read = createPinnedCas({ path, log: new RecordingLog() }).read()
  await expect(read).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
  await expect(read).rejects.toThrow(path)
  await expect(read).rejects.toThrow(why)
})

test('a file that vanished is told once, and what was pinned stays', async () => {
  await writeFile(path, `${await generateKey(join(folder.path, 'a'), 'ed25519')}\n`)
  const log = new RecordingLog()
  const cas = createPinnedCas({ path, log })
  const pinned = await cas.read()
  await rm(path)
  expect(await cas.read()).toEqual(pinned)
  expect(await cas.read()).toEqual(pinned)
  expect(log.messages('error')).toEqual([expect.stringContaining('the CAs pinned before are kept')])
  await expect(createPinnedCas({ path, log }).read()).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
})
