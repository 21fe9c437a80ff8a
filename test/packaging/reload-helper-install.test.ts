import { execFile } from 'node:child_process'
import { appendFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { needsRoot } from '../support/skip.ts'
import {
  answer,
  DROP_IN,
  dropInFor,
  inFrontOf,
  makeHelperHost,
  recordedSettings,
  sshdThatSays,
} from './helper-host.ts'

const run = promisify(execFile)
const [ED25519, ECDSA] = ['ssh_host_ed25519_key', 'ssh_host_ecdsa_key']

describe('the root helper, install', needsRoot, () => {
  test.each([{ shell: ['dash'] }, { shell: ['busybox', 'sh'] }, { shell: ['bash', '--posix'] }])(
    'copies, writes the drop-in, says what sshd listens on; again: nothing to do ($shell)',
    async ({ shell }) => {
      await using host = await makeHelperHost()
      const [ecdsa, ed25519] = [await host.stage(ECDSA), await host.stage(ED25519)]
      const want = {
        [`hostcertd/${ECDSA}-cert.pub`]: ecdsa,
        [`hostcertd/${ED25519}-cert.pub`]: ed25519,
        [DROP_IN]: dropInFor(ECDSA, ED25519),
      }
      expect((await host.ask('install\n', { shell })).stdout).toMatch(answer('ok', 'reload=yes'))
      expect(await host.installed()).toEqual(want)
      expect((await host.ask('install\n', { shell })).stdout).toMatch(answer('ok', 'reload=no'))
      expect(await host.installed()).toEqual(want)
      const { stdout } = await run('find', [host.ssh, '-newer', host.staged, '-printf', '%m %P\n'])
      expect(stdout).toContain(`644 hostcertd/${ED25519}-cert.pub\n`)
      expect(stdout).toContain(`644 ${DROP_IN}\n`)
      expect(stdout).toContain('755 hostcertd\n')
      expect(await host.orders()).toEqual([])
    },
  )

  test('a renewed certificate is copied, and sshd needs no new configuration for it', async () => {
    await using host = await makeHelperHost()
    await host.stage(ED25519)
    await host.ask('install\n')
    const renewed = await host.stage(ED25519, { serial: 2n })
    expect((await host.ask('install\n')).stdout).toMatch(answer('ok', 'reload=no'))
    expect(await host.installed()).toEqual({
      [`hostcertd/${ED25519}-cert.pub`]: renewed,
      [DROP_IN]: dropInFor(ED25519),
    })
  })

  test('a host key that is gone, or was replaced: its copy and its line go', async () => {
    await using host = await makeHelperHost()
    await host.stage(ECDSA)
    const ed25519 = await host.stage(ED25519)
    await host.ask('install\n')
    await rm(join(host.ssh, ECDSA))
    expect((await host.ask('install\n')).stdout).toMatch(
      answer('ok', `reload=yes : not installed: .*${ECDSA}-cert.pub is for a host key that is gone`),
    )
    expect(await host.installed()).toEqual({
      [`hostcertd/${ED25519}-cert.pub`]: ed25519,
      [DROP_IN]: dropInFor(ED25519),
    })
    await host.addHostKey(ED25519, 'ed25519')
    const { stdout } = await host.ask('install\n')
    expect(stdout).toMatch(
      answer('ok', `reload=yes : .*\tnot installed: .*${ED25519}-cert.pub is for another key`),
    )
    expect(await host.installed()).toEqual({})
  })

  // 10.4 and later write keywords as in sshd_config(5).
  test.each(['9.2p1', '10.0p2', '10.6p1'])('with what sshd -T of OpenSSH %s says', async (version) => {
    await using host = await makeHelperHost()
    const ed25519 = await host.stage(ED25519)
    const want = { [`hostcertd/${ED25519}-cert.pub`]: ed25519, [DROP_IN]: dropInFor(ED25519) }
    const before = await sshdThatSays(host, await recordedSettings(version))
    expect((await host.ask('install\n', { before })).stdout).toMatch(answer('ok', 'reload=yes'))
    expect(await host.installed()).toEqual(want)
    const renewed = await host.stage(ED25519, { serial: 2n })
    expect((await host.ask('install\n', { before })).stdout).toMatch(answer('ok', 'reload=no'))
    expect(await host.installed()).toEqual({ ...want, [`hostcertd/${ED25519}-cert.pub`]: renewed })
  })

  test.each([
    { name: 'nothing', says: '' },
    { name: 'no host key', says: 'port 22\nhostcertificate /etc/ssh/hostcertd/x-cert.pub\n' },
    { name: 'something else', says: 'Host-Key: /etc/ssh/ssh_host_ed25519_key\n' },
  ])('sshd -T says $name: nothing is touched', async ({ says }) => {
    await using host = await makeHelperHost()
    await host.stage(ECDSA)
    await host.stage(ED25519)
    await host.ask('install\n')
    const good = await host.installed()
    expect(Object.keys(good)).toHaveLength(3)
    await host.stage(ED25519, { serial: 2n })
    const { stdout } = await host.ask('install\n', { before: await sshdThatSays(host, says) })
    expect(stdout).toBe(
      'error SSHD_CONFIG_INVALID listen= : sshd -T prints no host key, nothing was changed\n',
    )
    expect(await host.installed()).toEqual(good)
  })

  test('sshd -T is too slow: nothing is touched, and it is not asked again', async () => {
    await using host = await makeHelperHost()
    await host.stage(ED25519)
    const before = inFrontOf('/usr/sbin/sshd', 'case $1 in -T) echo >>/etc/ssh/asked; exec sleep 30 ;; esac')
    const { stdout } = await host.ask('install\n', { before })
    expect(stdout).toBe(
      'error SSHD_CONFIG_INVALID listen= : sshd -T did not finish within 3 s, nothing was changed\n',
    )
    expect(await readFile(join(host.ssh, 'asked'), 'utf8')).toBe('\n')
    expect((await host.ask('install\n')).stdout).toMatch(answer('ok', 'reload=yes'))
  })

  // From 6 s on `timeout` ends it.
  test.each([
    { name: 'is too slow', does: 'sleep 6' },
    { name: 'is killed', does: 'kill -KILL $$' },
    { name: 'cannot be run', does: 'exec /nowhere' },
  ])('ssh-keygen $name: no key seems to be gone, nothing is touched', async ({ does }) => {
    await using host = await makeHelperHost()
    await host.stage(ECDSA)
    await host.stage(ED25519)
    await host.ask('install\n')
    const good = await host.installed()
    expect(Object.keys(good)).toHaveLength(3)
    for (const { option, file } of [
      { option: '-l', file: '/etc/ssh/ssh_host_ecdsa_key.pub' },
      { option: '-y', file: '/etc/ssh/ssh_host_ecdsa_key' },
      { option: '-L', file: '/etc/ssh/hostcertd/\\S*' },
    ]) {
      const before = inFrontOf('/usr/bin/ssh-keygen', `case $1 in ${option}) ${does} ;; esac`)
      const { stdout } = await host.ask('install\n', { before })
      expect(stdout).toMatch(answer('error STORE_FAILED', ` : ssh-keygen could not read ${file}.*`))
      expect(await host.installed()).toEqual(good)
    }
  })

  test.each([{ certified: 'first' }, { certified: 'second' }])(
    'two host keys of one name: the certificate is for the $certified, and stays',
    async ({ certified }) => {
      await using host = await makeHelperHost()
      await mkdir(join(host.ssh, 'other'))
      await host.addHostKey(`other/${ED25519}`, 'ed25519')
      const folders = certified === 'first' ? ['other/', ''] : ['', 'other/']
      const lines = folders.map((folder) => `HostKey /etc/ssh/${folder}${ED25519}\n`)
      await appendFile(join(host.ssh, 'sshd_config'), lines.join(''))
      const publicKey = (await readFile(join(host.ssh, 'other', `${ED25519}.pub`), 'utf8')).trimEnd()
      const certificate = await host.stage(ED25519, { publicKey })
      const want = { [`hostcertd/${ED25519}-cert.pub`]: certificate, [DROP_IN]: dropInFor(ED25519) }
      expect((await host.ask('install\n')).stdout).toMatch(answer('ok', 'reload=yes'))
      expect(await host.installed()).toEqual(want)
      expect((await host.ask('install\n')).stdout).toMatch(answer('ok', 'reload=no'))
      expect(await host.installed()).toEqual(want)
    },
  )

  test('a host key whose name looks like a pattern for another', async () => {
    await using host = await makeHelperHost()
    await host.addHostKey('host_key', 'ed25519')
    await host.addHostKey('host.key', 'ed25519')
    const lines = ['host_key', 'host.key'].map((name) => `HostKey /etc/ssh/${name}\n`)
    await appendFile(join(host.ssh, 'sshd_config'), lines.join(''))
    const certificate = await host.stage('host.key')
    const want = { 'hostcertd/host.key-cert.pub': certificate, [DROP_IN]: dropInFor('host.key') }
    await host.ask('install\n')
    expect(await host.installed()).toEqual(want)
  })

  test('only for the host keys that sshd is configured to load', async () => {
    await using host = await makeHelperHost()
    await host.stage(ECDSA)
    const ed25519 = await host.stage(ED25519)
    await appendFile(join(host.ssh, 'sshd_config'), `HostKey /etc/ssh/${ED25519}\n`)
    expect((await host.ask('install\n')).stdout).toMatch(answer('ok', 'reload=yes'))
    expect(await host.installed()).toEqual({
      [`hostcertd/${ED25519}-cert.pub`]: ed25519,
      [DROP_IN]: dropInFor(ED25519),
    })
  })

  test.each([
    { name: 'Match LocalPort', lines: 'Match LocalPort 2222\n  PermitTTY no\n' },
    {
      name: 'Match of all kinds',
      lines: 'Match User x Group y Host z LocalAddress 127.0.0.1 LocalPort 2222\n  PermitTTY no\n',
    },
  ])('with $name in sshd_config it copies, and keeps what it copied', async ({ lines }) => {
    await using host = await makeHelperHost()
    await appendFile(join(host.ssh, 'sshd_config'), lines)
    const ed25519 = await host.stage(ED25519)
    const want = { [`hostcertd/${ED25519}-cert.pub`]: ed25519, [DROP_IN]: dropInFor(ED25519) }
    expect((await host.ask('install\n')).stdout).toMatch(answer('ok', 'reload=yes'))
    expect(await host.installed()).toEqual(want)
    expect((await host.ask('install\n')).stdout).toMatch(answer('ok', 'reload=no'))
    expect(await host.installed()).toEqual(want)
  })

  test('a certificate behind another line is not one: sshd would read the first line', async () => {
    await using host = await makeHelperHost()
    const good = await host.stage(ED25519)
    await host.ask('install\n')
    const two = `${await readFile(join(host.ssh, `${ED25519}.pub`), 'utf8')}${good.trimEnd()}`
    await writeFile(join(host.staged, `${ED25519}-cert.pub`), two)
    expect((await host.ask('install\n')).stdout).toMatch(
      answer('ok', 'reload=no : not installed: .* is not one certificate'),
    )
    expect(await host.installed()).toMatchObject({ [`hostcertd/${ED25519}-cert.pub`]: good })
  })

  test('a configuration that is broken already: nothing is touched', async () => {
    await using host = await makeHelperHost()
    await host.stage(ED25519)
    await appendFile(join(host.ssh, 'sshd_config'), 'NonsenseByAnAdministrator yes\n')
    const { stdout } = await host.ask('install\n')
    expect(stdout).toMatch(
      /^error SSHD_CONFIG_INVALID listen= : sshd -t fails, nothing was changed: .*Nonsense.*\n$/,
    )
    expect(await host.installed()).toEqual({})
  })

  test('a drop-in that sshd would not accept is put back', async () => {
    await using host = await makeHelperHost()
    const ecdsa = await host.stage(ECDSA)
    await host.ask('install\n')
    const ed25519 = await host.stage(ED25519)
    // sshd is made to refuse this one line.
    const refuse = `grep -qs ed25519 /etc/ssh/${DROP_IN} && { echo no good; exit 1; }`
    const before = inFrontOf('/usr/sbin/sshd', refuse)
    const { stdout } = await host.ask('install\n', { before })
    expect(stdout).toMatch(
      answer('error SSHD_CONFIG_INVALID', ' : sshd does not accept .*40-hostcertd.conf, .*: no good'),
    )
    expect(await host.installed()).toEqual({
      [`hostcertd/${ECDSA}-cert.pub`]: ecdsa,
      [`hostcertd/${ED25519}-cert.pub`]: ed25519,
      [DROP_IN]: dropInFor(ECDSA),
    })
  })

  test('cut short with an unchecked drop-in in place: the one before is put back first', async () => {
    await using host = await makeHelperHost()
    const ed25519 = await host.stage(ED25519)
    await writeFile(join(host.ssh, DROP_IN), 'NonsenseOfOurOwn yes\n')
    await writeFile(join(host.ssh, 'sshd_config.d/.40-hostcertd.conf.before'), '')
    await mkdir(join(host.ssh, 'hostcertd/.install.abcdef'), { recursive: true })
    expect((await host.ask('install\n')).stdout).toMatch(answer('ok', 'reload=yes'))
    expect(await host.installed()).toEqual({
      [`hostcertd/${ED25519}-cert.pub`]: ed25519,
      [DROP_IN]: dropInFor(ED25519),
    })
  })

  test('no Include in sshd_config: says which line to add', async () => {
    await using host = await makeHelperHost()
    await host.stage(ED25519)
    await writeFile(join(host.ssh, 'sshd_config'), '')
    expect((await host.ask('install\n')).stdout).toMatch(
      answer(
        'error SSHD_CONFIG_INVALID',
        ' : .* add this line at the top of /etc/ssh/sshd_config: Include /etc/ssh/.*',
      ),
    )
  })

  test('a disk that takes nothing: STORE_FAILED, and what was there stays', async () => {
    await using host = await makeHelperHost()
    const good = await host.stage(ED25519)
    await host.ask('install\n')
    await host.stage(ED25519, { serial: 2n })
    const before = 'mount -o remount,ro,bind /etc/ssh'
    expect((await host.ask('install\n', { before })).stdout).toMatch(
      answer('error STORE_FAILED', ' : cannot create a folder in /etc/ssh/hostcertd: Read-only file system'),
    )
    expect(await host.installed()).toMatchObject({ [`hostcertd/${ED25519}-cert.pub`]: good })
  })

  test('a disk that is full: STORE_FAILED, and what was there stays', async () => {
    await using host = await makeHelperHost()
    await host.stage(ED25519)
    const before = `mkdir /etc/ssh/hostcertd; mount -t tmpfs -o size=4k tmpfs /etc/ssh/hostcertd`
    expect((await host.ask('install\n', { before })).stdout).toMatch(
      answer('error STORE_FAILED', ' : cannot write in /etc/ssh/hostcertd/\\S*: No space left on device'),
    )
    expect(Object.keys(await host.installed())).not.toContain(DROP_IN)
  })

  test.each([
    { name: 'a copy', folder: `hostcertd/${ED25519}-cert.pub`, why: /cannot overwrite directory/ },
    { name: 'the drop-in', folder: DROP_IN, why: /40-hostcertd.conf: Is a directory/ },
    {
      name: 'the drop-in before',
      folder: 'sshd_config.d/.40-hostcertd.conf.before',
      why: /cannot overwrite directory/,
    },
  ])('a folder in the way of $name: STORE_FAILED, and nothing goes into it', async ({ folder, why }) => {
    await using host = await makeHelperHost()
    await host.stage(ED25519)
    await mkdir(join(host.ssh, folder), { recursive: true })
    const { stdout } = await host.ask('install\n')
    expect(stdout).toMatch(answer('error STORE_FAILED', ' : cannot write /etc/ssh/.*'))
    expect(stdout).toMatch(why)
    expect(await readdir(join(host.ssh, folder))).toEqual([])
    expect(await readdir(join(host.ssh, 'hostcertd'))).not.toContainEqual(expect.stringMatching(/^\.install/))
  })

  test('copies that cannot be listed are not gone: nothing is touched', async () => {
    await using host = await makeHelperHost()
    await host.stage(ED25519)
    await host.ask('install\n')
    const good = await host.installed()
    const before = inFrontOf('/usr/bin/ls', 'echo "ls: /etc/ssh/hostcertd: Input/output error" >&2; exit 2')
    expect((await host.ask('install\n', { before })).stdout).toMatch(
      answer('error STORE_FAILED', ' : cannot read /etc/ssh/hostcertd: Input/output error'),
    )
    expect(await host.installed()).toEqual(good)
  })

  test.each([{ how: 'removed' }, { how: 'changed' }])(
    'a drop-in that was $how is written again',
    async ({ how }) => {
      await using host = await makeHelperHost()
      await host.stage(ED25519)
      await host.ask('install\n')
      const good = await host.installed()
      if (how === 'removed') await rm(join(host.ssh, DROP_IN))
      else await writeFile(join(host.ssh, DROP_IN), `${dropInFor(ED25519)}Port 2222\n`)
      expect((await host.ask('install\n')).stdout).toMatch(answer('ok', 'reload=yes'))
      expect(await host.installed()).toEqual(good)
    },
  )

  test('sshd -T prints a HostKey that is not an absolute path: nothing is changed', async () => {
    await using host = await makeHelperHost()
    await host.stage(ECDSA)
    await host.ask('install\n')
    const good = await host.installed()
    const says = `hostkey /etc/ssh/${ED25519}\nhostkey "/etc/ssh/${ECDSA}"\n`
    const { stdout } = await host.ask('install\n', { before: await sshdThatSays(host, says) })
    expect(stdout).toMatch(
      /^error SSHD_CONFIG_INVALID listen= : .* not an absolute path, nothing was changed\n$/,
    )
    expect(await host.installed()).toEqual(good)
  })
})
