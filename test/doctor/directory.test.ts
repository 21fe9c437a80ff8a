import { execFile } from 'node:child_process'
import { chmod, chown, mkdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { obstacleIn, type ServiceSandbox } from '../../agent/doctor/directory.ts'
import { findProgram } from '../../agent/host/programs.ts'
import { ED25519 } from '../cli/bare-host.ts'
import { PROGRAM } from '../cli/hostcertd.ts'
import { isRoot, needsRoot, runsIf } from '../support/skip.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { OWNER, testBroken } from './broken.ts'
import { findingsIn, of } from './findings.ts'
import { makeWard } from './ward.ts'

const run = promisify(execFile)
/** Neither root nor the daemon. */
const NOBODY = 65_533
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
    message: /srv\/a\/b\S* does not exist/,
    remedy: /hostcertd renew/,
  },
])

/** A file system in the place of the state directory, and what doctor, as root, says of that. */
const FILE_SYSTEMS: readonly {
  readonly name: string
  /** `$1` is the folder; what is mounted there goes with the namespace. */
  readonly mount: string
  readonly message: RegExp
  readonly remedy: RegExp
  /** Besides the directory. */
  readonly needs?: string
}[] = [
  {
    name: 'mounted read-only',
    mount: 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"',
    message: /state: the file system of \S+state is mounted read-only$/,
    remedy:
      /^`findmnt -T \S+state` shows the file system: mount it read-write, or set state_directory to a folder on another/,
  },
  {
    name: 'full',
    mount: 'mount -t tmpfs -o size=64k,mode=777 tmpfs "$1"; head -c 64k /dev/zero >"$1/filled" || :',
    message: /state: no space left in the file system of \S+state$/,
    remedy:
      /^free space there \(`df -h \S+state`\), or set state_directory to a folder on another file system$/,
  },
  {
    name: 'almost full: less than the record needs',
    mount: 'mount -t tmpfs -o size=64k,mode=777 tmpfs "$1"; head -c 60k /dev/zero >"$1/filled"',
    message: /state: no space left in the file system of \S+state$/,
    remedy: /^free space there/,
  },
  {
    name: 'without inodes',
    mount:
      'mount -t tmpfs -o nr_inodes=3,mode=777 tmpfs "$1"; touch "$1/a" "$1/b" "$1/c" "$1/d" 2>/dev/null || :',
    message: /state: no inodes left in the file system of \S+state$/,
    remedy: /^remove files there \(`df -i \S+state`\), or set state_directory/,
  },
  {
    name: 'full but for what is reserved for root',
    needs: 'mkfs.ext4',
    mount: `truncate -s 4M "$1.image"; mkfs.ext4 -q -m 50 "$1.image"; mount -o loop "$1.image" "$1"; chmod 777 "$1"
head -c "$(($(stat -f -c '%a * %S' "$1")))" /dev/zero >"$1/filled"`,
    message: /state: no space left in the file system of \S+state; \d{3,} KiB are reserved for root$/,
    remedy: /^free space there/,
  },
]

test.for(FILE_SYSTEMS)(
  'a file system that is $name',
  runsIf(canMount, 'nothing can be mounted here'),
  async ({ mount, message, remedy, needs }, { skip }) => {
    if (needs !== undefined) skip((await findProgram(needs)) === null, `${needs} is missing`)
    await using ward = await makeWard()
    const { folder, statePath, configPath, certificatePath } = ward.host
    for (const path of [statePath, ward.secretFile, dirname(certificatePath(ED25519))])
      await chown(path, OWNER, OWNER)
    const doctor = [process.execPath, PROGRAM, 'doctor', '--json', '--config', configPath]
    const script = `set -e
${mount}
chown ${OWNER}:${OWNER} "$1" 2>/dev/null || :
state=$1 out=$2; shift 2
"$@" >"$out/doctor.json" || :
ls -A "$state" >"$out/left"`
    await run('unshare', ['-m', 'sh', '-c', script, 'sh', statePath, folder, ...doctor])
    const findings = findingsIn(await readFile(join(folder, 'doctor.json'), 'utf8'))
    const [state, certificates] = of('directory', findings)
    expect(state).toMatchObject({
      status: 'failure',
      message: expect.stringMatching(/^the daemon's user \(65534\) cannot write to /) as string,
    })
    expect(state?.message).toMatch(message)
    expect(state?.remedy).toMatch(remedy)
    expect(certificates).toMatchObject({ status: 'ok' })
    expect(await readFile(join(folder, 'left'), 'utf8')).not.toContain('doctor')
  },
)

test('who is neither root nor the daemon does not know whether the daemon can write', needsRoot, async () => {
  await using folder = await makeTemporaryFolder()
  const path = join(folder.path, 'state')
  await mkdir(path, { mode: 0o755 })
  await chown(path, OWNER, OWNER)
  // In a process of its own, which stops being root.
  const module = fileURLToPath(new URL('../../agent/host/file-access.ts', import.meta.url))
  const code = `
    const { tryWriting } = await import(${JSON.stringify(module)})
    const tried = (uid) => tryWriting(${JSON.stringify(path)}, { uid, gid: uid }, 4096, new AbortController().signal)
    const asRoot = await tried(${OWNER})
    process.setgroups([]); process.setgid(${NOBODY}); process.setuid(${NOBODY})
    console.log(JSON.stringify([asRoot, await tried(${OWNER}), (await tried(${NOBODY})).kind]))`
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', code])
  expect(JSON.parse(stdout)).toEqual(['written', 'untried', 'denied'])
})

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
      { folder: '/root/certs', change: { protectSystem: 'no' }, why: /home directories \(ProtectHome=yes\)/ },
      { folder: '/root/certs', change: { protectSystem: 'no', protectHome: 'no' }, why: /^$/ },
      { folder: '/tmp/certs', why: /a private \/tmp \(PrivateTmp\)/, remedy: /^set X to a folder below/ },
      { folder: '/tmp/certs', change: { protectSystem: 'no', hasPrivateTmp: false }, why: /^$/ },
    ]
  test.each(rows)('$folder $change: $why', ({ folder, change = {}, why, remedy = /^/ }) => {
    const obstacle = obstacleIn({ ...unit, ...change }, folder, 'X')
    expect(obstacle?.why ?? '').toMatch(why)
    expect(obstacle?.remedy ?? '').toMatch(remedy)
  })
})
