import { appendFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { needsRoot } from '../support/skip.ts'
import { makeHelperHost, type HelperHost } from './helper-host.ts'

const LISTEN = String.raw`listen=\S*:22,\S*:22`
/**
 * `systemctl` for these active units; `$*` is `--quiet is-active UNIT` or `show --property=PROPERTY --value UNIT`.
 * A service is triggered by the socket of its name.
 */
const active = (...units: string[]): string =>
  `case "$*" in
  ${units.map((unit) => `*is-active\\ ${unit}`).join('|')}) exit 0 ;;
  *is-active*) exit 3 ;;
  *TriggeredBy*sshd.service) echo other.timer sshd.socket; exit 0 ;;
  *TriggeredBy*ssh.service) echo ssh.socket; exit 0 ;;
esac`
/** And what the socket units listen on, as `systemctl show` has it. */
const listening = (addresses: Readonly<Record<string, readonly string[]>>): string =>
  `case "$*" in
  ${Object.entries(addresses)
    .map(([unit, lines]) => `*Listen*\\ ${unit}) printf '%s\\n' '${lines.join("' '")}' ;;`)
    .join('\n  ')}
esac`

/** That sshd was reloaded so many seconds ago, each. */
async function reloaded(host: HelperHost, ...secondsAgo: number[]): Promise<void> {
  const now = Math.floor(Date.now() / 1000)
  await writeFile(join(host.runtime, 'reloads'), secondsAgo.map((age) => `${now - age}\n`).join(''))
}

