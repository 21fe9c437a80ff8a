import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { AgentError } from '../../agent/cert/errors.ts'
import {
  listServiceState,
  ofOthers,
  readCertificates,
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

test(
  'it is done wherever root calls it, also where the owner of the folder may not be',
  needsRoot,
  async () => {
    await fs.chmod(temporary.path, 0o755)
    await fs.chown(folder, 65534, 65534)
    const mine = join(temporary.path, 'mine')
    await fs.mkdir(mine, { mode: 0o700 })
    const before = process.cwd()
    process.chdir(mine)
    try {
      expect(await listServiceState(folder)).toContain('lock')
    } finally {
      process.chdir(before)
    }
  },
)

test('it is done as the owner of the folder, who can do no more than before', needsRoot, async () => {
  await fs.chmod(temporary.path, 0o755)
  await fs.chown(folder, 65534, 65534)
  await fs.chown(join(folder, 'lock'), 65534, 65534)
  // Root's, with something in it.
  await expect(removeServiceState({ folder, before: [] })).rejects.toMatchObject({
    code: 'STORE_FAILED',
    message: expect.stringMatching(/^cannot remove files in .*\/service: rm ended .*denied/) as string,
  })
  expect(await fs.readdir(join(folder, 'certs'))).toContain('old-cert.pub')
})

test(
  'what cannot be found out is an error with a code that names the folder, not a stack',
  needsRoot,
  async () => {
    const failure = async (of: Promise<unknown>): Promise<string> =>
      of.then(
        () => 'none',
        (error: unknown) => (error instanceof AgentError ? `${error.code}: ${error.message}` : String(error)),
      )
    await fs.chmod(temporary.path, 0o755)
    await fs.chown(folder, 65534, 65534)
    await fs.chown(join(folder, 'certs'), 0, 0)
    // A certificate that the owner of the folder cannot read, though listed.
    await fs.chmod(join(folder, 'certs/old-cert.pub'), 0o600)
    const path = join(folder, 'certs/old-cert.pub')
    expect(await failure(readCertificates(folder))).toMatch(
      `STORE_FAILED: cannot read ${path}: cat ended with status 1`,
    )
    await fs.chmod(join(folder, 'certs'), 0o700)
    expect(await failure(listServiceState(folder))).toMatch(
      `STORE_FAILED: cannot list ${folder}: find ended with status 1`,
    )
    const files = { folder, files: [{ path: 'certs/new-cert.pub', text: 'x' }] }
    expect(await failure(writeServiceFiles(files))).toMatch(
      `STORE_FAILED: cannot write ${join(folder, 'certs/new-cert.pub')}: sh ended with status`,
    )
    const file = join(folder, 'lock', 'below')
    expect(await failure(listServiceState(file))).toBe('none')
    // No such program, as when it cannot be started.
    const { PATH } = process.env
    process.env['PATH'] = '/nonexistent'
    try {
      expect(await failure(listServiceState(folder))).toMatch(`STORE_FAILED: cannot list ${folder}: `)
    } finally {
      process.env['PATH'] = PATH
    }
  },
)

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

  const found = ofOthers(await readCertificates(folder), ours)
  expect(found).toEqual({ folder, files: [{ path: 'certs/theirs-cert.pub', text: before }] })
  await removeServiceFiles(found)
  await removeServiceFiles(found)
  expect(ofOthers(await readCertificates(folder), ours).files).toEqual([])
  expect((await fs.readdir(join(folder, 'certs'))).toSorted()).toEqual(
    ['deeper', 'nobodys-cert.pub', 'old-cert.pub', 'ours-cert.pub'].toSorted(),
  )
  await fs.writeFile(path('theirs'), 'of the new host')
  await writeServiceFiles(found)
  expect(await fs.readFile(path('theirs'), 'utf8')).toBe(before)
  expect((await fs.stat(path('theirs'))).mode & 0o777).toBe(0o644)
  expect(ofOthers(await readCertificates(join(folder, 'gone')), ours)).toMatchObject({ files: [] })
})
