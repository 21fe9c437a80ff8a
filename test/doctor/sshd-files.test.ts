import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { SshdConfiguration, type SshdAnswer } from '../../agent/host/sshd-files.ts'
import { makeFakeProgram } from './fake-program.ts'

const NEVER = new AbortController().signal
const RECORDED = fileURLToPath(new URL('../fixtures/openssh/', import.meta.url))

/** What a program makes of it that prints this, whatever it is asked. */
async function answerTo(script: string): Promise<SshdAnswer> {
  await using fake = await makeFakeProgram('sshd', script)
  const { program } = fake
  return await new SshdConfiguration(program, '/etc/ssh/sshd_config').effective(NEVER)
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
  const sshd = new SshdConfiguration('/nonexistent/sshd', '/etc/ssh/sshd_config')
  expect(await sshd.effective(NEVER)).toMatchObject({ kind: 'unknown' })
})

test('it is asked with a connection, too, where a Match wants one', async () => {
  const script =
    'case "$*" in *" -C user="*) echo hostkey /x ;; *) echo "lport not in connection" >&2; exit 255 ;; esac'
  expect(await answerTo(script)).toMatchObject({ kind: 'effective', settings: { hostKeys: ['/x'] } })
})

test.each(['none', '(null)'])('%s in the place of a path is no path', async (path) => {
  const script = `printf 'hostkey /x\\nhostkey ${path}\\nhostcertificate ${path}\\nhostcertificate /x-cert.pub\\n'`
  expect(await answerTo(script)).toMatchObject({
    settings: { hostKeys: ['/x'], hostCertificates: ['/x-cert.pub'] },
  })
})

test('relative paths are those of a service, wherever doctor is run', async () => {
  expect(await answerTo('echo "hostkey $(pwd)etc/ssh/x"')).toMatchObject({
    settings: { hostKeys: ['/etc/ssh/x'] },
  })
})
