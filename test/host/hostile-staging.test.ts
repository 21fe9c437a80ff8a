import { dirname } from 'node:path'
import { afterEach, beforeAll, expect, test } from 'vitest'
import { signCertificate } from '../support/ssh-keygen.ts'
import { eventually } from './support/eventually.ts'
import { askHelper } from './support/helper.ts'
import { sharedEnrolledHost, untilServed, type EnrolledHost } from './support/installed-host.ts'
import { describeOnEachRelease, ONE_BY_DEFAULT } from './support/releases.ts'
import { copiedCertificates, servedCertificates } from './support/served.ts'

const STAGED = '/var/lib/hostcertd/certs/ssh_host_ed25519_key-cert.pub'
const COPY = '/etc/ssh/hostcertd/ssh_host_ed25519_key-cert.pub'
/** The helper's own limit is half a minute; whatever is staged must not use it up. */
const PROMPT_MILLISECONDS = 20_000

/** Shell lines, run as the agent's user in its own folder; `$1` is the staged file. */
const HOSTILE: readonly { readonly name: string; readonly make: string }[] = [
  { name: 'a FIFO', make: 'mkfifo "$1"' },
  { name: 'a symlink to /etc/shadow', make: 'ln -s /etc/shadow "$1"' },
  { name: 'a symlink to a private host key', make: 'ln -s /etc/ssh/ssh_host_ed25519_key "$1"' },
  { name: 'a symlink to a good certificate', make: `ln -s ${COPY} "$1"` },
  { name: 'a symlink to /dev/zero', make: 'ln -s /dev/zero "$1"' },
  { name: 'a directory', make: 'mkdir "$1"' },
  { name: 'a huge file', make: 'truncate -s 1G "$1"' },
  { name: 'a large file', make: 'head -c 100000 /dev/urandom | base64 >"$1"' },
  { name: 'garbage', make: 'head -c 2000 /dev/urandom >"$1"' },
  { name: 'an empty file', make: ': >"$1"' },
  { name: 'a plain public key', make: 'cp /etc/ssh/ssh_host_ed25519_key.pub "$1"' },
]

