import { execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isSignatureValid } from '../../../agent/cert/host-certificate.ts'
import { tryParse } from '../../../agent/cert/verify-issued.ts'
import { inspectFiles, isEachSound } from '../../../agent/cli/inspect.ts'
import { blobOf, craftCertificate, craftSecurityKey, type CraftedKey } from '../../cert/craft.ts'
import { PROGRAM } from '../../cli/hostcertd.ts'
import { comparable, readListing } from '../../support/inspect-listing.ts'
import { freePort } from '../../support/private-sshd/process.ts'
import { baseRoot, describeOnEachRelease, type Release, TESTING } from '../support/releases.ts'

/** Against the OpenSSH of Debian testing. Nothing boots: its programs run by chroot. */
let root = ''
let folder = ''
const run = promisify(execFile)

const at = (...names: string[]): string => join(folder, ...names)
/** The same path as the programs in the root have it. */
const within = (...names: string[]): string => at(...names).slice(root.length)

async function inRoot(...argv: readonly string[]): Promise<string> {
  return (await run('chroot', [root, 'env', 'TZ=UTC', 'LC_ALL=C.UTF-8', ...argv])).stdout
}

async function makeKey(name: string, ...type: readonly string[]): Promise<string> {
  await inRoot('ssh-keygen', '-q', '-N', '', '-C', name, '-f', within(name), ...type)
  return (await readFile(at(`${name}.pub`), 'utf8')).trim()
}

const TYPES = {
  ed25519: ['-t', 'ed25519'],
  p256: ['-t', 'ecdsa', '-b', '256'],
  p384: ['-t', 'ecdsa', '-b', '384'],
  p521: ['-t', 'ecdsa', '-b', '521'],
  rsa: ['-t', 'rsa', '-b', '2048'],
  mldsa: ['-t', 'mldsa44-ed25519'],
} as const
const CAS = [
  ...Object.keys(TYPES).map((type) => ({ ca: type, options: [] })),
  { ca: 'rsa', options: ['-t', 'rsa-sha2-256'] },
]
/** What is in them; each for each pair of key and CA. */
const WISHES = [
  ['-h', '-n', 'web1.example.com'],
  ['-h', '-n', 'web1.example.com,web1,10.0.0.1', '-V', '20260101000000:20270101000000'],
  ['-h', '-V', 'always:20300101000000', '-z', '18446744073709551615'],
  ['-h', '-n', '*', '-O', 'extension:note@example.com=some words'],
  ['-n', 'root', '-V', '0x1:0x7fffffff'],
  ['-n', 'a,b', '-O', 'clear', '-O', 'force-command=/bin/echo "hi"', '-O', 'source-address=10.0.0.0/8'],
] as const

/** Folders for one suite, in the root. */
function useRoot(release: Release): void {
  beforeAll(async () => {
    root = baseRoot(release)
    folder = await mkdtemp(join(root, 'tmp/hostcertd-'))
  })
  afterAll(async () => rm(folder, { recursive: true, force: true }))
}

