import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { array, boolean, constantFrom, oneof, record, sample } from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { SshdWanted } from '../../agent/enroll/sshd.ts'
import { needsRoot } from '../support/skip.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { addHost, HELPERS_DROP_IN, HOST_KEY_TYPES, type Planned, SshHost } from './ssh-host.ts'

const MAIN = '/etc/ssh/sshd_config'
const INCLUDE = 'Include /etc/ssh/sshd_config.d/40-hostcertd.conf'
const INCLUDE_USER_CA = 'Include /etc/ssh/sshd_config.d/41-hostcertd-user-ca.conf'
const KEY_ID = 'host-0f8fad5b-d9cb-469f-a165-70867728950e'
const ALL: SshdWanted = { takesOverRivals: true, userCa: null }
const NO_RIVALS: SshdWanted = { takesOverRivals: false, userCa: null }
const OURS = HOST_KEY_TYPES.map(
  (type) => `hostcertificate /etc/ssh/hostcertd/ssh_host_${type}_key-cert.pub`,
).toSorted()

const RHEL_8 = `#	$OpenBSD: sshd_config,v 1.103 2018/04/09 20:41:22 tj Exp $

# This is the sshd server system-wide configuration file.  See
# sshd_config(5) for more information.

# If you want to change the port on a SELinux system, you have to tell
# SELinux about this change.
#
#Port 22

HostKey /etc/ssh/ssh_host_rsa_key
HostKey /etc/ssh/ssh_host_ecdsa_key
HostKey /etc/ssh/ssh_host_ed25519_key

SyslogFacility AUTHPRIV
PermitRootLogin yes
AuthorizedKeysFile	.ssh/authorized_keys
PasswordAuthentication yes
ChallengeResponseAuthentication no
GSSAPIAuthentication yes
UsePAM yes
X11Forwarding yes
PrintMotd no
AcceptEnv LANG LC_CTYPE LC_NUMERIC LC_TIME LC_COLLATE LC_MONETARY LC_MESSAGES
Subsystem	sftp	/usr/libexec/openssh/sftp-server
`
const DEBIAN = (() => {
  try {
    return readFileSync('/usr/share/openssh/sshd_config', 'utf8')
  } catch {
    return 'Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n'
  }
})()
const INCLUDES_ALL = 'Include /etc/ssh/sshd_config.d/*.conf\n'

/** Real programs, by the dozen, on a machine with much else to do. */
const SLOW_MILLISECONDS = 120_000

let host: SshHost
let addedCertificate: string

beforeAll(async () => {
  host = await SshHost.make()
  addedCertificate = await host.certify('ed25519', { keyId: KEY_ID, validity: '20200101:20210101' })
}, SLOW_MILLISECONDS)

afterAll(async () => {
  await host[Symbol.asyncDispose]()
})

beforeEach(async () => {
  await writeFile(host.path('ssh_host_ed25519_key-cert.pub'), addedCertificate)
})

async function planOne(
  main: string,
  {
    wanted = ALL,
    others = {},
    later = {},
  }: {
    readonly wanted?: SshdWanted | null
    readonly others?: Readonly<Record<string, string>>
    readonly later?: Readonly<Record<string, string>>
  } = {},
): Promise<Planned> {
  const files = { [MAIN]: main, ...others }
  const [planned] = await host.plan([{ files, wanted, later: { ...HELPERS_DROP_IN, ...later } }])
  return planned!
}

/** Lines of `sshd -T` that came, with `+`, and that went, with `-`; of lines that are there twice each counts. */
function difference({ before, after }: Pick<Planned, 'before' | 'after'>): string[] {
  const without = (lines: readonly string[], others: readonly string[], sign: string): string[] => {
    const left = [...others]
    return lines.flatMap((line) => {
      const index = left.indexOf(line)
      if (index !== -1) left.splice(index, 1)
      return index === -1 ? [`${sign}${line}`] : []
    })
  }
  return [...without(before, after, '-'), ...without(after, before, '+')].toSorted()
}

