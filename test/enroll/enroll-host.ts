import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, cp, mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Enrolled } from '../../agent/enroll/enroll.ts'
import type { EnrollOptions } from '../../agent/enroll/wanted.ts'
import type { Enrollment } from '../../agent/host/enrollment.ts'
import { generateKey, type SignOptions, signCertificate } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

export const NAMES = {
  host: 'web1.example.com',
  hostId: '8c1efcfc-434c-4c43-80e3-53c9eae6672a',
  otherId: '9d20adfd-545d-4d54-91f4-64dafbf7783b',
  project: '41ea2756-88ac-43bf-8929-42b71ec7742e',
} as const

interface File {
  readonly content: string
  /** 0644 when left out. */
  readonly mode?: number
  /** Its user and group; root's when left out. */
  readonly owner?: number
}

/** `enrollment.json` of the host. */
export function enrolled(changes: Partial<Enrollment> = {}): string {
  const enrollment: Enrollment = {
    version: 1,
    machine_id: 'a'.repeat(32),
    instance_id: { cloud_init: null, board_asset_tag: null },
    host_keys: [],
    enrolled_at: '2026-01-01T00:00:00Z',
    enrolled_by: 'root',
    hostcertd: '0',
    host_id: NAMES.hostId,
    hostname: NAMES.host,
    ephemeral: false,
    ...changes,
  }
  return JSON.stringify(enrollment)
}

/** What `enroll-in-place.ts` is given. */
export interface Looking {
  readonly files: Readonly<Record<string, File>>
  readonly options: EnrollOptions
  readonly environment: Readonly<Record<string, string>>
  readonly issuer: {
    readonly hostId: string
    readonly ca: string
    readonly caKey: string
    /** Empty: none. */
    readonly userCa: string
    readonly clockSkewSeconds: number | null
  }
  /** Whether there is a terminal. */
  readonly isThere: boolean
  /** Written while a person thinks about the question, which is answered by yes. */
  readonly meanwhile: Readonly<Record<string, string>>
  /** The step before which enroll fails, and undoes what it did; null: none. */
  readonly failsBefore: string | null
}

/** What `enroll --dry-run` says and shows. */
export interface Looked extends Pick<Enrolled, 'hostId' | 'steps' | 'knownHosts'> {
  readonly error: string | null
  readonly told: readonly string[]
  /** As they would be; null: removed. */
  readonly files: Readonly<Record<string, { readonly content: string; readonly mode: number } | null>>
  /** Mode and owner of files and folders, as they would be. */
  readonly access: Readonly<Record<string, string>>
  /** What a person was asked: secrets. */
  readonly asked: readonly string[]
  /** Calls of systemctl, and reloads of sshd, to make changes and to undo them. */
  readonly calls: readonly string[]
  /** What became of the files of the user CAs while the lock of the root helper was held. */
  readonly locked: readonly string[]
}

/** What systemctl prints, and its exit status. */
type Word = readonly [word: string, status: number]

export interface Wish {
  readonly files?: Readonly<Record<string, File | string>>
  readonly options?: Partial<EnrollOptions>
  readonly environment?: Readonly<Record<string, string>>
  /** What the issuer names. */
  readonly userCa?: string
  readonly clockSkewSeconds?: number | null
  /** The same of every unit, but for one that is masked. */
  readonly systemctl?: {
    readonly isEnabled?: Word
    readonly isActive?: Word
    /** What `show --property=Job` says. */
    readonly job?: Word
    readonly masked?: string
  }
  readonly isThere?: boolean
  readonly meanwhile?: Readonly<Record<string, string>>
  readonly failsBefore?: string
}

const OPTIONS: EnrollOptions = {
  url: 'https://issuer.example.com',
  hostId: NAMES.hostId,
  project: null,
  hostname: null,
  register: null,
  fromCertificate: false,
  method: 'token',
  login: { token_file: 'credential:token' },
  adminTokenFile: null,
  caFile: null,
  caFingerprints: [],
  takeOver: false,
  onCopy: null,
  mode: 'dry-run',
  waitSeconds: 1,
}

const ENTER = 'mount --bind "$0/etc" /etc && mount --bind "$0/lib" /var/lib && exec "$@"'
const SYSTEMCTL =
  '#!/bin/sh\necho "$*" >>"$0.calls"\nif [ "$2" = "$(cat "$0.masked")" ]; then echo masked; exit 1; fi\nread -r status word < "$0.$1"; echo "$word"; exit "$status"\n'
const PROGRAM = fileURLToPath(new URL('enroll-in-place.ts', import.meta.url))
const OF_THE_SYSTEM = ['passwd', 'group', 'nsswitch.conf', 'ld.so.cache']