describeOnEachRelease(
  'inspect and ssh-keygen -L',
  (release) => {
    useRoot(release)

    /** Paths of certificates. */
    const files: string[] = []

    beforeAll(async () => {
      const subjects = new Map<string, string>()
      for (const [name, options] of Object.entries(TYPES)) {
        subjects.set(name, await makeKey(`key-${name}`, ...options))
        await makeKey(`ca-${name}`, ...options)
      }
      for (const kind of ['ed25519', 'ecdsa'] as const)
        subjects.set(`sk-${kind}`, craftSecurityKey(kind).line)
      for (const [name, line] of subjects) {
        for (const [index, { ca, options }] of CAS.entries()) {
          for (const [number, wish] of WISHES.entries()) {
            const file = `${name}-by-${index}-${number}`
            await writeFile(at(`${file}.pub`), `${line}\n`)
            const signing = ['-s', within(`ca-${ca}`), '-I', `${file} "ü"`, ...options, ...wish]
            await inRoot('ssh-keygen', '-q', ...signing, within(`${file}.pub`))
            files.push(`${file}-cert.pub`)
          }
        }
        const subject: CraftedKey = { ...craftSecurityKey('ed25519'), blob: blobOf(line) }
        for (const kind of ['ed25519', 'ecdsa'] as const) {
          const file = `${name}-by-sk-${kind}-cert.pub`
          await writeFile(at(file), `${craftCertificate(subject, craftSecurityKey(kind, 'ssh:ca'))}\n`)
          files.push(file)
        }
      }
    }, 300_000)

    test('agree on every key type and CA type', { timeout: 300_000 }, async () => {
      expect(files.length).toBeGreaterThanOrEqual(300)
      for (const file of files) {
        const [entry] = await inspectFiles([at(file)])
        if (entry === undefined || 'error' in entry) throw new Error(JSON.stringify(entry))
        const listing = await inRoot('ssh-keygen', '-L', '-f', within(file))
        expect(comparable(entry), file).toEqual(readListing(listing))
        expect(entry.signature_valid, file).toBe(true)
      }
      console.log(`${files.length} certificates, ${(await run('chroot', [root, 'ssh', '-V'])).stderr.trim()}`)
    })

    test('no damaged one passes, by the one or the other', { timeout: 300_000 }, async () => {
      for (const [index, file] of files.entries()) {
        const [type = '', base64 = ''] = (await readFile(at(file), 'utf8')).split(' ')
        const blob = Buffer.from(base64, 'base64')
        const at64 = (index * 7919) % blob.length
        blob[at64] = (blob[at64] ?? 0) ^ (1 << (index % 8))
        const damaged = `${type} ${blob.toString('base64')}`
        const parsed = tryParse(damaged)
        expect(parsed.ok && isSignatureValid(parsed.certificate), `${file}, byte ${at64}`).toBe(false)
        if (index % 10 !== 0) continue
        await writeFile(at('damaged-cert.pub'), `${damaged}\n`)
        expect(isEachSound(await inspectFiles([at('damaged-cert.pub')]))).toBe(false)
        const listed = inRoot('ssh-keygen', '-L', '-f', within('damaged-cert.pub'))
        await expect(listed, file).rejects.toThrow('damaged-cert.pub:1: ')
      }
    })
  },
  [TESTING],
)

const NAME = 'web1.example.com'
const HOST_KEY = 'ssh_host_mldsa44_ed25519_key'