const plus = (lines: readonly string[]): string[] => lines.map((line) => `+${line}`)

interface Row {
  readonly name: string
  readonly main: string
  readonly others?: Readonly<Record<string, string>>
  /** What it becomes; left out: with a line more at the top. */
  readonly want?: string
}

const INCLUDED: readonly Row[] = [
  { name: "Debian's own", main: DEBIAN },
  { name: 'in the middle', main: `Port 22\n${INCLUDES_ALL}UsePAM no\n` },
  {
    name: 'relative, in upper case, quoted, with an equals sign',
    main: 'INCLUDE="sshd_config.d/*.conf"\n',
  },
  {
    name: 'by a tab, one pattern of several',
    main: 'Include\t/nowhere /etc/ssh/*.d/4[0-9]-host*.conf\r\n',
  },
  { name: 'the file alone', main: `${INCLUDE}\n` },
  { name: 'below Match all', main: `Match User x\nX11Forwarding no\nMatch all\n${INCLUDES_ALL}` },
  {
    name: 'by an included file',
    main: 'Include /etc/ssh/more\nUsePAM yes\n',
    others: { '/etc/ssh/more': INCLUDES_ALL },
  },
]

const NOT_INCLUDED: readonly Row[] = [
  { name: "RHEL 8's", main: RHEL_8, want: RHEL_8.replace('HostKey', `${INCLUDE}\nHostKey`) },
  { name: 'a Match first', main: 'Match User x\n X11Forwarding no\n' },
  { name: 'empty', main: '', want: `${INCLUDE}\n` },
  { name: 'comments only, no newline at the end', main: '#a\n# b', want: `#a\n# b\n${INCLUDE}\n` },
  {
    name: 'a comment, then a line without an end',
    main: '# b\nUsePAM no',
    want: `# b\n${INCLUDE}\nUsePAM no`,
  },
  { name: 'CRLF', main: '# a\r\n\r\nUsePAM no\r\n', want: `# a\r\n\r\n${INCLUDE}\r\nUsePAM no\r\n` },
  { name: 'tabs and equals signs', main: '\tUsePAM\t=\tno\nLogLevel=DEBUG\n' },
  { name: 'upper case and quotes', main: '"USEPAM" "no"\nBANNER "/etc/a banner"\n' },
  { name: 'bytes that are no UTF-8', main: '# caf\xE9 \xFF\xFE\nUsePAM no # \xE9\n' },
  { name: 'only other names', main: 'Include /etc/ssh/sshd_config.d/5*.conf\nUsePAM no\n' },
  { name: 'only below Match, and other names', main: 'UsePAM no\nMatch User x\nInclude /etc/ssh/x.d/*\n' },
  { name: 'a comment that looks like it', main: `# ${INCLUDES_ALL}UsePAM no\n` },
  { name: 'an Include of another folder', main: 'Include /usr/etc/ssh/sshd_config.d/*.conf\nUsePAM no\n' },
]

