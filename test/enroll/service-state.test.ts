import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  listServiceState,
  readCertificatesOfOthers,
  removeServiceFiles,
  removeServiceState,
  writeServiceFiles,
} from '../../agent/enroll/service-state.ts'
import { needsRoot } from '../support/skip.ts'
import { generateKey, signCertificate } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

let temporary: Awaited<ReturnType<typeof makeTemporaryFolder>>
let folder: string
beforeEach(async () => {
  temporary = await makeTemporaryFolder()
  folder = join(temporary.path, 'service')
  await fs.mkdir(join(folder, 'certs', 'deeper'), { recursive: true })
  for (const name of ['lock', 'certs/old-cert.pub']) await fs.writeFile(join(folder, name), 'old')
})
afterEach(() => temporary.remove())

test('what was added is removed; what was there before stays, changed or not, and so does the lock', async () => {
  await fs.rm(join(folder, 'lock'))
  const before = await listServiceState(folder)
  expect(before.toSorted()).toEqual(['certs', 'certs/deeper', 'certs/old-cert.pub'])
  const added = ['lock', 'attempts.json', 'certs/deeper/a', "certs/ -x'\n*"]
  for (const name of [...added, 'certs/old-cert.pub']) await fs.writeFile(join(folder, name), 'new')
  await fs.mkdir(join(folder, 'added', 'deeper'), { recursive: true })
  await removeServiceState({ folder, before })
  expect((await listServiceState(folder)).toSorted()).toEqual([...before, 'lock'].toSorted())
  await removeServiceState({ folder, before })
})

test('a folder that is not there holds nothing', async () => {
  expect(await listServiceState(join(folder, 'gone'))).toEqual([])
  await removeServiceState({ folder: join(folder, 'gone'), before: [] })
})

test('a link in it is removed, not followed', async () => {
  const outside = join(temporary.path, 'outside')
  await fs.mkdir(outside)
  await fs.writeFile(join(outside, 'theirs'), '')
  await fs.symlink(outside, join(folder, 'certs', 'link'))
  await removeServiceState({ folder, before: ['certs'] })
  expect(await fs.readdir(join(folder, 'certs'))).toEqual([])
  expect(await fs.readdir(outside)).toEqual(['theirs'])
})

test('it is done as the owner of the folder, who can do no more than before', needsRoot, async () => {
  await fs.chmod(temporary.path, 0o755)
  await fs.chown(folder, 65534, 65534)
  await fs.chown(join(folder, 'lock'), 65534, 65534)
  // Root's, with something in it.
  await expect(removeServiceState({ folder, before: [] })).rejects.toThrow(
    /^rm ended with status 1: .*denied/,
  )
  expect(await fs.readdir(join(folder, 'certs'))).toContain('old-cert.pub')
})

test('certificates of another host are found by their key ids, removed and put back', async () => {
  const [ours, theirs] = ['8c1efcfc-434c-4c43-80e3-53c9eae6672a', '0c1efcfc-434c-4c43-80e3-53c9eae6672a']
  const ca = join(temporary.path, 'ca')
  await generateKey(ca, 'ed25519')
  const publicKey = await generateKey(join(temporary.path, 'key'), 'ed25519')
  const path = (name: string): string => join(folder, 'certs', `${name}-cert.pub`)
  const write = async (name: string, keyId: string): Promise<void> =>
    fs.writeFile(path(name), `${await signCertificate({ ca, publicKey, keyId, principals: ['web1'] })}\n`)
  await write('ours', `host-${ours.toUpperCase()}`)
  await write('theirs', `host-${theirs}`)
  await write('nobodys', 'web1.example.com')
  const before = await fs.readFile(path('theirs'), 'utf8')

  const found = await readCertificatesOfOthers(folder, ours)
  expect(found).toEqual({ folder, files: [{ path: 'certs/theirs-cert.pub', text: before }] })
  await removeServiceFiles(found)
  await removeServiceFiles(found)
  expect((await readCertificatesOfOthers(folder, ours)).files).toEqual([])
  expect((await fs.readdir(join(folder, 'certs'))).toSorted()).toEqual(
    ['deeper', 'nobodys-cert.pub', 'old-cert.pub', 'ours-cert.pub'].toSorted(),
  )
  await fs.writeFile(path('theirs'), 'of the new host')
  await writeServiceFiles(found)
  expect(await fs.readFile(path('theirs'), 'utf8')).toBe(before)
  expect((await fs.stat(path('theirs'))).mode & 0o777).toBe(0o644)
  expect(await readCertificatesOfOthers(join(folder, 'gone'), ours)).toMatchObject({ files: [] })
})
