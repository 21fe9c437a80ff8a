import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createSelinux, examineSelinux } from '../../agent/doctor/certificates-on-disk.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { makeFakeProgram } from './fake-program.ts'

const NEVER = new AbortController().signal

test('where there is no SELinux nothing is looked at', async () => {
  await using folder = await makeTemporaryFolder()
  const selinux = createSelinux({ enforceFile: join(folder.path, 'none'), program: '/nonexistent' })
  expect(await selinux.mode()).toBeNull()
  expect(await examineSelinux(['/x'], NEVER, selinux)).toMatchObject([{ status: 'skipped' }])
})

test.each([
  {
    name: 'a label that sshd may read',
    enforce: '1',
    label: 'system_u:object_r:sshd_key_t:s0',
    status: 'ok',
  },
  {
    name: 'that of a state folder',
    enforce: '1',
    label: 'system_u:object_r:var_lib_t:s0',
    status: 'failure',
  },
  { name: 'the same, only logged', enforce: '0', label: 'system_u:object_r:var_lib_t:s0', status: 'warning' },
  { name: 'no label', enforce: '1', label: '?', status: 'skipped' },
])('$name: $status', async ({ enforce, label, status }) => {
  // No SELinux where this is tested, so a program in place of stat(1) prints the label.
  await using fake = await makeFakeProgram('stat', `echo '${label}'`)
  const { folder, program } = fake
  const enforceFile = join(folder, 'enforce')
  await writeFile(enforceFile, enforce)
  const certificate = join(folder, 'x-cert.pub')
  await writeFile(certificate, '')
  const [finding] = await examineSelinux([certificate], NEVER, createSelinux({ enforceFile, program }))
  expect(finding?.status).toBe(status)
  if (status !== 'failure' && status !== 'warning') return
  expect(finding?.message).toContain('is var_lib_t, which sshd cannot read')
  expect(finding?.remedy).toBe(
    `semanage fcontext -a -t sshd_key_t '${folder}(/.*)?' && restorecon -R ${folder}`,
  )
})