describeOnEachRelease(
  "the root helper, with the agent's user against it",
  (release) => {
    const shared = sharedEnrolledHost(release)

    // Without the agent, or it would put its folder right again.
    beforeAll(async () => {
      await shared().container.run(['systemctl', 'stop', 'hostcertd.service'])
    })
    afterEach(async () => {
      await shared().container.sh(`
      rm -rf ${STAGED}
      install --owner=hostcertd --group=hostcertd --mode=644 ${COPY} ${STAGED}`)
    })

    test.each(HOSTILE)('refuses $name', async ({ make }) => {
      const host = shared()
      const harm = await harmDone(host, () => asAgent(host, `rm -rf "$1"; ${make}`, STAGED))
      expect(harm).toEqual([])
    })

    test.each([
      { name: 'a user certificate', kind: 'user', key: 'ssh_host_ed25519_key.pub' },
      { name: 'a certificate for another host key', kind: 'host', key: 'ssh_host_rsa_key.pub' },
      { name: 'a certificate for a key that is not of this host', kind: 'host', key: null },
    ] as const)('refuses $name', async ({ kind, key }) => {
      const host = shared()
      const path = key === null ? '/root/.ssh/authorized_keys' : `/etc/ssh/${key}`
      const publicKey = (await host.container.run(['cat', path])).trimEnd()
      const ca = host.issuer.facts.caKeyPath
      const certificate = await signCertificate({
        ca,
        publicKey,
        kind,
        principals: ['root', 'web1.example.com'],
      })
      const harm = await harmDone(host, () => asAgent(host, 'cat >"$1"', STAGED, `${certificate}\n`))
      expect(harm).toEqual([])
    })

    test('keeps a name with a newline out of the configuration', async () => {
      const host = shared()
      const name = '/var/lib/hostcertd/certs/x\nPermitRootLogin yes\n#-cert.pub'
      const harm = await harmDone(host, () => asAgent(host, `cp ${STAGED} "$1"`, name))
      expect(harm).toEqual([])
      await host.container.run(['rm', name])
    })

    test.each([
      { name: 'none', words: '' },
      { name: 'an empty line', words: '\n' },
      { name: 'a word unheard of', words: 'stop\n' },
      { name: 'a command behind the word', words: 'install; id\n' },
      { name: 'two words', words: 'install reload\n' },
      { name: 'a path', words: '../install\n' },
      { name: 'a line without end', words: 'x'.repeat(100_000) },
    ])('refuses to be told $name', async ({ words }) => {
      const host = shared()
      const harm = await harmDone(host, async () => {}, words)
      expect(harm).toEqual([])
      const { stdout } = await askHelper(host.container, 'hostcertd', words)
      expect(stdout).not.toMatch(/^ok|uid=/m)
    })

    test("a folder of root's that a symlink in place of its own leads to stays root's", async () => {
      const { container } = shared()
      const folder = dirname(STAGED)
      await container.sh('mkdir /srv/of-root && touch /srv/of-root/file && chmod -R go= /srv/of-root')
      await asAgent(shared(), 'mv "$1" "$1.kept" && ln -s /srv/of-root "$1"', folder)
      // What root does there: at boot, at an upgrade, and at each start of the service.
      await container.sh('systemd-tmpfiles --create hostcertd.conf || true')
      await container.sh('systemctl start hostcertd.service; systemctl stop hostcertd.service')
      const facts = await container.run(['stat', '--format=%U:%G %a', '/srv/of-root', '/srv/of-root/file'])
      expect(facts).toBe('root:root 700\nroot:root 600\n')
      await asAgent(shared(), 'rm "$1" && mv "$1.kept" "$1"', folder)
      await container.run(['rm', '-r', '/srv/of-root'])
    })

    test('stays in use: the agent goes on as before', async () => {
      await shared().container.run(['systemctl', 'start', 'hostcertd.service'])
      await untilServed(shared())
      expect(await shared().client.verifyAll()).toEqual([])
    })
  },
  ONE_BY_DEFAULT,
)

/**
 * Do something hostile, ask the helper to install and to reload, and see whether the copies or sshd know of it.
 *
 * @returns what is not as it was
 */
async function harmDone(
  host: EnrolledHost,
  beHostile: () => Promise<unknown>,
  words = 'install\n',
): Promise<readonly string[]> {
  const { container, client } = host
  const look = async () => ({
    copies: (await copiedCertificates(host)).join('\n'),
    'what sshd serves': (await servedCertificates(host)).join('\n'),
    "sshd's configuration": await container.run(['sshd', '-T']),
    'files that are none': await container.run([
      'find',
      '/etc/ssh/hostcertd',
      '!',
      '-type',
      'd',
      '!',
      '-type',
      'f',
    ]),
  })
  const before = Object.entries(await look())
  await beHostile()
  const start = performance.now()
  const { stdout: answer } = await askHelper(container, 'hostcertd', words)
  const took = performance.now() - start
  await askHelper(container, 'hostcertd', 'reload\n')
  // A reload refuses connections for some milliseconds, and systemctl does not wait for its end.
  await eventually('sshd answers', 10_000, async () => (await client.logIn(null)).stdout === 'hello\n')
  const after = Object.values(await look())
  const harm = before.filter(([, value], index) => value !== after[index]).map(([what]) => what)
  if (took > PROMPT_MILLISECONDS) harm.push(`the helper took ${took} ms`)
  if (/^[^\n]*\n[^]/.test(answer)) harm.push(`more than one line of answer: ${answer}`)
  return [...harm, ...(await client.verifyAll())]
}

/** Run a line of shell as the agent's user; `$1` is the path. */
async function asAgent({ container }: EnrolledHost, script: string, path: string, input = ''): Promise<void> {
  await container.run(['runuser', '-u', 'hostcertd', '--', 'sh', '-euc', script, 'sh', path], { input })
}
