import { execFile } from 'node:child_process'
import { chmod, chown, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import type { ServiceSandbox } from '../../../agent/adapters/service-sandbox.ts'
import { obstacleIn } from '../../../agent/cli/doctor/sandbox.ts'
import { PROGRAM } from '../hostcertd.ts'
import { isRoot, OWNER, testBroken } from './broken.ts'
import { findingsIn, of } from './findings.ts'
import { makeWard } from './ward.ts'

const run = promisify(execFile)
const canMount =
  isRoot &&
  (await run('unshare', ['-m', 'mount', '--bind', '/tmp', '/tmp']).then(
    () => true,
    () => false,
  ))

testBroken([
  {
    name: 'a folder for certificates that the daemon can never make',
    onlyRoot: true,
    breakIt: async (ward) => {
      const { folder } = ward.host
      await mkdir(join(folder, 'srv'))
      await chmod(join(folder, 'srv'), 0o755)
      for (const path of [ward.host.statePath, ward.secretFile]) await chown(path, OWNER, OWNER)
      await ward.configure({ certificates: { directory: join(folder, 'srv', 'a', 'b') } })
    },
    troubles: ['certificates failure', 'directory failure', 'sshd-config failure'],
    message: /there is no .*srv\/a\/b/,
    remedy: /hostcertd renew/,
  },
])

const READ_ONLY =
  'for d in $1; do mount --bind "$d" "$d" && mount -o remount,bind,ro "$d" || exit 99; done; shift; exec "$@"'

test.skipIf(!canMount)(
  'a file system that is mounted read-only (skipped where nothing can be mounted)',
  async () => {
    await using ward = await makeWard()
    const { folder, statePath, configPath } = ward.host
    const folders = [statePath, join(folder, 'certs')]
    const doctor = [process.execPath, PROGRAM, 'doctor', '--json', '--config', configPath]
    const { stdout } = await run('unshare', [
      '-m',
      'sh',
      '-c',
      READ_ONLY,
      'sh',
      folders.join(' '),
      ...doctor,
    ]).catch((error: { readonly stdout: string }) => error)
    const found = of('directory', findingsIn(stdout))
    expect(found.map(({ status }) => status)).toEqual(['failure', 'failure'])
    expect(found.map(({ message }) => message)).toEqual(
      folders.map(
        (path) =>
          expect.stringContaining(
            `cannot write in ${path}: the file system of ${path} is mounted read-only`,
          ) as string,
      ),
    )
    expect(found.map(({ remedy }) => remedy)).toEqual([
      expect.stringMatching(
        /^`findmnt -T \S+state` shows which: mount it writable, or set state_directory to a folder on another file system/,
      ),
      expect.stringMatching(
        /^`findmnt -T \S+certs` .* or set certificates\.directory to a folder on another/,
      ),
    ])
  },
)

describe('what the sandbox of the service keeps it from', () => {
  const unit: ServiceSandbox = {
    protectSystem: 'strict',
    protectHome: 'yes',
    hasPrivateTmp: true,
    writable: ['/var/lib/hostcertd', '/srv/certs'],
  }
  const rows: readonly { folder: string; change?: Partial<ServiceSandbox>; why: RegExp; remedy?: RegExp }[] =
    [
      { folder: '/var/lib/hostcertd', why: /^$/ },
      { folder: '/var/lib/hostcertd/certs', why: /^$/ },
      { folder: '/srv/certs/a', why: /^$/ },
      {
        folder: '/srv/certs2',
        why: /read-only for hostcertd\.service \(ProtectSystem=strict\)/,
        remedy: /^set X to a folder below .*`systemctl edit hostcertd`.*`ReadWritePaths=\/srv\/certs2`/,
      },
      { folder: '/srv/certs2', change: { protectSystem: 'full' }, why: /^$/ },
      { folder: '/etc/ssh', change: { protectSystem: 'full' }, why: /ProtectSystem=full/ },
      { folder: '/etc/ssh', change: { protectSystem: 'yes' }, why: /^$/ },
      { folder: '/etc/ssh', change: { protectSystem: 'no' }, why: /^$/ },
      { folder: '/root/certs', change: { protectSystem: 'no' }, why: /home folders \(ProtectHome=yes\)/ },
      { folder: '/root/certs', change: { protectSystem: 'no', protectHome: 'no' }, why: /^$/ },
      { folder: '/tmp/certs', why: /a \/tmp of its own \(PrivateTmp\)/, remedy: /^set X to a folder below/ },
      { folder: '/tmp/certs', change: { protectSystem: 'no', hasPrivateTmp: false }, why: /^$/ },
    ]
  test.each(rows)('$folder $change: $why', ({ folder, change = {}, why, remedy = /^/ }) => {
    const obstacle = obstacleIn({ ...unit, ...change }, folder, 'X')
    expect(obstacle?.why ?? '').toMatch(why)
    expect(obstacle?.remedy ?? '').toMatch(remedy)
  })
})