describe('the drop-ins are included', needsRoot, () => {
  let planned: readonly Planned[]

  beforeAll(async () => {
    planned = await host.plan(
      [...INCLUDED, ...NOT_INCLUDED].map(({ main, others = {} }) => ({
        files: { [MAIN]: main, ...others },
        wanted: ALL,
        later: HELPERS_DROP_IN,
      })),
    )
  }, SLOW_MILLISECONDS)

  test.each(INCLUDED)('$name: nothing to do', (row) => {
    const one = planned[[...INCLUDED, ...NOT_INCLUDED].indexOf(row)]!
    expect(one).toMatchObject({ steps: [], problems: [], check: { kind: 'ok' }, main: row.main })
    expect(difference(one)).toEqual(plus(OURS))
  })

  test.each(NOT_INCLUDED)('$name: a line at the top', (row) => {
    const one = planned[[...INCLUDED, ...NOT_INCLUDED].indexOf(row)]!
    expect(one).toMatchObject({ problems: [], check: { kind: 'ok' }, again: [] })
    expect(one.steps).toEqual([`${MAIN}: sshd reads /etc/ssh/sshd_config.d/40-hostcertd.conf`])
    expect(one.main).toBe(row.want ?? row.main.replace(/^(?!\s*#)(?=[^])/m, `${INCLUDE}\n`))
    expect(difference(one)).toEqual(plus(OURS))
  })

  test('then sshd presents the certificates', async () => {
    await planOne(RHEL_8)
    expect(Object.values(await host.presented())).toEqual(await certificates())
  })

  test('sshd accepts it before there is such a file; drop-ins of others stay asleep', async () => {
    const others = { '/etc/ssh/sshd_config.d/50-cloud.conf': 'PermitRootLogin no\n' }
    const wanted = { ...ALL, userCa: [] }
    const [one] = await host.plan([{ files: { [MAIN]: RHEL_8, ...others }, wanted }])
    expect(one).toMatchObject({
      main: RHEL_8.replace('HostKey', `${INCLUDE}\n${INCLUDE_USER_CA}\nHostKey`),
      check: { kind: 'ok' },
      notes: ['/etc/ssh/sshd_config.d/50-cloud.conf: sshd does not read it, and this stays so'],
    })
    expect(difference(one!)).toEqual([])
  })

  test.each([
    { name: 'only there', main: `UsePAM no\nMatch User x\n${INCLUDES_ALL}`, line: 3 },
    { name: 'at the top, too', main: `${INCLUDES_ALL}Match User x\n${INCLUDES_ALL}`, line: 3 },
  ])('an Include below Match, $name, would make sshd refuse the drop-in', async ({ main, line }) => {
    const one = await planOne(main)
    expect(one.steps).toEqual([])
    expect(one.problems).toEqual([
      `${MAIN}:${line}: Include /etc/ssh/sshd_config.d/*.conf is below a Match line and includes /etc/ssh/sshd_config.d/40-hostcertd.conf; sshd does not allow HostCertificate there: move it above the first Match line`,
    ])
    expect(one.check).toEqual({
      kind: 'refused',
      why: expect.stringMatching(/'HostCertificate' is not allowed within a Match block$/) as string,
    })
  })

  test(
    'whatever else is written there: nothing else of sshd changes, and a second plan is empty',
    async () => {
      const line = oneof(
        constantFrom(
          'UsePAM no',
          '\tLogLevel\tDEBUG',
          'Banner="/etc/a b"',
          '# caf\xE9',
          '',
          '  ',
          INCLUDES_ALL.trimEnd(),
          'PermitRootLogin = yes',
          'HostKey /etc/ssh/ssh_host_rsa_key',
          'hostkey /etc/ssh/ssh_host_ed25519_key',
          'HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub',
          'Include /etc/ssh/nothing.d/*',
          'AllowUsers a b "c"',
          'X11Forwarding no # why',
        ),
      )
      const anyText = record({
        lines: array(line, { maxLength: 8 }),
        match: constantFrom('', 'Match User x', 'Match Address 192.0.2.1\n\tX11Forwarding no'),
        end: constantFrom('\n', '\r\n'),
        isEnded: boolean(),
      }).map(({ lines, match, end, isEnded }) => {
        const all = match === '' ? lines : [...lines, ...match.split('\n')]
        return all.join(end) + (isEnded ? end : '')
      })
      const mains = sample(anyText, { numRuns: 15, seed: 11 })
      const results = await host.plan(
        mains.map((main) => ({ files: { [MAIN]: main }, wanted: ALL, later: HELPERS_DROP_IN })),
      )
      for (const [index, one] of results.entries()) {
        expect(one, mains[index]).toMatchObject({ problems: [], check: { kind: 'ok' }, again: [] })
        const changed = difference(one).filter((entry) => !OURS.includes(entry.slice(1)))
        const allowed = /^(?:-hostcertificate \/etc\/ssh\/ssh_host_ed25519_key-cert\.pub|[+-]hostkey .*)$/
        expect(
          changed.filter((entry) => !allowed.test(entry)),
          mains[index],
        ).toEqual([])
        expect(one.before[0], mains[index]).not.toMatch(/^refused/)
      }
    },
    SLOW_MILLISECONDS,
  )
})

/** As sshd has to present them. */
async function certificates(): Promise<string[]> {
  const lines = HOST_KEY_TYPES.map((type) =>
    readFile(host.path(`hostcertd/ssh_host_${type}_key-cert.pub`), 'utf8'),
  )
  return (await Promise.all(lines)).map((line) => line.split(' ').slice(0, 2).join(' ').trimEnd())
}

describe('what infisical ssh add-host left is taken out', needsRoot, () => {
  const userCa = async (): Promise<string> => readFile(host.path('user-ca-of-host.pub'), 'utf8')

  beforeAll(async () => {
    await generateKey(host.path('user-ca-of-host'), 'ed25519', '')
    await writeFile(host.path('infisical_user_ca.pub'), await userCa())
  })

  test.each([
    ['TrustedUserCAKeys', 'HostKey', 'HostCertificate'],
    ['HostKey', 'HostCertificate', 'TrustedUserCAKeys'],
    ['HostCertificate', 'TrustedUserCAKeys', 'HostKey'],
  ])('%s %s %s at the end: all host keys come back, and no other byte changes', async (...order) => {
    const main = addHost(DEBIAN, 'ed25519', { order })
    const planned = await planOne(main)
    const kept = `\nTrustedUserCAKeys /etc/ssh/infisical_user_ca.pub${order[2] === 'TrustedUserCAKeys' ? '' : '\n'}`
    expect(planned.main).toBe(DEBIAN + kept)
    expect(planned).toMatchObject({ problems: [], check: { kind: 'ok' }, again: [], modes: [0o644] })
    expect(planned.steps[0]).toContain('left by `infisical ssh add-host`')
    expect(planned.notes).toEqual([
      expect.stringMatching(/TrustedUserCAKeys \/etc\/ssh\/infisical_user_ca\.pub .*: stays$/),
    ])
    expect(difference(planned)).toEqual(
      [
        '-hostcertificate /etc/ssh/ssh_host_ed25519_key-cert.pub',
        '+hostkey /etc/ssh/ssh_host_ecdsa_key',
        '+hostkey /etc/ssh/ssh_host_rsa_key',
        ...plus(OURS),
      ].toSorted(),
    )
  })

  test('before, sshd presents the one that is never renewed; then those of hostcertd', async () => {
    const main = addHost(DEBIAN, 'ed25519')
    await planOne(main, { wanted: null })
    expect(await host.presented()).toEqual({
      rsa: null,
      ecdsa: null,
      ed25519: addedCertificate.split(' ').slice(0, 2).join(' ').trimEnd(),
    })
    await planOne(main)
    expect(Object.values(await host.presented())).toEqual(await certificates())
  })

  test('with --force over every line that there was', async () => {
    const rest = RHEL_8.replaceAll(/HostKey .*\n/g, '')
    const main = addHost(`${RHEL_8}HostCertificate /etc/ssh/other-cert.pub\n`, 'ed25519', { isForced: true })
    expect(main.match(/HostKey .*ed25519_key$/gm)).toHaveLength(3)
    const planned = await planOne(main)
    const wanted = `${rest}\nTrustedUserCAKeys /etc/ssh/infisical_user_ca.pub`
    expect(planned.main).toBe(
      wanted.replace('\n\nSyslog', `\n${INCLUDE}\nSyslog`).replace('#Port 22\n', '#Port 22\n\n'),
    )
    expect(planned).toMatchObject({ problems: [], check: { kind: 'ok' }, again: [] })
    expect(Object.values(await host.presented())).toEqual(await certificates())
  })

  test('in a file that an editor saved with CRLF', async () => {
    const planned = await planOne(addHost(DEBIAN, 'ed25519').replaceAll('\n', '\r\n'))
    expect(planned.main).toContain('\r\nTrustedUserCAKeys /etc/ssh/infisical_user_ca.pub')
    expect(planned.main).not.toMatch(/^Host(?:Key|Certificate) /m)
    expect(planned).toMatchObject({ problems: [], check: { kind: 'ok' }, again: [] })
  })

  test('below Match, where sshd refuses it', async () => {
    const base = `${DEBIAN}Match User x\n\tX11Forwarding no\n`
    const planned = await planOne(addHost(base, 'ed25519'))
    expect(planned.before).toEqual([expect.stringContaining('not allowed within a Match block')])
    expect(planned).toMatchObject({ problems: [], check: { kind: 'ok' }, again: [] })
    expect(planned.main).toBe(`${base}\nTrustedUserCAKeys /etc/ssh/infisical_user_ca.pub\n`)
    expect(planned.notes[0]).toMatch(/^sshd does not accept its configuration: .*HostCertificate|HostKey/)
  })

  test('a HostKey line that stood above stays, and is named when it is the same key', async () => {
    const above = 'hostkey /etc/ssh/ssh_host_rsa_key\n  HostKey\t/etc/ssh/ssh_host_ed25519_key\n'
    const planned = await planOne(addHost(`${above}${DEBIAN}`, 'ed25519'))
    expect(planned.main).toBe(`${above}${DEBIAN}\nTrustedUserCAKeys /etc/ssh/infisical_user_ca.pub\n`)
    const forced = addHost(`HostKey /etc/ssh/ssh_host_ed25519_key\n${DEBIAN}`, 'ed25519', { isForced: true })
    const doubtful = await planOne(forced)
    expect(doubtful.main).toBe(
      `HostKey /etc/ssh/ssh_host_ed25519_key\n${DEBIAN}\nTrustedUserCAKeys /etc/ssh/infisical_user_ca.pub\n`,
    )
    expect(doubtful.notes[0]).toBe(
      `${MAIN}:1: HostKey /etc/ssh/ssh_host_ed25519_key stays, for an administrator may have written it; HostKey lines replace sshd's own list of host keys`,
    )
  })

  test('without evidence its HostKey line stays', async () => {
    const main = addHost(DEBIAN, 'ed25519')
    await writeFile(
      host.path('ssh_host_ed25519_key-cert.pub'),
      await host.certify('ed25519', { keyId: 'web1' }),
    )
    const planned = await planOne(main)
    expect(planned.steps).toEqual([
      expect.stringContaining('HostCertificate /etc/ssh/ssh_host_ed25519_key-cert'),
    ])
    expect(planned.main).toContain('\nHostKey /etc/ssh/ssh_host_ed25519_key')
  })

  test('its TrustedUserCAKeys line goes only when the same key is put in place', async () => {
    const main = addHost(DEBIAN, 'ed25519')
    const later = {
      '/etc/ssh/sshd_config.d/41-hostcertd-user-ca.conf':
        'TrustedUserCAKeys /etc/ssh/hostcertd/user-ca.pub\n',
      '/etc/ssh/hostcertd/user-ca.pub': await userCa(),
    }
    const same = await planOne(main, {
      wanted: { ...ALL, userCa: [(await userCa()).replace('\n', ' another')] },
      later,
    })
    expect(same).toMatchObject({
      main: `${DEBIAN}\n`,
      notes: [],
      problems: [],
      check: { kind: 'ok' },
      again: [],
    })
    expect(difference(same)).toContain('+trustedusercakeys /etc/ssh/hostcertd/user-ca.pub')
    const other = await generateKey(host.path('another-user-ca'), 'ed25519', '')
    const another = await planOne(main, { wanted: { ...ALL, userCa: [other] } })
    expect(another.main).toContain('TrustedUserCAKeys /etc/ssh/infisical_user_ca.pub')
    expect(another.problems).toEqual([expect.stringMatching(/so logins by it would end/)])
  })

  test.each([
    { name: 'RHEL 8', base: RHEL_8, isForced: true },
    { name: 'Debian', base: DEBIAN, isForced: false },
    { name: 'its line first', base: '# a\n# b\n', isForced: false },
  ])(
    'a crash between two changes, or while they are undone, leaves sshd with a user CA: $name',
    async ({ base, isForced }) => {
      const main = addHost(base, 'ed25519', { isForced })
      const files = {
        [MAIN]: main,
        '/etc/ssh/sshd_config.d/41-hostcertd-user-ca.conf':
          'TrustedUserCAKeys /etc/ssh/hostcertd/user-ca.pub\n',
        '/etc/ssh/hostcertd/user-ca.pub': await userCa(),
      }
      const wanted = { ...ALL, userCa: [await userCa()] }
      const [planned] = await host.plan([{ files, wanted, isUndone: true }])
      expect(planned?.problems).toEqual([])
      expect(planned?.steps).toHaveLength(2)
      expect(planned?.userCas).toHaveLength(5)
      for (const line of planned?.userCas ?? [])
        expect(line).toMatch(/^trustedusercakeys \/etc\/ssh\/.*\.pub$/)
      expect(planned?.after).toContain('trustedusercakeys /etc/ssh/hostcertd/user-ca.pub')
      expect(planned?.undone).toBe(main)
    },
  )

  test('a TrustedUserCAKeys line whose file is missing lets nobody in, so no login would end', async () => {
    const line = 'TrustedUserCAKeys /etc/ssh/gone.pub\n'
    const wanted = { ...ALL, userCa: [await userCa()] }
    const stays = expect.stringMatching(/gone\.pub: stays$/) as string
    const later = await planOne(`${DEBIAN}${line}`, { wanted })
    expect(later).toMatchObject({ problems: [], notes: [stays] })
    expect(later.main).toContain(line)
    const earlier = await planOne(`${line}${DEBIAN}`, { wanted })
    expect(earlier).toMatchObject({ problems: [], notes: [expect.stringContaining('have no effect')] })
  })
})

describe('certificates of others', needsRoot, () => {
  beforeEach(async () => {
    await rm(host.path('ssh_host_ed25519_key-cert.pub'))
    await writeFile(
      host.path('rival-cert.pub'),
      await host.certify('ed25519', { ca: 'other-ca', keyId: 'step' }),
    )
  })

  const RIVAL = 'HostCertificate /etc/ssh/rival-cert.pub\n'

  test.each([
    { name: 'in the main file', main: `${DEBIAN}${RIVAL}`, others: {}, file: MAIN },
    {
      name: 'in a later drop-in',
      main: DEBIAN,
      others: { '/etc/ssh/sshd_config.d/50-step.conf': `# by step\n${RIVAL}` },
      file: '/etc/ssh/sshd_config.d/50-step.conf',
    },
    {
      name: 'in a file included later',
      main: `Include /etc/ssh/first\nInclude /etc/ssh/later\n`,
      others: { '/etc/ssh/first': INCLUDES_ALL, '/etc/ssh/later': `\t${RIVAL}` },
      file: '/etc/ssh/later',
    },
    {
      name: 'above, where the drop-in is going to be included',
      main: `UsePAM no\n${RIVAL}`,
      others: {},
      file: MAIN,
    },
  ])('$name, read later: taken out with consent', async ({ main, others, file }) => {
    const planned = await planOne(main, { others })
    expect(planned).toMatchObject({ problems: [], check: { kind: 'ok' }, again: [] })
    expect(planned.steps.at(-1)).toMatch(
      new RegExp(
        `^${file}: ${file}:\\d+: HostCertificate .*\\(key id "step", signed by the CA SHA256:.*\\): sshd would`,
      ),
    )
    expect(difference(planned)).toEqual(
      ['-hostcertificate /etc/ssh/rival-cert.pub', ...plus(OURS)].toSorted(),
    )
    expect(Object.values(await host.presented())).toEqual(await certificates())
    const refused = await planOne(main, { others, wanted: NO_RIVALS })
    expect(refused.problems).toEqual([
      expect.stringMatching(/remove that line, or add --take-over to have it taken out$/),
    ])
    expect((await host.presented())['ed25519']).not.toBe((await certificates())[2])
  })

  test.each([
    { name: 'an earlier drop-in', others: { '/etc/ssh/sshd_config.d/30-a.conf': RIVAL }, main: DEBIAN },
    { name: 'an earlier line', others: {}, main: `${RIVAL}${DEBIAN}` },
    {
      name: 'a file that an earlier drop-in includes',
      others: { '/etc/ssh/sshd_config.d/30-a.conf': 'Include /etc/ssh/z\n', '/etc/ssh/z': RIVAL },
      main: DEBIAN,
    },
  ])('$name does not win, and stays', async ({ main, others }) => {
    expect(await planOne(main, { others })).toMatchObject({ steps: [], problems: [], main })
    expect(Object.values(await host.presented())).toEqual(await certificates())
  })

  test('one for a key of another host, and one that is not there, stay', async () => {
    await using elsewhere = await SshHost.make()
    await writeFile(host.path('elsewhere-cert.pub'), await elsewhere.certify('ed25519'))
    const main = `${DEBIAN}HostCertificate /etc/ssh/elsewhere-cert.pub\nHostCertificate /etc/ssh/none-cert.pub\n`
    expect(await planOne(main)).toMatchObject({ steps: [], problems: [], main })
    expect(Object.values(await host.presented())).toEqual(await certificates())
  })
})

describe('what is named, and not touched', needsRoot, () => {
  test('who decides about logins', async () => {
    const others = {
      '/etc/ssh/sshd_config.d/60-opk-ssh.conf':
        'AuthorizedKeysCommand /usr/local/bin/opkssh verify %u %k %t\nAuthorizedKeysCommandUser opksshuser\n',
    }
    const main = `TrustedUserCAKeys /etc/ssh/oslogin_trustedca.pub
authorizedprincipalscommand=/usr/bin/google_authorized_principals %u %k
AuthorizedPrincipalsCommandUser root
Match User x
AuthorizedKeysCommand /usr/bin/sss_ssh_authorizedkeys
Match all
${INCLUDES_ALL}`
    expect(await planOne(main, { others })).toMatchObject({
      steps: [],
      problems: [],
      notes: [
        `${MAIN}:1: TrustedUserCAKeys /etc/ssh/oslogin_trustedca.pub (most likely of the guest agent of Google Cloud (OS Login)): stays`,
        `${MAIN}:2: AuthorizedPrincipalsCommand /usr/bin/google_authorized_principals %u %k (most likely of the guest agent of Google Cloud (OS Login)): stays`,
        `${MAIN}:5: AuthorizedKeysCommand /usr/bin/sss_ssh_authorizedkeys (most likely of SSSD): stays`,
        '/etc/ssh/sshd_config.d/60-opk-ssh.conf:1: AuthorizedKeysCommand /usr/local/bin/opkssh verify %u %k %t (most likely of opkssh): stays',
      ],
    })
  })

  test('algorithms without certificates', async () => {
    const main = `${DEBIAN}HostKeyAlgorithms ssh-ed25519,rsa-sha2-512,rsa-sha2-256-cert-v01@openssh.com\n`
    const { notes, steps } = await planOne(main)
    const line = DEBIAN.split('\n').length
    expect([steps, notes.map((note) => note.split(' (')[0])]).toEqual([
      [],
      ['ecdsa', 'ed25519'].map(
        (type) =>
          `${MAIN}:${line}: HostKeyAlgorithms excludes certificates for /etc/ssh/ssh_host_${type}_key`,
      ),
    ])
  })

  test('what sshd reads and enroll cannot is a problem; a folder and /dev/null are nothing to sshd either', async () => {
    const long = `${'#'.repeat(99)}\n`.repeat(11_000)
    const drop = '/etc/ssh/sshd_config.d/10-long.conf'
    const rival = `HostCertificate /etc/ssh/long-cert.pub\n`
    const others = {
      [drop]: long,
      '/etc/ssh/sshd_config.d/11-rival.conf': rival,
      '/etc/ssh/long-cert.pub': long,
    }
    const { problems, check } = await planOne(DEBIAN, { others, wanted: NO_RIVALS })
    expect(check).toEqual({ kind: 'ok' })
    const named = 'which the configuration of sshd names: it is larger than'
    expect(problems).toEqual([
      `cannot read ${drop}, ${named} 1024 KiB`,
      `cannot read /etc/ssh/long-cert.pub, ${named} 64 KiB`,
    ])
    await rm(host.path('long-cert.pub'))
    await mkdir(host.path('odd/folder'), { recursive: true })
    await symlink('/dev/null', host.path('odd/masked'))
    const odd = await planOne(`Include /etc/ssh/odd/*\n${DEBIAN}`)
    expect(odd).toMatchObject({ problems: [], check: { kind: 'ok' } })
    await rm(host.path('odd'), { recursive: true })
  })

  test('a configuration that sshd refuses, for another reason, is a problem', async () => {
    const planned = await planOne(`${DEBIAN}NoSuchKeyword yes\n`)
    expect(planned.check).toEqual({
      kind: 'refused',
      why: expect.stringContaining('NoSuchKeyword') as string,
    })
    expect(planned.problems).toEqual([
      expect.stringMatching(/^sshd does not accept its configuration: .*NoSuchKeyword.*; correct it until/),
    ])
  })
})

describe('host keys without public halves', needsRoot, () => {
  test('are given one, of the same owner', async () => {
    await using own = await SshHost.make()
    const path = own.path('ssh_host_ecdsa_key.pub')
    const before = await readFile(path, 'utf8')
    await rm(path)
    const [planned] = await own.plan([{ files: { [MAIN]: DEBIAN }, wanted: ALL }])
    expect(planned).toMatchObject({ modes: [0o644], notes: [], again: [] })
    expect(planned?.after.filter((line) => line.startsWith('hostkey'))).toEqual(
      planned?.before.filter((line) => line.startsWith('hostkey')),
    )
    expect((await readFile(path, 'utf8')).trimEnd()).toBe(before.trimEnd())
  })

  test('with a passphrase are named, and nobody is asked for it', async () => {
    await using own = await SshHost.make()
    await using folder = await makeTemporaryFolder()
    const key = own.path('ssh_host_rsa_key')
    execFileSync('ssh-keygen', ['-q', '-p', '-P', '', '-N', 'secret', '-f', key], { cwd: folder.path })
    await rm(`${key}.pub`)
    const [planned] = await own.plan([{ files: { [MAIN]: DEBIAN }, wanted: ALL }])
    expect(planned).toMatchObject({
      steps: [],
      notes: [
        expect.stringMatching(/^host key .*rsa_key has no public half, and cannot be read: .*passphrase/),
      ],
    })
  })

  test('that sshd does not load stay as they are', async () => {
    await using own = await SshHost.make()
    await rm(own.path('ssh_host_ecdsa_key.pub'))
    const main = `HostKey /etc/ssh/ssh_host_rsa_key\n${DEBIAN}`
    const [planned] = await own.plan([{ files: { [MAIN]: main }, wanted: ALL }])
    expect(planned).toMatchObject({ steps: [], notes: [] })
  })
})
