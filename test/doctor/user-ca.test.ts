import { mkdir, rm, symlink, writeFile } from 'node:fs/promises'
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
  /** Which of its files cannot be read, not even by root. */
  readonly unreadable?: 'user-ca.pub' | 'sshd_config' | 'drop-ins' | 'drop-ins/10-x.conf'
  readonly isRoot?: boolean
  /** Of the last finding; left out: any. */
  readonly remedy?: RegExp
  readonly want: readonly (readonly [status: string, message: RegExp])[]
}

const CASES: readonly Case[] = [
  {
    name: 'user_ca.install is false',
    isInstalled: false,
    status: null,
    want: [['skipped', /install is false/]],
  },
  { name: 'all well', want: [['ok', /SHA256:/]] },
  {
    name: 'never refreshed',
    status: null,
    keys: '',
    want: [
      ['failure', /have never been refreshed/],
      ['failure', /holds no CA/],
    ],
  },
  {
    name: 'not refreshed for three days',
    status: { ...WELL, last_success: at(4) },
    want: [
      ['failure', /have not been refreshed for three days \(last success: 2024/],
      ['ok', /SHA256:/],
    ],
  },
  {
    name: 'failed just now',
    status: { ...WELL, error: INVALID },
    want: [
      ['warning', /failed \(last success: .*\): USER_CA_INVALID: it is a web page/],
      ['ok', /SHA256:/],
    ],
  },
  {
    name: 'failing for days',
    status: { ...WELL, last_success: null, error: INVALID, reload_pending: true },
    want: [
      ['failure', /failed \(it has never succeeded\): USER_CA_INVALID/],
      ['warning', /sshd has not been reloaded/],
      ['ok', /SHA256:/],
    ],
  },
  {
    name: 'a status that is damaged hides neither the keys nor another line',
    status: '{',
    sshdConfig: 'TrustedUserCAKeys /etc/ssh/other.pub\n',
    want: [
      ['unknown', /cannot use .*ca-status/],
      ['ok', /SHA256:/],
      ['failure', /other\.pub is read first/],
    ],
    remedy: /make the change that this message names/,
  },
  ...(['sshd_config', 'drop-ins', 'drop-ins/10-x.conf'] as const).flatMap((unreadable) =>
    [true, false].map((isRoot): Case => ({
      name: `${unreadable} that ${isRoot ? 'root' : 'another user'} cannot read`,
      unreadable,
      isRoot,
      want: [
        ['ok', /SHA256:/],
        ['unknown', new RegExp(`cannot read .*/${unreadable}: `)],
      ],
      remedy: isRoot ? /check the owner and mode/ : /sudo hostcertd doctor/,
    })),
  ),
  ...[true, false].map((isRoot): Case => ({
    name: `user CAs that ${isRoot ? 'root' : 'another user'} cannot read`,
    unreadable: 'user-ca.pub',
    isRoot,
    want: [['unknown', /STORE_FAILED: cannot read .*user-ca\.pub/]],
    remedy: isRoot ? /check the owner and mode/ : /sudo hostcertd doctor/,
  })),
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

test.each(CASES)('$name', async (given) => {
  const {
    isInstalled = true,
    status = WELL,
    keys,
    sshdConfig = '',
    unreadable,
    isRoot = true,
    remedy = /^/,
    want,
  } = given
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
  if (unreadable !== undefined) {
    await rm(place(unreadable), { recursive: true, force: true })
    await symlink(place(unreadable), place(unreadable))
  }
  const config = { userCa: { install: isInstalled } } as Config
  const host = { clock: new ManualClock(NOW) }
  const examined = { config, host, sshdConfigFile: place('sshd_config'), isRoot }
  const findings = await examineUserCa(examined, places)
  expect(findings.map((finding) => [finding.step, finding.status])).toEqual(
    want.map(([wanted]) => ['user-ca', wanted]),
  )
  for (const [index, [, message]] of want.entries()) expect(findings[index]?.message).toMatch(message)
  expect(findings.at(-1)?.remedy ?? '').toMatch(remedy)
  for (const finding of findings)
    expect(finding.remedy === null).toBe(/^(?:ok|skipped)$/.test(finding.status))
})