describeOnEachRelease(
  'a post-quantum host certificate',
  (release) => {
    useRoot(release)

    test.each([
      { ca: 'ed25519', client: [] },
      { ca: 'mldsa', client: ['CASignatureAlgorithms=+ssh-mldsa44-ed25519'] },
    ] as const)(
      'that issuer.command had signed by a CA of $ca: a strict client verifies the host by it',
      async ({ ca, client }) => {
        const name = `host-${ca}`
        await mkdir(at(name, 'bin'), { recursive: true })
        await mkdir(join(root, 'run/sshd'), { recursive: true })
        await makeKey(`${name}/${HOST_KEY}`, ...TYPES.mldsa)
        const caLine = await makeKey(`${name}/ca`, ...TYPES[ca])
        const otherCa = await makeKey(`${name}/other-ca`, ...TYPES[ca])
        const port = await freePort()
        await prepare(name, port)
        const sshd = spawn(
          'chroot',
          [root, '/usr/sbin/sshd', '-D', '-e', '-f', within(name, 'sshd_config')],
          { stdio: 'ignore' },
        )
        try {
          await expect.poll(async () => existsSync(at(name, 'sshd.pid')), { timeout: 10_000 }).toBe(true)
          const environment = { PATH: `${at(name, 'bin')}:${process.env['PATH']}` }
          const hostcertd = (...args: readonly string[]) =>
            run(process.execPath, [PROGRAM, ...args, '--config', at(name, 'hostcertd.yaml')], {
              env: environment,
            })
          const renewed = await hostcertd('renew', '--json')
          expect(JSON.parse(renewed.stdout)).toMatchObject([{ host_key: HOST_KEY, result: 'renewed' }])
          // It asked sshd what it presents.
          const status = JSON.parse((await hostcertd('status', '--json')).stdout) as {
            certificates: unknown[]
          }
          expect(status.certificates).toMatchObject([
            { key_type: 'ssh-mldsa44-ed25519', state: 'valid', served: { matches: true } },
          ])

          const connect = async (authority: string): Promise<string> => {
            await writeFile(at(name, 'known_hosts'), `@cert-authority ${NAME} ${authority}\n`)
            const settings = [
              ...client,
              'StrictHostKeyChecking=yes',
              'BatchMode=yes',
              `HostKeyAlias=${NAME}`,
              `UserKnownHostsFile=${within(name, 'known_hosts')}`,
              'GlobalKnownHostsFile=/dev/null',
            ].flatMap((setting) => ['-o', setting])
            const ssh = [
              'ssh',
              '-F',
              'none',
              '-v',
              ...settings,
              '-p',
              String(port),
              'nobody@127.0.0.1',
              'true',
            ]
            // Nobody may log in: the host is verified before that is asked.
            return run('chroot', [root, ...ssh]).then(
              ({ stderr }) => stderr,
              ({ stderr }: { stderr: string }) => stderr,
            )
          }
          const accepted = await connect(caLine)
          expect(accepted).toContain(
            `Host '${NAME}' is known and matches the MLDSA44-ED25519-CERT host certificate`,
          )
          expect(accepted).toContain('Permission denied')
          expect(await connect(otherCa)).toContain('Host key verification failed')
        } finally {
          sshd.kill('SIGTERM')
        }
      },
      60_000,
    )

    async function prepare(name: string, port: number): Promise<void> {
      const sshdConfig = [
        `Port ${port}`,
        'ListenAddress 127.0.0.1',
        `HostKey ${within(name, HOST_KEY)}`,
        `HostCertificate ${within(name, 'certs', `${HOST_KEY}-cert.pub`)}`,
        `PidFile ${within(name, 'sshd.pid')}`,
        'PerSourcePenalties no',
      ]
      await writeFile(at(name, 'sshd_config'), `${sshdConfig.join('\n')}\n`)
      const ca = within(name, 'ca')
      const signing = `read -r question
umask 077
work=$(mktemp -d)
printf '%s\\n' "$question" | sed 's/.*"public_key":"\\([^"]*\\)".*/\\1/' >"$work/key.pub"
ssh-keygen -q -s ${ca} -h -I issued -n ${NAME} -V -1m:+1h "$work/key.pub" >&2
printf '{"certificate":"%s"}\\n' "$(cat "$work/key-cert.pub")"
rm -r "$work"
`
      await writeFile(at(name, 'sign'), signing)
      await writeFile(at(name, 'bin', 'ssh'), `#!/bin/sh\nexec chroot ${root} ssh "$@"\n`)
      await chmod(at(name, 'bin', 'ssh'), 0o755)
      const config = {
        issuer: { command: ['/usr/sbin/chroot', root, '/bin/sh', within(name, 'sign')] },
        host_keys: at(name, 'ssh_host_*_key.pub'),
        certificates: { directory: at(name, 'certs') },
        verify: { host_ca_file: at(name, 'ca.pub'), principals: [NAME] },
        sshd: {
          address: `127.0.0.1:${port}`,
          reload_command: ['/bin/sh', '-c', `kill -HUP "$(cat ${at(name, 'sshd.pid')})"`],
        },
        health: { listen: 'none' },
        state_directory: at(name, 'state'),
      }
      await mkdir(at(name, 'state'))
      // JSON is YAML.
      await writeFile(at(name, 'hostcertd.yaml'), JSON.stringify(config))
    }
  },
  [TESTING],
)
