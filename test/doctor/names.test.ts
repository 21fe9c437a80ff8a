import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { judgeNames, type HostNames } from '../../agent/doctor/names.ts'
import { ED25519 } from '../cli/bare-host.ts'
import { findingsIn, of } from './findings.ts'
import { makeWard } from './ward.ts'

const WEB1 = 'web1.example.com'
const AT_HOME: HostNames = {
  fullName: WEB1,
  reverse: [WEB1],
  addresses: ['192.0.2.1', '2001:db8::1'],
  forward: new Map([[WEB1, ['192.0.2.1']]]),
}

describe('which names clients can use', () => {
  test.each<{
    name: string
    principals?: readonly string[]
    host?: Partial<HostNames>
    want: readonly [status: string, message: RegExp][]
  }>([
    {
      name: 'its own, in DNS',
      want: [
        ['ok', /^clients that resolve web1\.example\.com to this host, .* can use it; by web1 alone only/],
      ],
    },
    {
      name: 'only the second address is of this host',
      host: { forward: new Map([[WEB1, ['198.51.100.9', '2001:db8::1']]]) },
      want: [['ok', /^clients that resolve web1/]],
    },
    {
      name: 'in /etc/hosts only',
      host: { forward: new Map([[WEB1, ['127.0.1.1']]]) },
      want: [['ok', /here it is 127\.0\.1\.1, which says nothing about DNS/]],
    },
    {
      name: 'the address of another',
      host: { forward: new Map([[WEB1, ['198.51.100.9']]]) },
      want: [['unknown', /whose address \(198\.51\.100\.9\) is none of this host's own/]],
    },
    {
      name: 'the address of another, and its own in /etc/hosts',
      host: { forward: new Map([[WEB1, ['127.0.1.1', '198.51.100.9']]]) },
      want: [['unknown', /whose address \(198\.51\.100\.9\) is none of this host's own/]],
    },
    {
      name: 'an address',
      principals: ['192.0.2.1'],
      host: { fullName: null, forward: new Map([['192.0.2.1', ['192.0.2.1']]]), reverse: [] },
      want: [
        ['ok', /^clients that resolve 192\.0\.2\.1 to this host, as it does itself, can use it$/],
        ['unknown', /could not find out its full name/],
      ],
    },
    {
      name: 'no resolver knows it',
      host: { forward: new Map([[WEB1, []]]) },
      want: [['unknown', /which could not be resolved on this host/]],
    },
    {
      name: 'the resolver hangs',
      host: { forward: new Map([[WEB1, null]]), reverse: null, fullName: null },
      want: [
        ['unknown', /the resolver gave no answer/],
        ['unknown', /could not find out its full name .* and the names of its addresses/],
      ],
    },
    {
      name: 'its own addresses cannot be read',
      host: { addresses: null },
      want: [['unknown', /the addresses of this host could not be read/]],
    },
    {
      name: 'called otherwise',
      host: {
        fullName: 'DB.internal.example.com',
        reverse: ['nas.example.com', WEB1, 'db.internal.example.com'],
      },
      want: [
        ['ok', /^clients that resolve web1/],
        [
          'warning',
          /also called db\.internal\.example\.com, nas\.example\.com, which .*No … host key is known/,
        ],
      ],
    },
    {
      name: 'names that every host has for itself',
      host: { fullName: 'localhost.localdomain', reverse: ['localhost', 'web1'] },
      want: [['ok', /^clients that resolve web1/]],
    },
    {
      name: 'upper case',
      principals: ['WEB1.example.com'],
      want: [
        [
          'warning',
          /ssh looks for host names in lower case, so no client accepts the certificate for "WEB1\.example\.com"$/,
        ],
      ],
    },
    {
      name: 'upper case, and the same in lower case',
      principals: ['WEB1.example.com', WEB1],
      want: [
        ['warning', /WEB1/],
        ['ok', /^clients that resolve web1/],
      ],
    },
  ])('$name', ({ principals = [WEB1], host = {}, want }) => {
    const findings = judgeNames(principals, { ...AT_HOME, ...host })
    expect(findings.map(({ step, status }) => [step, status])).toEqual(
      want.map(([status]) => ['names', status]),
    )
    for (const [index, [, message]] of want.entries()) expect(findings[index]?.message).toMatch(message)
  })

  test('a pattern covers names, and is none for HostKeyAlias', () => {
    const remediesFor = (principals: readonly string[], fullName: string) =>
      judgeNames(principals, { ...AT_HOME, fullName, forward: new Map() })
        .filter(({ status }) => status === 'warning')
        .map(({ remedy }) => remedy)
    expect(remediesFor(['*.example.com', WEB1], 'nas.example.com')).toEqual([])
    expect(remediesFor(['*.example.com', WEB1], 'nas.example.net')).toEqual([
      expect.stringContaining(`\`HostKeyAlias ${WEB1}\``) as string,
    ])
  })

  test('each warning says what to do', () => {
    const principals = ['WEB1.example.com', 'ALIAS', WEB1]
    const findings = judgeNames(principals, { ...AT_HOME, reverse: ['nas.example.com'] })
    expect(findings.map(({ remedy }) => remedy)).toEqual([
      expect.stringMatching(/^change it to lower case at the issuer, .*`hostcertd renew --force`$/),
      null,
      "connect by web1.example.com, or set `HostKeyAlias web1.example.com` for that name in the clients' ssh_config; to have it in the certificate instead, register it at the issuer",
    ])
  })
})

const NO_ANSWER =
  'the certificate is for web1.example.com; the resolver gave no answer to what its addresses are'
const startsWith = (text: string): unknown => expect.stringMatching(new RegExp(`^${RegExp.escape(text)}`))

test('the programs of the system are asked, and one that hangs, fails or is new decides nothing', async () => {
  await using ward = await makeWard()
  await ward.host.certify(ED25519, { ca: ward.issuer.caKeyPath, principals: [WEB1] })
  const programs = join(ward.host.folder, 'programs')
  await mkdir(programs)
  const program = async (name: string, script: string) =>
    writeFile(join(programs, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  const diagnose = async () => {
    const { stdout } = await ward.host.verb(['doctor', '--json', '--sshd-config', ward.sshdConfig], {
      environment: { PATH: `${programs}:${process.env['PATH']}` },
    })
    return of('names', findingsIn(stdout)).map(({ status, message }) => [status, message])
  }
  await program(
    'hostname',
    'case $1 in -f) echo Web1.Example.com ;; -A) echo "web1.example.com nas.example.com " ;; -I) echo 192.0.2.1 ;; esac',
  )
  await program(
    'getent',
    '[ "$*" = "ahosts -- web1.example.com" ] && printf "192.0.2.1 STREAM web1\\n192.0.2.1 DGRAM\\n"',
  )
  expect(await diagnose()).toEqual([
    ['ok', startsWith('clients that resolve web1.example.com to this host, ')],
    ['warning', startsWith('this host is also called nas.example.com, ')],
  ])
  // Ended by its limit, for nothing else ends it.
  await program('getent', 'exec sleep 600')
  expect(await diagnose()).toEqual([
    ['unknown', NO_ANSWER],
    ['warning', startsWith('this host is also called nas.example.com, ')],
  ])
  await program('hostname', 'echo "hostname: unrecognized option" >&2; exit 1')
  await program('getent', 'exit 3')
  expect(await diagnose()).toEqual([
    ['unknown', NO_ANSWER],
    [
      'unknown',
      'could not find out its full name (`hostname -f`) and the names of its addresses (`hostname -A`)',
    ],
  ])
  // A resolver that does not answer.
  await program('hostname', 'case $1 in -f | -A) echo web1.example.com ;; -I) echo 192.0.2.1 ;; esac')
  await program('getent', 'exec sleep 600')
  expect(await diagnose()).toEqual([['unknown', expect.stringContaining('web1.example.com')]])
})
