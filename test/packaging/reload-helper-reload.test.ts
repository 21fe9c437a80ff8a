import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { makeHelperHost } from './helper-host.ts'

const LISTEN = String.raw`listen=\S*:22,\S*:22`
/** `systemctl` for these active units; `$*` is `--quiet is-active UNIT` or `show … UNIT`. */
const active = (...units: string[]): string =>
  `case "$*" in ${units.map((unit) => `*is-active\\ ${unit}`).join('|')}) exit 0 ;; *is-active*) exit 3 ;; esac`

describe.skipIf(process.getuid?.() !== 0)('the root helper, reload', () => {
  test.each([
    { units: ['ssh.service'], orders: ['reload ssh.service'] },
    { units: ['sshd.service'], orders: ['reload sshd.service'] },
    // On Debian sshd.service is another name of ssh.service.
    { units: ['ssh.service', 'sshd.service'], orders: ['reload ssh.service'] },
    { units: ['ssh.service', 'sshd.socket'], orders: ['reload ssh.service'] },
    { units: ['sshd.service', 'sshd.socket'], orders: ['try-restart sshd.service'] },
  ])('active: $units', async ({ units, orders }) => {
    await using host = await makeHelperHost()
    await host.systemctl(`${active(...units)}; case "$*" in show*) echo @1 ;; esac`)
    expect((await host.ask('reload\n')).stdout).toMatch(new RegExp(`^ok ${LISTEN} reload=no\\n$`))
    expect(await host.orders()).toEqual(orders)
  })

  test('nothing active: no error, and nothing is started', async () => {
    await using host = await makeHelperHost()
    const { stdout } = await host.ask('reload\n')
    expect(stdout).toMatch(new RegExp(`^ok ${LISTEN} reload=no : sshd is not running, .*\\n$`))
    expect(await host.orders()).toEqual([])
  })

  test('ssh.socket: restarts, never more than once in 15 s, and tells what the socket listens on', async () => {
    await using host = await makeHelperHost()
    const listen =
      '0.0.0.0:2222 (Stream)\\n[::]:2222 (Stream)\\n/run/ssh/socket (Stream)\\nvsock::22 (Stream)'
    await host.systemctl(`${active('ssh.service', 'ssh.socket')}
case "$*" in
  *ActiveEnterTimestamp*) echo "@$(($(date +%s) - 12))" ;;
  *Listen*) printf '${listen}\\n' ;;
esac`)
    const start = performance.now()
    expect((await host.ask('reload\n')).stdout).toBe('ok listen=0.0.0.0:2222,[::]:2222 reload=no\n')
    expect(performance.now() - start).toBeGreaterThan(2000)
    expect(await host.orders()).toEqual(['try-restart ssh.service'])
  })

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
        'error SSHD_CONFIG_INVALID listen= : sshd -t fails, sshd was not reloaded: sshd -t was not done within 8 s\n',
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
    expect(stdout).toBe('error SSHD_RELOAD_FAILED listen= : the one word to say is install or reload\n')
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
      'error SSHD_RELOAD_FAILED listen= : there is no sshd on this host\n',
    )
  })
})
