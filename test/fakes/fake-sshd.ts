import type { Failure } from '../../agent/core/errors.ts'
import { parseCertificate } from '../../agent/core/host-certificate.ts'
import { parsePublicKeyLine } from '../../agent/core/public-key.ts'
import type {
  ServedCertificates,
  ServedObservation,
  ServedOffer,
  ServedQuestion,
  Sshd,
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
  readsPerConnection = true
  /** False: somebody took the `HostCertificate` lines away. */
  hasCertificateLines = true
  /** Names of host keys that its configuration does not name. */
  readonly notConfigured = new Set<string>()
  reloadFailure: Failure | null = null
  reloads = 0
  questions = 0
  /** With the helper: what was copied. Null: sshd reads the store itself. */
  needsInstall = false
  installs = 0
  installFailure: Failure | null = null
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

  async observe({ keyTypes, bareKeys }: ServedQuestion): Promise<ServedObservation> {
    this.questions += 1
    if (this.isDown) return { kind: 'no-banner', detail: 'connection refused' }
    if (this.readsPerConnection) this.load()
    return {
      kind: 'answered',
      offers: new Map(keyTypes.map((type) => [type, this.#answerFor(type, bareKeys)])),
    }
  }

  async reload(): Promise<SshdOutcome> {
    this.reloads += 1
    if (this.isDown)
      return { ok: false, failure: { code: 'SSHD_RELOAD_FAILED', message: 'sshd is not running' } }
    if (this.reloadFailure !== null) return { ok: false, failure: this.reloadFailure }
    this.load()
    return { ok: true, listen: [], remark: null, reloadNeeded: false }
  }

  async installNeeded(): Promise<boolean> {
    return this.needsInstall
  }

  async install(): Promise<SshdOutcome> {
    this.installs += 1
    if (this.installFailure !== null) return { ok: false, failure: this.installFailure }
    this.needsInstall = false
    return { ok: true, listen: [], remark: null, reloadNeeded: false }
  }

  #answerFor(type: string, bareKeys: boolean): ServedOffer | null {
    const offer = this.#offerOf(type)
    return offer?.kind === 'certificate' || bareKeys ? offer : { kind: 'no-certificate' }
  }

  #offerOf(type: string): ServedOffer | null {
    for (const [name, { key, certificate }] of this.#loaded) {
      const { blob, type: keyType } = parsePublicKeyLine(key)
      if (keyType !== type || this.notConfigured.has(name)) continue
      const parsed = certificate === null || !this.hasCertificateLines ? null : parseCertificate(certificate)
      // sshd leaves out a certificate that is not for the key.
      if (parsed?.publicKey.blob.equals(blob) !== true) return { kind: 'key', blob }
      return { kind: 'certificate', certificate: parsed }
    }
    return null
  }
}
