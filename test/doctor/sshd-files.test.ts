import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { SshdConfiguration, type SshdAnswer } from '../../agent/host/sshd-files.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { makeFakeProgram } from './fake-program.ts'

const NEVER = new AbortController().signal
const RECORDED = fileURLToPath(new URL('../fixtures/openssh/', import.meta.url))

/** What a program makes of it that prints this, whatever it is asked. */
async function answerTo(script: string): Promise<SshdAnswer> {
  await using fake = await makeFakeProgram('sshd', script)
  const { program } = fake
  return await new SshdConfiguration({ file: '/etc/ssh/sshd_config', program }).effective(NEVER)
}

/** As recorded; see the README there. */
async function recorded(version: string, name: string): Promise<SshdAnswer> {
  const path = `${RECORDED}${version}/sshd-T.${name}`
  const said = await readFile(`${path}.stderr`, 'utf8').catch(() => 'status 0\n')
  const status = /^status (\d+)$/m.exec(said)?.[1] ?? 'NaN'
  return answerTo(`cat '${path}'; cat '${path}.stderr' >&2 2>/dev/null; exit ${status}`)
}

describe.each(['9.2p1', '10.0p2', '10.6p1'])('sshd -T of OpenSSH %s', (version) => {
  const post = version === '10.6p1' ? ['/etc/ssh/ssh_host_mldsa44_ed25519_key'] : []

  test('as it is installed', async () => {
    const answer = await recorded(version, 'default')
    expect(answer).toMatchObject({
      kind: 'effective',
      settings: {
        hostKeys: [...['rsa', 'ecdsa', 'ed25519'].map((type) => `/etc/ssh/ssh_host_${type}_key`), ...post],
        hostCertificates: [],
        listen: ['[::]:22', '0.0.0.0:22'],
        hostKeyAlgorithms: expect.arrayContaining([
          'ssh-ed25519-cert-v01@openssh.com',
          'rsa-sha2-512',
        ]) as string[],
      },
    })
  })

  test('with certificates', async () => {
    const answer = await recorded(version, 'with-certificates')
    const path = '/etc/ssh/hostcertd/ssh_host_ed25519_key-cert.pub'
    expect(answer.kind === 'effective' ? answer.settings.hostCertificates : []).toContain(path)
  })

  test('odd names, a key that is missing, several addresses', async () => {
    expect(await recorded(version, 'odd')).toMatchObject({
      kind: 'effective',
      settings: {
        hostKeys: [
          '/etc/ssh/with space_key',
          '/etc/ssh/ssh_host_ed25519_key',
          '/etc/ssh/odd@name+key',
          '/etc/ssh/ssh_host_missing_key',
        ],
        hostCertificates: ['/etc/ssh/with space_key-cert.pub', '/etc/ssh/ssh_host_ed25519_key-cert.pub'],
        listen: expect.arrayContaining(['127.0.0.1:2222', '[::1]:2200']) as string[],
      },
    })
  })

  test.each([
    { name: 'agent-dead', kind: 'no-host-keys', why: /^Could not connect to agent "\/run\/agent\.sock"/ },
    { name: 'no-key-loads', kind: 'no-host-keys', why: /ssh_host_missing_key/ },
    { name: 'nonsense', kind: 'refused', why: /line 1: Bad configuration option: NonsenseByAnAdministrator/ },
    { name: 'without-run-sshd', kind: 'no-runtime-folder', why: /\/run\/sshd/ },
  ])('$name: $kind', async ({ name, kind, why }) => {
    expect(await recorded(version, name)).toMatchObject({ kind, why: expect.stringMatching(why) as string })
  })

  test('keys of an agent', async () => {
    const answer = await recorded(version, 'agent')
    expect(answer.kind === 'effective' ? answer.settings.hostKeys : []).toEqual([
      '/etc/ssh/ssh_host_ed25519_key.pub',
    ])
  })
})

test.each([
  { name: 'nothing', script: 'exit 0', why: /^sshd -T printed no HostKey line$/ },
  { name: 'something else', script: 'echo hostkeys /etc/ssh/x', why: /printed no HostKey line/ },
  { name: 'a status alone', script: 'exit 3', why: /^sshd -T ended with status 3 and printed nothing$/ },
  { name: 'killed', script: 'kill -9 $$', why: /was killed by SIGKILL$/ },
])('$name is no fact', async ({ script, why }) => {
  expect(await answerTo(script)).toEqual({ kind: 'unknown', why: expect.stringMatching(why) as string })
})

test('a program that is not there is no fact either', async () => {
  const sshd = new SshdConfiguration({ file: '/etc/ssh/sshd_config', program: '/nonexistent/sshd' })
  expect(await sshd.effective(NEVER)).toMatchObject({ kind: 'unknown' })
})

test('it is asked with a connection, too, where a Match wants one', async () => {
  const script =
    'case "$*" in *" -C user="*) echo hostkey /x ;; *) echo "lport not in connection" >&2; exit 255 ;; esac'
  expect(await answerTo(script)).toMatchObject({ kind: 'effective', settings: { hostKeys: ['/x'] } })
})

test('lines with their places: includes where they are, in the order of their names', async () => {
  await using folder = await makeTemporaryFolder()
  const at = (name: string): string => join(folder.path, name)
  await mkdir(at('sshd_config.d'))
  await writeFile(
    at('sshd_config'),
    `# HostKey /no
Include ${at('sshd_config.d')}/*.conf "${at('more')}"
  HOSTKEY = /a
HostKey "/with space" # by hand
HostKey '/single#quoted'
HostKey /a#b
"HostKey" "/with"\\ 'two parts'/"a \\"quote\\""
Match User x
HostCertificate /c
MATCH ALL
HostCertificate /d
`,
  )
  await writeFile(at('sshd_config.d/20-b.conf'), 'HostCertificate /b\nMatch user x\nHostKey /in-match\n')
  await writeFile(at('sshd_config.d/10-a.conf'), 'HostCertificate /a\r\n')
  await writeFile(at('sshd_config.d/.hidden.conf'), 'HostCertificate /hidden\n')
  await writeFile(at('more'), 'HostKey /more\n')
  const sshd = new SshdConfiguration({ file: at('sshd_config'), program: '/nonexistent' })
  const lines = (await sshd.directives())
    .filter(({ keyword }) => keyword.startsWith('host'))
    .map(({ file, line, keyword, value, inMatch }) => {
      const place = `${file.replace(`${folder.path}/`, '')}:${line}`
      return `${place} ${keyword} ${value}${inMatch ? ' in match' : ''}`
    })
  expect(lines).toEqual([
    'sshd_config.d/10-a.conf:1 hostcertificate /a',
    'sshd_config.d/20-b.conf:1 hostcertificate /b',
    'sshd_config.d/20-b.conf:3 hostkey /in-match in match',
    'more:1 hostkey /more',
    'sshd_config:3 hostkey /a',
    'sshd_config:4 hostkey /with space',
    'sshd_config:5 hostkey /single#quoted',
    'sshd_config:6 hostkey /a#b',
    'sshd_config:7 hostkey /with two parts/a "quote"',
    'sshd_config:9 hostcertificate /c in match',
    'sshd_config:11 hostcertificate /d',
  ])
})
