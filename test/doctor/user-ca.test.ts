import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Config } from '../../agent/config/config.ts'
import { examineUserCa } from '../../agent/doctor/user-ca.ts'
import { userCaDropIn } from '../../agent/enroll/user-ca-files.ts'
import { type UserCaStatus, userCaStatusText } from '../../agent/host/user-ca-status.ts'
import { ManualClock } from '../fakes/manual-clock.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

const NOW = 20_000 * 86_400
const at = (daysAgo: number): string => new Date((NOW - daysAgo * 86_400) * 1000).toISOString()
const WELL: UserCaStatus = {
  version: 1,
  last_attempt: at(0),
  last_success: at(1),
  error: null,
  cas: [],
  reload_pending: false,
}
const INVALID = { code: 'USER_CA_INVALID', message: 'it is a web page' } as const

interface Case {
  readonly name: string
  readonly isInstalled?: boolean
  /** Null: there is none; a text: as it is. */
  readonly status?: UserCaStatus | string | null
  readonly keys?: string
  /** Above the Include. */
  readonly sshdConfig?: string
  readonly want: readonly (readonly [status: string, message: RegExp])[]
}

const CASES: readonly Case[] = [
  { name: 'not wanted', isInstalled: false, status: null, want: [['skipped', /install is false/]] },
  { name: 'all well', want: [['ok', /SHA256:/]] },
  {
    name: 'never refreshed',
    status: null,
    keys: '',
    want: [
      ['failure', /were never refreshed/],
      ['failure', /holds no CA/],
    ],
  },
  {
    name: 'for three days not',
    status: { ...WELL, last_success: at(4) },
    want: [
      ['failure', /not refreshed for three days \(last at 2024/],
      ['ok', /SHA256:/],
    ],
  },
  {
    name: 'failed just now',
    status: { ...WELL, error: INVALID },
    want: [
      ['warning', /succeeded last at .*USER_CA_INVALID: it is a web page/],
      ['ok', /SHA256:/],
    ],
  },
  {
    name: 'failing for days',
    status: { ...WELL, last_success: null, error: INVALID, reload_pending: true },
    want: [
      ['failure', /succeeded never.*USER_CA_INVALID/],
      ['warning', /sshd was not reloaded/],
      ['ok', /SHA256:/],
    ],
  },
  { name: 'a status that is damaged', status: '{', want: [['unknown', /cannot use .*ca-status/]] },
  {
    name: 'a rival, and one below Match',
    sshdConfig: 'TrustedUserCAKeys /etc/ssh/other.pub\nMatch User x\nTrustedUserCAKeys none\nMatch all\n',
    want: [
      ['ok', /SHA256:/],
      ['failure', /sshd_config:1: TrustedUserCAKeys \/etc\/ssh\/other\.pub is read first/],
      ['warning', /below a Match line/],
    ],
  },
]

test.each(CASES)('$name', async ({ isInstalled = true, status = WELL, keys, sshdConfig = '', want }) => {
  await using folder = await makeTemporaryFolder()
  const place = (name: string): string => join(folder.path, name)
  const places = {
    sshdConfig: '/nonexistent',
    file: place('user-ca.pub'),
    dropIn: place('drop-ins/41.conf'),
    status: place('ca-status.json'),
    lockFolder: '/nonexistent',
  }
  await mkdir(place('drop-ins'))
  await writeFile(places.file, keys ?? `${await generateKey(place('ca'), 'ed25519')}\n`)
  await writeFile(places.dropIn, userCaDropIn(places))
  await writeFile(place('sshd_config'), `${sshdConfig}Include ${place('drop-ins')}/*.conf\n`)
  if (status !== null)
    await writeFile(places.status, typeof status === 'string' ? status : userCaStatusText(status))
  const config = { userCa: { install: isInstalled } } as Config
  const examined = { config, host: { clock: new ManualClock(NOW) }, sshdConfigFile: place('sshd_config') }
  const findings = await examineUserCa(examined, places)
  expect(findings.map((finding) => [finding.step, finding.status])).toEqual(
    want.map(([wanted]) => ['user-ca', wanted]),
  )
  for (const [index, [, message]] of want.entries()) expect(findings[index]?.message).toMatch(message)
  for (const finding of findings)
    expect(finding.remedy === null).toBe(/^(?:ok|skipped)$/.test(finding.status))
})
