import { AgentError } from '../../agent/cert/errors.ts'
import { parsePublicKeyLine, readPublicKey, type PublicKey } from '../../agent/cert/public-key.ts'
import type { VerifiedCertificate } from '../../agent/cert/verify-issued.ts'
import type {
  Copied,
  Host,
  RenewalSettings,
  AttemptRecords,
  CertificateStore,
  HostKeyFile,
  HostKeys,
  Metrics,
  PassLock,
  StoredCertificate,
} from '../../agent/renewal/ports.ts'
import { EMPTY_RECORD, type AttemptRecord } from '../../agent/renewal/record.ts'
import { craftEcdsaKey, craftKey, type CraftedKey } from '../cert/craft.ts'
import { FakeIssuer } from './fake-issuer.ts'
import { FakeSshd } from './fake-sshd.ts'
import { ManualClock } from './manual-clock.ts'
import { RecordingLog } from './recording-log.ts'

export const START = Date.UTC(2026, 10, 23, 12) / 1000
export const DAY = 86_400

/** When a certificate of 30 days from {@link START} has fallen due, whatever its jitter: it does between 20.1 and 25.05. */
export const DUE = START + 26 * DAY
/** And when it is overdue: from 26.7 days on. */
export const OVERDUE = START + 28 * DAY

const KEY_FOLDER = '/etc/ssh'

/** A whole host in memory. Its parts are open, for a test to break. */
export class FakeHost implements Host {
  readonly clock = new ManualClock(START)
  readonly log = new RecordingLog()
  /** Public key lines by host key name. */
  readonly keys = new Map<string, string>()
  /** Certificate files by host key name. */
  readonly files = new Map<string, string>()
  readonly issuer: FakeIssuer
  readonly sshd: FakeSshd
  readonly served: FakeSshd
  settings: RenewalSettings = {
    policy: { window: { kind: 'share', ratio: 0.33 }, jitterRatio: 0.5 },
    wantedPrincipals: null,
    reload: 'auto',
    maintenance: { contains: () => true },
    onCopy: 'warn',
  }
  pinned: readonly PublicKey[] | null = null
  record: AttemptRecord = EMPTY_RECORD
  saves = 0
  /** How often a certificate's file was read. */
  certificatesRead = 0
  saveFails = false
  /** Of all host keys. */
  pairVersion = 'as made'
  /** Swaps fail with this; `after`: they are done, and reported failed all the same. */
  swapFault: { readonly when: 'before' | 'after' } | null = null
  readonly results: string[] = []

  readonly hostKeys: HostKeys = {
    list: async () => [...this.keys.keys()].toSorted().map((name) => this.#keyFile(name)),
    read: async (path) => {
      const name = path.slice(KEY_FOLDER.length + 1, -'.pub'.length)
      return this.keys.has(name) ? this.#keyFile(name) : null
    },
  }

  readonly store: CertificateStore = {
    pathOf: (name) => `/var/lib/hostcertd/certs/${name}-cert.pub`,
    read: async (name): Promise<StoredCertificate> => {
      this.certificatesRead += 1
      const text = this.files.get(name)
      return text === undefined ? { kind: 'absent' } : { kind: 'text', text }
    },
    swap: async (name: string, { line }: VerifiedCertificate) => {
      const failure = new AgentError(
        'STORE_FAILED',
        `cannot write the certificate of ${name}: no space left on device`,
      )
      if (this.swapFault?.when === 'before') throw failure
      this.files.set(name, `${line}\n`)
      if (this.swapFault?.when === 'after') throw failure
    },
  }

  readonly records: AttemptRecords = {
    load: async () => this.record,
    save: async (record) => {
      if (this.saveFails) throw new AgentError('STORE_FAILED', 'no space left on device')
      this.record = record
      this.saves += 1
    },
  }

  lockFailure: AgentError | null = null
  readonly lock: PassLock = {
    acquire: async () => {
      if (this.lockFailure !== null) throw this.lockFailure
      return async () => {}
    },
  }

  pinFailure: AgentError | null = null
  readonly pinnedCas = {
    read: async () => {
      if (this.pinFailure !== null) throw this.pinFailure
      return this.pinned
    },
  }

  copied: Copied = null
  readonly machine = { copied: async () => this.copied }

  readonly metrics: Metrics = {
    renewal: (hostKey, result) => void this.results.push(`${hostKey} ${result}`),
    reload: (result) => void this.results.push(`reload ${result}`),
    issuerRequest: () => {},
    loginFailed: () => {},
    turn: () => {},
    status: () => {},
  }

  constructor(ttlSeconds = 30 * DAY, names: readonly string[] = ['ssh_host_ed25519_key']) {
    this.issuer = new FakeIssuer(this.clock, ttlSeconds)
    this.sshd = new FakeSshd({ read: () => this.#onDisk() })
    this.served = this.sshd
    for (const name of names) this.rotate(name)
  }

  /** A new key pair under an old or new name; a name that says `ecdsa` or `ecdsa384` has such a key. */
  rotate(name: string): void {
    this.keys.set(name, `${craftKeyFor(name).line} root@fake`)
  }

  keyOf(name: string): PublicKey {
    return readPublicKey(parsePublicKeyLine(this.keys.get(name) ?? ''))
  }

  #onDisk(): Map<string, { key: string; certificate: string | null }> {
    return new Map(
      [...this.keys].map(([name, key]) => [name, { key, certificate: this.files.get(name) ?? null }]),
    )
  }

  #keyFile(name: string): HostKeyFile {
    const path = `${KEY_FOLDER}/${name}.pub`
    try {
      const line = parsePublicKeyLine(this.keys.get(name) ?? '')
      return {
        name,
        path,
        content: {
          kind: 'key',
          key: readPublicKey(line),
          comment: line.comment,
          pairVersion: this.pairVersion,
        },
      }
    } catch (error) {
      if (!(error instanceof AgentError)) throw error
      const failure = { code: error.code, message: error.message }
      return { name, path, content: { kind: 'unreadable', failure } }
    }
  }
}

function craftKeyFor(name: string): CraftedKey {
  if (name.includes('ecdsa384')) return craftEcdsaKey(384)
  return name.includes('ecdsa') ? craftEcdsaKey(256) : craftKey()
}
