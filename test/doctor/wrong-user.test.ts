import { execFile } from 'node:child_process'
import { chmod, chown, copyFile, cp, mkdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PROGRAM } from '../cli/hostcertd.ts'
import { needsRoot } from '../support/skip.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'
import { OWNER } from './broken.ts'
import { findingsIn, of, troubles, type Finding } from './findings.ts'
import { makeWard, type Ward } from './ward.ts'

const NOBODY = 65_533
const run = promisify(execFile)

let program: TemporaryFolder

/** The checkout may be closed to others, so Node and the program are where everybody may run them. */
async function copyProgram(): Promise<void> {
  program = await makeTemporaryFolder()
  await chmod(program.path, 0o755)
  await cp(dirname(PROGRAM), join(program.path, 'dist'), { recursive: true })
  await copyFile(process.execPath, join(program.path, 'node'))
}

/** `doctor` as somebody who is neither root nor the daemon. */
async function diagnoseAs(uid: number, { host, sshdConfig }: Ward): Promise<readonly Finding[]> {
  const doctor = [join(program.path, 'dist', basename(PROGRAM)), 'doctor', '--json']
  const argv = [...doctor, '--config', host.configPath, '--sshd-config', sshdConfig]
  const ended = run(join(program.path, 'node'), argv, { uid, gid: uid })
  const { stdout } = await ended.catch((error: { readonly stdout: string }) => error)
  return findingsIn(stdout)
}

describe('doctor, run by the wrong user', needsRoot, () => {
  beforeAll(copyProgram)
  afterAll(async () => program.remove())

  test('a configuration that only root may read', async () => {
    await using ward = await makeWard()
    await chmod(ward.host.configPath, 0o600)
    const [first] = await diagnoseAs(NOBODY, ward)
    expect(first).toMatchObject({
      status: 'failure',
      message: expect.stringContaining('permission denied (EACCES)') as string,
      remedy: expect.stringMatching(
        /^run `sudo hostcertd doctor`; or `chmod a\+rX .*hostcertd\.yaml`/,
      ) as string,
    })
  })

  test('a credential that only root may read, and the daemon is root', async () => {
    await using ward = await makeWard()
    const findings = await diagnoseAs(NOBODY, ward)
    expect(of('credentials', findings)).toMatchObject([
      { status: 'unknown', remedy: 'run `sudo hostcertd doctor`; root can read it' },
    ])
    expect(of('login', findings)).toMatchObject([{ status: 'skipped' }])
    expect(troubles(findings)).toEqual([])
  })

  test('a credential in a folder that nobody may look into', async () => {
    await using ward = await makeWard()
    const folder = join(ward.host.folder, 'secrets')
    await mkdir(folder, { mode: 0o700 })
    const secretFile = join(folder, 'client-secret')
    await cp(ward.secretFile, secretFile)
    const auth = { method: 'universal-auth', client_id: ward.clientId, client_secret_file: secretFile }
    await ward.configure({ auth })
    const findings = await diagnoseAs(NOBODY, ward)
    expect(of('credentials', findings)).toMatchObject([{ status: 'unknown' }])
  })

  test.each([
    { name: 'another than who runs this', uid: NOBODY },
    { name: 'the one who runs this', uid: OWNER },
  ])('a credential that the daemon may not read either: $name', async ({ uid }) => {
    await using ward = await makeWard()
    await chown(ward.host.statePath, OWNER, OWNER)
    const findings = await diagnoseAs(uid, ward)
    expect(of('credentials', findings)).toMatchObject([
      {
        status: 'failure',
        remedy: expect.stringMatching(/^`chown 65534:65534 .*client-secret && chmod 400/) as string,
      },
    ])
  })
})
