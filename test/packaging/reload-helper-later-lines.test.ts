import { appendFile, copyFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { needsRoot } from '../support/skip.ts'
import { answer, makeHelperHost, type HelperHost } from './helper-host.ts'

const [ED25519, ECDSA] = ['ssh_host_ed25519_key', 'ssh_host_ecdsa_key']
const OLD = '/etc/ssh/old-cert.pub'
const OURS = `/etc/ssh/hostcertd/${ED25519}-cert.pub`
const MAIN = 'sshd_config'
const wins = (place: string, certificate = OLD): string =>
  `${place}: HostCertificate ${certificate} overrides the line of hostcertd; remove it`

/** Files of /etc/ssh; `sshd_config` is appended to, behind its Include. */
type Configuration = Readonly<Record<string, string>>

async function notesWith(host: HelperHost, configuration: Configuration): Promise<readonly string[]> {
  for (const [file, text] of Object.entries(configuration)) {
    await mkdir(join(host.ssh, file, '..'), { recursive: true })
    await appendFile(join(host.ssh, file), text)
  }
  const { stdout } = await host.ask('install\n')
  expect(stdout).toMatch(answer('ok', 'reload=yes(?: : .*)?'))
  return (/ : (.*)\n$/.exec(stdout)?.[1] ?? '').split('\t').filter((note) => note !== '')
}

async function hostWithOldCertificate(): Promise<HelperHost> {
  const host = await makeHelperHost()
  await host.stage(ED25519)
  await host.stage(ECDSA)
  await writeFile(join(host.ssh, 'old-cert.pub'), await host.sign(ED25519, { serial: 7n }))
  return host
}

describe('the root helper, another HostCertificate line for a key', needsRoot, () => {
  test.each<{ name: string; configuration: Configuration; place: string }>([
    { name: 'in sshd_config', configuration: { [MAIN]: `HostCertificate ${OLD}\n` }, place: `${MAIN}:2` },
    {
      name: 'in another spelling',
      configuration: { [MAIN]: `\n# HostCertificate ${OLD}\n\t hostCERTIFICATE = "${OLD}"` },
      place: `${MAIN}:4`,
    },
    {
      name: 'twice, the last counts',
      configuration: { [MAIN]: `HostCertificate ${OLD}\nPort 22\nHostCertificate ${OLD} # old\n` },
      place: `${MAIN}:4`,
    },
    {
      name: 'in a later drop-in',
      configuration: { 'sshd_config.d/50-old.conf': `Port 22\nHostCertificate ${OLD}\n` },
      place: 'sshd_config.d/50-old.conf:2',
    },
    {
      name: 'included by what is included, by several patterns and by a relative one',
      configuration: {
        [MAIN]: 'include "nowhere/*.conf" more/[ab]*.conf\n',
        'more/a.conf': 'Port 22\n',
        'more/b.conf': 'Include even/more\n',
        'even/more': `HostCertificate ${OLD}\n`,
      },
      place: 'even/more:1',
    },
    {
      name: 'in front and behind',
      configuration: {
        'sshd_config.d/10-old.conf': `HostCertificate ${OLD}\n`,
        'sshd_config.d/90-old.conf': `HostCertificate ${OLD}\n`,
      },
      place: 'sshd_config.d/90-old.conf:1',
    },
  ])('behind ours, $name', async ({ configuration, place }) => {
    await using host = await hostWithOldCertificate()
    expect(await notesWith(host, configuration)).toEqual([wins(`/etc/ssh/${place}`)])
  })

  test.each<{ name: string; configuration: Configuration }>([
    { name: 'in front of ours', configuration: { 'sshd_config.d/10-old.conf': `HostCertificate ${OLD}\n` } },
    {
      name: 'with ours once more behind it',
      configuration: { [MAIN]: `HostCertificate ${OLD}\nHostCertificate ${OURS}\n` },
    },
    { name: 'with a file that is missing', configuration: { [MAIN]: 'HostCertificate /etc/ssh/nowhere\n' } },
    {
      name: 'with garbage',
      configuration: { [MAIN]: 'HostCertificate /etc/ssh/garbage\n', garbage: 'ssh-ed25519-cert-v01 AAAA\n' },
    },
    { name: 'with a folder', configuration: { [MAIN]: 'HostCertificate /etc/ssh/sshd_config.d\n' } },
    {
      name: 'with the plain key',
      configuration: { [MAIN]: `HostCertificate /etc/ssh/${ED25519}.pub\n` },
    },
    { name: 'for a key of another host', configuration: { [MAIN]: 'HostCertificate /etc/ssh/foreign\n' } },
  ])('sshd does not present: $name', async ({ configuration }) => {
    await using host = await hostWithOldCertificate()
    await host.addHostKey('other', 'ed25519')
    await writeFile(join(host.ssh, 'foreign'), await host.sign('other'))
    expect(await notesWith(host, configuration)).toEqual([])
  })

  test.each([
    { name: 'that has expired', wish: { validity: '20200101000000:20210101000000' } },
    { name: 'for users', wish: { kind: 'user' } },
  ] as const)('sshd presents one $name too', async ({ wish }) => {
    await using host = await hostWithOldCertificate()
    await writeFile(join(host.ssh, 'old-cert.pub'), await host.sign(ED25519, wish))
    expect(await notesWith(host, { [MAIN]: `HostCertificate ${OLD}\n` })).toEqual([
      wins('/etc/ssh/sshd_config:2'),
    ])
  })

  test('the last of several is named, for each key', async () => {
    await using host = await hostWithOldCertificate()
    await copyFile(join(host.ssh, 'old-cert.pub'), join(host.ssh, 'older-cert.pub'))
    await writeFile(join(host.ssh, 'ecdsa-cert.pub'), await host.sign(ECDSA, { serial: 7n }))
    const lines = [OLD, '/etc/ssh/older-cert.pub', '/etc/ssh/ecdsa-cert.pub'].map(
      (path) => `HostCertificate ${path}\n`,
    )
    expect(await notesWith(host, { [MAIN]: lines.join('') })).toEqual([
      wins('/etc/ssh/sshd_config:4', '/etc/ssh/ecdsa-cert.pub'),
      wins('/etc/ssh/sshd_config:3', '/etc/ssh/older-cert.pub'),
    ])
  })

  test('a line that is found nowhere: said without a place', async () => {
    await using host = await hostWithOldCertificate()
    await mkdir(join(host.ssh, 'a folder'))
    const configuration = {
      [MAIN]: 'Include "/etc/ssh/a folder/*"\n',
      'a folder/file': `HostCertificate ${OLD}\n`,
    }
    expect(await notesWith(host, configuration)).toEqual([wins('sshd_config')])
  })
})
