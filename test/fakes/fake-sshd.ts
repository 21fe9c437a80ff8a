import type { Failure } from '../../agent/cert/errors.ts'
import { parseCertificate } from '../../agent/cert/host-certificate.ts'
import { parsePublicKeyLine, type PublicKey } from '../../agent/cert/public-key.ts'
import type { Presented } from '../../agent/renewal/ports.ts'
import type {
  ServedCertificates,
  ServedQuestion,
  Sshd,
  SshdAnswer,
  SshdOutcome,
} from '../../agent/renewal/ports.ts'

/** What sshd would read from disk. */
export interface SshdFiles {
  /** Lines of public keys and certificates by host key name. */
  read(): ReadonlyMap<string, { readonly key: string; readonly certificate: string | null }>
}

/** An sshd that reads its files at each connection (OpenSSH up to 9.7), or at a reload only (since 9.8). */
export class FakeSshd implements Sshd, ServedCertificates {
  enabled = true
  canReload = true
  isDown = false
  /** Something listens, and what it says is not understood. */
  isSilent = false
  /** Types of which no answer comes, though sshd answers: no cipher in common, a connection that is dropped. */
  readonly unanswered = new Set<string>()
  readsPerConnection = true
  /** False: somebody took the `HostCertificate` lines away. */
  hasCertificateLines = true
  /** Presented for a type in place of what is loaded: a later `HostCertificate` line. */
  readonly presentsInstead = new Map<string, Buffer>()
  /** Names of host keys that its configuration does not name. */
  readonly notConfigured = new Set<string>()
  reloadFailure: Failure | null = null
  /** The helper's own limit: so many seconds to wait. */
  reloadBusy: number | null = null
  reloads = 0
  questions = 0
  /** Where it was asked: what the helper said. */
  readonly asked: (readonly string[])[] = []
  hasHelper = false
  /** With the helper: what was copied. */
  needsInstall = false
  installs = 0
  installFailure: Failure | null = null
  /** So many seconds to wait before it installs. */
  installBusy: number | null = null
  /** It changed sshd's configuration as well. */
  reloadNeeded = false
  /** What it was asked about: what lies in the store, and which host keys there are. */
  readonly compared: { readonly staged: ReadonlyMap<string, string>; readonly present: readonly string[] }[] =
    []
  /** What the helper says. */
  listen: readonly string[] = []
  notes: readonly string[] = []
  readonly #files: SshdFiles
  /** Public keys that sshd has at a reload in place of those on disk, for it has the private halves of these. */
  loadsInstead: ReadonlyMap<string, string> | null = null
  #loaded: ReturnType<SshdFiles['read']> = new Map()

  constructor(files: SshdFiles) {
    this.#files = files
  }

  /** As a restart by somebody else. */
  load(): void {
    const files = [...this.#files.read()]
    this.#loaded = new Map(
      files.map(([name, { key, certificate }]) => [
        name,
        { key: this.loadsInstead?.get(name) ?? key, certificate },
      ]),
    )
  }

  async ask({ keys, listen }: ServedQuestion): Promise<SshdAnswer> {
    this.questions += 1
    this.asked.push(listen)
    if (this.readsPerConnection) this.load()
    const presented = new Map(keys.map((key) => [key.fingerprint, this.#answerFor(key)]))
    return { state: this.isDown ? 'down' : this.isSilent ? 'unknown' : 'up', presented }
  }

  async reload(): Promise<SshdOutcome> {
    this.reloads += 1
    if (this.isDown)
      return { kind: 'failed', failure: { code: 'SSHD_RELOAD_FAILED', message: 'sshd is not running' } }
    if (this.reloadFailure !== null) return { kind: 'failed', failure: this.reloadFailure }
    if (this.reloadBusy !== null) return { kind: 'busy', retrySeconds: this.reloadBusy, listen: this.listen }
    this.load()
    return this.#done()
  }

  async installNeeded(staged: ReadonlyMap<string, string>, present: readonly string[]): Promise<boolean> {
    this.compared.push({ staged, present })
    return this.needsInstall
  }

  async install(): Promise<SshdOutcome> {
    this.installs += 1
    if (this.installFailure !== null) return { kind: 'failed', failure: this.installFailure }
    if (this.installBusy !== null)
      return { kind: 'busy', retrySeconds: this.installBusy, listen: this.listen }
    this.needsInstall = false
    return this.#done()
  }

  #done(): SshdOutcome {
    return { kind: 'done', listen: this.listen, notes: this.notes, reloadNeeded: this.reloadNeeded }
  }

  #answerFor({ type }: PublicKey): Presented {
    if (this.isDown) return { kind: 'unknown', reason: 'connection refused' }
    if (this.isSilent) return { kind: 'unknown', reason: 'no answer within 5 s' }
    if (this.unanswered.has(type)) return { kind: 'unknown', reason: 'no matching cipher found' }
    const instead = this.presentsInstead.get(type)
    if (instead !== undefined) return { kind: 'certificate', blob: instead }
    for (const [name, { key, certificate }] of this.#loaded) {
      const { blob, type: keyType } = parsePublicKeyLine(key)
      if (keyType !== type || this.notConfigured.has(name)) continue
      const parsed = certificate === null || !this.hasCertificateLines ? null : parseCertificate(certificate)
      // sshd leaves out a certificate that is not for the key.
      if (parsed?.publicKey.blob.equals(blob) !== true) return { kind: 'plain', blob }
      return { kind: 'certificate', blob: parsed.blob }
    }
    return { kind: 'not-offered', offer: 'rsa-sha2-512' }
  }
}