/** A host of its own, on which enroll looks: a mount namespace in which /etc and /var/lib are folders of the test. */
export class EnrollHost implements AsyncDisposable {
  readonly #folder: TemporaryFolder
  readonly #program: ChildProcessWithoutNullStreams
  readonly #lines: AsyncIterator<string>
  #errors = ''
  /** Public key lines: the CA that signs, and another one. */
  readonly caKeys: readonly [ca: string, other: string]

  private constructor(folder: TemporaryFolder, caKeys: EnrollHost['caKeys']) {
    this.#folder = folder
    this.caKeys = caKeys
    const argv = ['-m', 'sh', '-c', ENTER, folder.path, process.execPath, PROGRAM]
    const PATH = `${this.path('bin')}:${process.env['PATH'] ?? ''}`
    this.#program = spawn('/usr/bin/unshare', argv, { stdio: 'pipe', env: { ...process.env, PATH } })
    this.#program.stderr.on('data', (chunk: Buffer) => (this.#errors += chunk.toString()))
    this.#lines = createInterface({ input: this.#program.stdout })[Symbol.asyncIterator]()
  }

  static async make(): Promise<EnrollHost> {
    const folder = await makeTemporaryFolder()
    const at = (...names: string[]): string => join(folder.path, ...names)
    await Promise.all(['bin', 'lib', 'etc', 'keys'].map((name) => mkdir(at(name))))
    await writeFile(at('bin', 'systemctl'), SYSTEMCTL, { mode: 0o755 })
    const [ca, other] = await Promise.all([
      generateKey(at('ca'), 'ed25519', ''),
      generateKey(at('other-ca'), 'ed25519', ''),
      generateKey(at('keys', 'ssh_host_ed25519_key'), 'ed25519', ''),
    ])
    return new EnrollHost(folder, [ca, other])
  }

  /** As it was installed: with a host key, and nothing of hostcertd. */
  async reset(): Promise<void> {
    for (const folder of ['etc', 'lib'])
      for (const name of await readdir(this.path(folder)))
        await rm(this.path(`${folder}/${name}`), { recursive: true })
    for (const name of OF_THE_SYSTEM) await copyFile(`/etc/${name}`, this.path(`etc/${name}`))
    await cp(this.path('keys'), this.path('etc/ssh'), { recursive: true })
    await writeFile(this.path('etc/ssh/sshd_config'), 'Include /etc/ssh/sshd_config.d/*.conf\n')
    await writeFile(this.path('etc/machine-id'), `${'a'.repeat(32)}\n`)
  }

  /** Where something of this host is. */
  path(name: string): string {
    return join(this.#folder.path, name)
  }

  /** @returns a line with its end, for a host key of this host */
  async certify(hostId: string, wish: Partial<SignOptions> = {}): Promise<string> {
    const publicKey = this.path('keys/ssh_host_ed25519_key.pub')
    const all = { ca: this.path('ca'), publicKey, keyId: `host-${hostId}`, ...wish }
    return `${await signCertificate(all)}\n`
  }

  /** `enroll`, by default with `--dry-run`. Files stay from one call to the next. */
  async look({
    files = {},
    options,
    environment = {},
    systemctl = {},
    userCa = '',
    clockSkewSeconds = 0,
    isThere = false,
    meanwhile = {},
    failsBefore,
  }: Wish = {}): Promise<Looked> {
    const {
      isEnabled = ['disabled', 1],
      isActive = ['inactive', 3],
      job = ['Job=', 0],
      masked = '',
    } = systemctl
    await writeFile(this.path('bin/systemctl.masked'), masked)
    const words = { 'is-enabled': isEnabled, 'is-active': isActive, show: job }
    for (const [verb, [word, status]] of Object.entries(words))
      await writeFile(this.path(`bin/systemctl.${verb}`), `${status} ${word}\n`)
    const given: Looking = {
      files: Object.fromEntries(
        Object.entries(files).map(([path, file]) => [
          path,
          typeof file === 'string' ? { content: file } : file,
        ]),
      ),
      options: { ...OPTIONS, ...options },
      environment,
      issuer: { hostId: NAMES.hostId, ca: this.path('ca'), caKey: this.caKeys[0], userCa, clockSkewSeconds },
      isThere,
      meanwhile,
      failsBefore: failsBefore ?? null,
    }
    this.#program.stdin.write(`${JSON.stringify(given)}\n`)
    const { value, done } = await this.#lines.next()
    if (done === true) throw new Error(this.#errors)
    return JSON.parse(value) as Looked
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#program, 'close')
    if (this.#program.exitCode === null) {
      this.#program.stdin.end()
      await ended
    }
    await this.#folder.remove()
  }
}