describe('the root helper, reload', needsRoot, () => {
  test.each([
    { units: ['ssh.service'], orders: ['reload ssh.service'] },
    { units: ['sshd.service'], orders: ['reload sshd.service'] },
    // On Debian sshd.service is another name of ssh.service.
    { units: ['ssh.service', 'sshd.service'], orders: ['reload ssh.service'] },
    { units: ['ssh.service', 'sshd.socket'], orders: ['reload ssh.service'] },
    { units: ['sshd.service', 'sshd.socket'], orders: ['try-restart sshd.service'] },
    { units: ['sshd.service', 'other.timer'], orders: ['reload sshd.service'] },
  ])('active: $units', async ({ units, orders }) => {
    await using host = await makeHelperHost()
    await host.systemctl(active(...units))
    expect((await host.ask('reload\n')).stdout).toMatch(new RegExp(`^ok ${LISTEN} reload=no\\n$`))
    expect(await host.orders()).toEqual(orders)
  })

  test.each(['reload', 'install'])('%s: the lock of `ca refresh` is held', async (word) => {
    await using host = await makeHelperHost()
    await host.systemctl(active('ssh.service'))
    const before =
      'flock /run/hostcertd-reload/lock sleep 60 & while flock -n /run/hostcertd-reload/lock true; do :; done'
    expect((await host.ask(`${word}\n`, { before })).stdout).toBe('busy retry=5 listen=\n')
    expect(await host.orders()).toEqual([])
    expect(await host.installed()).toEqual({})
    expect((await host.ask(`${word}\n`)).stdout).toMatch(/^ok /)
  })

  test('nothing active: no error, and nothing is started', async () => {
    await using host = await makeHelperHost()
    const { stdout } = await host.ask('reload\n')
    expect(stdout).toMatch(
      new RegExp(`^ok ${LISTEN} reload=no : neither ssh\\.service nor sshd\\.service is running: .*\\n$`),
    )
    expect(await host.orders()).toEqual([])
  })

  test('systemctl does not answer: that is no word on any unit, and the unit has time to say so', async () => {
    await using host = await makeHelperHost()
    await host.systemctl('exec sleep 60')
    expect((await host.ask('reload\n')).stdout).toBe(
      'error SSHD_RELOAD_FAILED listen= : systemctl does not report whether ssh.service is running\n',
    )
  })

  test.each([
    {
      name: 'ssh.socket',
      units: ['ssh.service', 'ssh.socket'],
      addresses: {
        'ssh.socket': [
          '0.0.0.0:2222 (Stream)',
          '[::]:2222 (Stream)',
          '[fe80::1%eth0]:22 (Stream)',
          '/run/ssh/socket (Stream)',
          '@abstract (Stream)',
          'vsock::22 (Stream)',
          '127.0.0.1:9 (Datagram)',
        ],
      },
      listen: '0.0.0.0:2222,[::]:2222,[fe80::1%eth0]:22',
    },
    {
      name: 'sshd.socket, whose service is idle',
      units: ['sshd.socket'],
      addresses: { 'sshd.socket': ['192.0.2.7:2222 (Stream)'] },
      listen: '192.0.2.7:2222',
    },
    {
      name: 'both, each address once',
      units: ['ssh.socket', 'sshd.socket'],
      addresses: {
        'ssh.socket': ['192.0.2.7:22 (Stream)', '[::1]:22 (Stream)'],
        'sshd.socket': ['192.0.2.7:22 (Stream)', '192.0.2.8:22 (Stream)'],
      },
      listen: '192.0.2.7:22,192.0.2.8:22,[::1]:22',
    },
    {
      name: 'a unix socket only',
      units: ['ssh.socket'],
      addresses: { 'ssh.socket': ['/run/x (Stream)'] },
      listen: '',
    },
  ])('what sshd listens on is what its socket unit says: $name', async ({ units, addresses, listen }) => {
    await using host = await makeHelperHost()
    await host.systemctl(`${active(...units)}\n${listening(addresses)}`)
    expect((await host.ask('reload\n')).stdout).toBe(`ok listen=${listen} reload=no\n`)
  })

  test('several addresses, not loopback, without a socket unit', async () => {
    await using host = await makeHelperHost()
    const lines = ['192.0.2.7', '192.0.2.8:2222', '[2001:db8::1]:22'].map((at) => `ListenAddress ${at}\n`)
    await appendFile(join(host.ssh, 'sshd_config'), lines.join(''))
    const { stdout } = await host.ask('reload\n')
    const [, listen = ''] = /^ok listen=(\S*) /.exec(stdout) ?? []
    expect(listen.split(',').sort()).toEqual(['192.0.2.7:22', '192.0.2.8:2222', '[2001:db8::1]:22'])
  })

  test('ssh.socket: restarts, once in 15 s; until then the answer is how long to wait', async () => {
    await using host = await makeHelperHost()
    await host.systemctl(
      `${active('ssh.service', 'ssh.socket')}\n${listening({ 'ssh.socket': ['[::]:2222 (Stream)'] })}`,
    )
    await reloaded(host, 16)
    expect((await host.ask('reload\n')).stdout).toBe('ok listen=[::]:2222 reload=no\n')
    expect((await host.ask('reload\n')).stdout).toMatch(/^busy retry=(?:[1-9]|1[0-5]) listen=\[::\]:2222\n$/)
    expect(await host.orders()).toEqual(['try-restart ssh.service'])
  })

  test.each([
    { name: 'nine in the last minute', ages: [59, 50, 41, 30, 20, 10, 5, 3, 1] },
    { name: 'ten, the first a minute ago', ages: [60, 50, 41, 30, 20, 10, 5, 4, 3, 1] },
    { name: 'ten before the clock was set back', ages: Array.from({ length: 10 }, (_, n) => -3600 - n) },
    { name: 'what is not known: the record is no record', ages: [NaN, NaN] },
  ])('one more reload after $name', async ({ ages }) => {
    await using host = await makeHelperHost()
    await host.systemctl(active('ssh.service'))
    await reloaded(host, ...ages)
    expect((await host.ask('reload\n')).stdout).toMatch(new RegExp(`^ok ${LISTEN} reload=no\\n$`))
    expect(await host.orders()).toEqual(['reload ssh.service'])
  })

  test('an eleventh reload within a minute has to wait until the first is a minute ago', async () => {
    await using host = await makeHelperHost()
    await host.systemctl(active('ssh.service'))
    await reloaded(host, 300, 40, 39, 38, 37, 36, 35, 34, 33, 32)
    expect((await host.ask('reload\n')).stdout).toMatch(/^ok /)
    const { stdout } = await host.ask('reload\n')
    const [, seconds] = new RegExp(`^busy retry=(\\d+) ${LISTEN}\\n$`).exec(stdout) ?? []
    expect(Number(seconds)).toBeGreaterThan(0)
    expect(Number(seconds)).toBeLessThanOrEqual(20)
    expect(await host.orders()).toEqual(['reload ssh.service'])
  })

  test('a reload that cannot be recorded is not done', async () => {
    await using host = await makeHelperHost()
    await host.systemctl(active('ssh.service'))
    const before = 'mount -o remount,ro,bind /run/hostcertd-reload'
    expect((await host.ask('reload\n', { before })).stdout).toMatch(
      /^error STORE_FAILED \S* : cannot open \/run\/\S*: Read-only file system\n$/,
    )
    expect(await host.orders()).toEqual([])
  })

  test.each([1, 5])(
    'systemctl that cannot say what is running (%i) does not mean that nothing is',
    async (status) => {
      await using host = await makeHelperHost()
      await host.systemctl(
        `case "$*" in *is-active*) echo 'Failed to connect to bus' >&2; exit ${status} ;; esac`,
      )
      expect((await host.ask('reload\n')).stdout).toMatch(
        /^error SSHD_RELOAD_FAILED listen= : systemctl does not report whether ssh.service is running\n$/,
      )
    },
  )

  test('makes /run/sshd when it is not there, for `sshd -t`', async () => {
    await using host = await makeHelperHost()
    await host.systemctl('ls -ld /run/sshd >>/run/test/orders 2>&1; exit 3')
    await host.ask('reload\n')
    const seen = await host.orders()
    expect(seen[0]).toMatch(/No such file/)
    expect(seen.at(-1)).toMatch(/^drwxr-xr-x/)
  })

  // In the unit's sandbox /run is read-only.
  test.each([
    { name: 'comes back', back: 'sleep 1.3; mount -o remount,rw /run; mkdir -pm 755 /run/sshd', says: 'ok' },
    { name: 'does not come back', back: ':', says: 'error SSHD_CONFIG_INVALID' },
  ])('/run/sshd is gone while sshd is being restarted, and $name', async ({ back, says }) => {
    await using host = await makeHelperHost()
    const before = `mount -o remount,ro /run; { ${back}; } &`
    expect((await host.ask('reload\n', { before })).stdout).toMatch(new RegExp(`^${says} .*\\n$`))
  })

  test('a configuration that `sshd -t` refuses: the listener is left alone', async () => {
    await using host = await makeHelperHost()
    await host.systemctl(active('ssh.service'))
    await appendFile(join(host.ssh, 'sshd_config'), 'NonsenseByAnAdministrator yes\n')
    const { stdout } = await host.ask('reload\n')
    expect(stdout).toMatch(
      /^error SSHD_CONFIG_INVALID listen= : sshd -t fails, sshd was not reloaded: .*Nonsense.*\n$/,
    )
    expect(await host.orders()).toEqual([])
  })

  test(
    'a HostCertificate that is a FIFO hangs `sshd -t`: a message instead',
    { timeout: 40_000 },
    async () => {
      await using host = await makeHelperHost()
      await host.systemctl(active('ssh.service'))
      await appendFile(join(host.ssh, 'sshd_config'), 'HostCertificate /run/fifo\n')
      const { stdout } = await host.ask('reload\n', { before: 'mkfifo /run/fifo' })
      expect(stdout).toBe(
        'error SSHD_CONFIG_INVALID listen= : sshd -t fails, sshd was not reloaded: sshd -t did not finish within 8 s\n',
      )
      expect(await host.orders()).toEqual([])
    },
  )

  test('what systemctl says of a failure is in the answer, on one line', async () => {
    await using host = await makeHelperHost()
    await host.systemctl(`${active('ssh.service')}; printf 'Unit ssh.service\\n is masked.\\n' >&2; exit 1`)
    const { stdout, stderr } = await host.ask('reload\n')
    const why = 'systemctl reload ssh.service failed: Unit ssh.service is masked.'
    expect(stdout).toMatch(new RegExp(`^error SSHD_RELOAD_FAILED ${LISTEN} : ${why} *\\n$`))
    expect(stderr).toContain(`<4>SSHD_RELOAD_FAILED: ${why}`)
  })

  test.each([
    '',
    '\n',
    'stop\n',
    'installed\n',
    'install; id\n',
    'install reload\n',
    '-n install\n',
    '*\n',
    'x'.repeat(100_000),
  ])('refuses the word %j', async (words) => {
    await using host = await makeHelperHost()
    await host.systemctl(active('ssh.service'))
    await host.stage('ssh_host_ed25519_key')
    const { stdout } = await host.ask(words)
    expect(stdout).toBe('error SSHD_RELOAD_FAILED listen= : the request must be install or reload\n')
    expect(await host.orders()).toEqual([])
    expect(await host.installed()).toEqual({})
  })

  test('who says nothing is not waited for', { timeout: 20_000 }, async () => {
    await using host = await makeHelperHost()
    const start = performance.now()
    const { stdout } = await host.ask('', { before: 'mkfifo /run/silent; exec 0<>/run/silent' })
    expect(stdout).toMatch(/^error SSHD_RELOAD_FAILED/)
    expect(performance.now() - start).toBeGreaterThan(4000)
  })

  test('no sshd on the host: says so', async () => {
    await using host = await makeHelperHost()
    const before = 'chmod 644 /run/test/ca; mount --bind /run/test/ca /usr/sbin/sshd'
    expect((await host.ask('install\n', { before })).stdout).toBe(
      'error SSHD_RELOAD_FAILED listen= : sshd is not installed on this host\n',
    )
  })
})
