import { execFile } from 'node:child_process'
import { chmod, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Mode } from '../../agent/enroll/show.ts'
import type { Template } from '../../agent/enroll/template.ts'
import { generateKey, signCertificate } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { NAMES } from './enroll-host.ts'

export { NAMES } from './enroll-host.ts'

/** What the issuer knows and does. */
interface Issuer {
  /** Ids by host name. */
  readonly hosts?: Readonly<Record<string, string>>
  /** It registers a host, and the answer is lost. */
  readonly losesAnswer?: boolean
  /** A proxy in front of it answers 404, without an id of the request. */
  readonly isBehindProxy?: boolean
  /** Of certificates, as ssh-keygen takes it. */
  readonly validity?: string
}

/** What `first-boot-in-place.ts` is given. */
export interface Attempting {
  /** Instead of the service: `enroll --template` in a mode, or a call that is interrupted. */
  readonly prepares: Preparing | null
  readonly issuer: Issuer & { readonly ca: string; readonly caKey: string }
  /** The service is stopped in that wait of more than a second, counted from 1. */
  readonly stopsAfter?: number
  readonly isTemplateBusy?: boolean
}

export type Preparing = Mode | 'interrupted'

/** What `enroll --template` did. */
export interface PreparedImage {
  /** `CODE: message`; null: it ended well. */
  readonly error: string | null
  readonly changed: boolean | null
  readonly isDone: boolean | null
  readonly log: readonly string[]
}

/** What a start of the service did. */
export interface Attempted {
  /** `CODE: message`; null: it ended well. */
  readonly error: string | null
  /** How it goes on after an error. */
  readonly next: string | null
  /** Null: it did not enroll. */
  readonly hostId: string | null
  readonly log: readonly string[]
  /** Seconds of each wait of more than one. */
  readonly sleeps: readonly number[]
  /** Of the issuer, in order. */
  readonly asked: readonly string[]
  readonly hosts: Readonly<Record<string, string>>
}

const PROGRAM = fileURLToPath(new URL('first-boot-in-place.ts', import.meta.url))
/** /run/hostcertd-enroll is a folder of systemd's, which outlives an attempt. */
const ENTER = `mount --bind "$0/etc" /etc && mount --bind "$0/lib" /var/lib && mount --bind "$0/run" /run && exec "$@"`
const SYSTEMCTL =
  '#!/bin/sh\ncase $1 in is-enabled) echo disabled; exit 1 ;; is-active) echo inactive; exit 3 ;; esac\n'
const OF_THE_SYSTEM = ['passwd', 'group', 'nsswitch.conf', 'ld.so.cache']

export const FILES = {
  template: 'etc/hostcertd/enroll.json',
  config: 'etc/hostcertd/hostcertd.yaml',
  enrollment: 'lib/hostcertd-enroll/enrollment.json',
  journal: 'lib/hostcertd-enroll/journal.json',
  back: 'lib/hostcertd-enroll/ephemeral.json',
} as const

const TEMPLATE: Partial<Template> & { readonly version: 1 } = {
  version: 1,
  url: 'https://issuer.example.com',
  project: NAMES.project,
  register: { ttl: null },
  auth: { method: 'token', token_file: 'credential:token' },
  secrets: { token: 'hunter2' },
  jitter_seconds: 0,
}

/** A machine that becomes an image, or a copy of one, with /etc, /var/lib and /run of its own, in a mount namespace. */
export interface BootHost extends AsyncDisposable {
  readonly path: (name: string) => string
  readonly write: (name: string, content: string) => Promise<void>
  readonly read: (name: string) => Promise<string>
  readonly writeTemplate: (changed?: Partial<Template>) => Promise<void>
  /** Into /etc/ssh, for its host key. */
  readonly certify: (hostId: string) => Promise<void>
  /** On the machine that becomes the image. */
  readonly prepare: (prepares: Preparing) => Promise<PreparedImage>
  /** systemd starts hostcertd-enroll.service. */
  readonly start: (issuer?: Issuer, how?: Omit<Attempting, 'issuer' | 'prepares'>) => Promise<Attempted>
}

export async function makeBootHost(): Promise<BootHost> {
  const folder = await makeTemporaryFolder()
  const path = (name: string): string => join(folder.path, name)
  const write = async (name: string, content: string): Promise<void> => {
    await mkdir(dirname(path(name)), { recursive: true })
    await writeFile(path(name), content)
    await chmod(path(name), 0o600)
  }
  for (const name of ['bin', 'etc/ssh', 'lib', 'run/hostcertd-enroll', 'run/sshd'])
    await mkdir(path(name), { recursive: true })
  for (const name of OF_THE_SYSTEM) await copyFile(`/etc/${name}`, path(`etc/${name}`))
  await writeFile(path('etc/ssh/sshd_config'), 'Include /etc/ssh/sshd_config.d/*.conf\n')
  await writeFile(path('etc/machine-id'), `${'a'.repeat(32)}\n`)
  await writeFile(path('bin/systemctl'), SYSTEMCTL, { mode: 0o755 })
  const hostKey = path('etc/ssh/ssh_host_ed25519_key')
  await generateKey(hostKey, 'ed25519', '')
  const ca = path('ca')
  const caKey = await generateKey(ca, 'ed25519', '')
  const run = <Result>(given: Attempting): Promise<Result> =>
    new Promise((resolve, reject) => {
      const env = { ...process.env, PATH: `${path('bin')}:${process.env['PATH'] ?? ''}` }
      const argv = ['-m', 'sh', '-c', ENTER, folder.path, process.execPath, PROGRAM]
      const child = execFile('/usr/bin/unshare', argv, { env }, (error, stdout) =>
        error === null ? resolve(JSON.parse(stdout) as Result) : reject(error),
      )
      child.stdin?.end(JSON.stringify(given))
    })
  return {
    path,
    write,
    read: async (name) => readFile(path(name), 'utf8'),
    writeTemplate: async (changed = {}) => write(FILES.template, JSON.stringify({ ...TEMPLATE, ...changed })),
    certify: async (hostId) => {
      const wish = { ca, publicKey: `${hostKey}.pub`, keyId: `host-${hostId}`, principals: [NAMES.host] }
      await writeFile(`${hostKey}-cert.pub`, `${await signCertificate(wish)}\n`)
    },
    prepare: async (prepares) => run<PreparedImage>({ prepares, issuer: { ca, caKey } }),
    start: async (issuer = {}, how = {}) =>
      run<Attempted>({ ...how, prepares: null, issuer: { ...issuer, ca, caKey } }),
    [Symbol.asyncDispose]: folder.remove,
  }
}
