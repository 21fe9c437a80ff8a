import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { examineJournal } from '../../agent/doctor/configuration.ts'
import { openJournal } from '../../agent/enroll/journal.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

test.each([
  { name: 'no journal, as on a host that was enrolled by hand', calls: [], troubles: [] },
  { name: 'a journal in which all is finished', calls: ['finished'], troubles: [] },
  { name: 'an enrollment that was cut off', calls: ['cut off'], troubles: ['warning'] },
])('$name', async ({ calls, troubles }) => {
  await using folder = await makeTemporaryFolder()
  const journal = join(folder.path, 'enroll')
  for (const call of calls) {
    await using open = await openJournal({ folder: journal, performers: {} })
    const run = open.begin()
    const after = {
      content: Buffer.from('x'),
      mode: 0o600,
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
    }
    const path = join(folder.path, 'file')
    await run.make({ kind: 'file', step: 'write it', path, before: null, after, isSecret: false })
    if (call === 'finished') await run.finish()
  }
  const findings = await examineJournal(journal)
  expect(findings.map(({ status }) => status)).toEqual(troubles)
  for (const { step, remedy } of findings) {
    expect(step).toBe('configuration')
    expect(remedy).toMatch(/hostcertd enroll.*hostcertd unenroll/)
  }
})

test('a damaged journal is a warning that names it', async () => {
  await using folder = await makeTemporaryFolder()
  const path = join(folder.path, 'journal.json')
  await writeFile(path, '{')
  await chmod(path, 0o600)
  const [finding] = await examineJournal(folder.path)
  expect(finding).toMatchObject({
    status: 'warning',
    message: expect.stringContaining(`${path}: it is damaged`),
  })
})
