import { parsePublicKeyLine, readPublicKey } from '../../agent/cert/public-key.ts'
import type { UnixSeconds } from '../../agent/cert/time.ts'
import type {
  Clock,
  HostCaAnswer,
  IssueAnswer,
  IssueRequest,
  Issuer,
  IssuerFailure,
  IssuerHealth,
} from '../../agent/renewal/ports.ts'
import {
  certificateFields,
  craftCertificate,
  craftKey,
  sshString,
  stringList,
  uint64,
  type CertificateFields,
  type CraftedKey,
} from '../cert/craft.ts'

/** Signs with a CA of its own, by the issuer's validity rule, or fails as it is told. */
export class FakeIssuer implements Issuer {
  ca = craftKey()
  ttlSeconds: number
  /** The next calls fail with these; the last stays when {@link failsForGood}. */
  readonly failures: IssuerFailure[] = []
  failsForGood = false
  /** Null: the issuer has no such route. */
  namesCa = true
  /** Before each answer. */
  onIssue: (signal: AbortSignal) => void | Promise<void> = () => {}
  onHostCa: (signal: AbortSignal) => void | Promise<void> = () => {}
  spoil: (fields: CertificateFields) => Partial<CertificateFields> = () => ({})
  readonly issuedAt: UnixSeconds[] = []
  readonly lines: string[] = []
  caQuestions = 0
  #serial = 1000n
  readonly #clock: Clock

  constructor(clock: Clock, ttlSeconds: number) {
    this.#clock = clock
    this.ttlSeconds = ttlSeconds
  }

  async issue({ publicKey }: IssueRequest, signal: AbortSignal): Promise<IssueAnswer> {
    await this.onIssue(signal)
    signal.throwIfAborted()
    const failure = this.failsForGood ? this.failures[0] : this.failures.shift()
    this.issuedAt.push(this.#clock.now())
    if (failure !== undefined) return { ok: false, failure }
    this.#serial += 1n
    const { blob } = parsePublicKeyLine(publicKey)
    const now = this.#clock.now()
    const key: CraftedKey = { ...this.ca, blob }
    const usual = {
      serial: uint64(this.#serial),
      keyId: sshString('host-fake'),
      principals: stringList(['web1.example.com']),
      validAfter: uint64(BigInt(Math.floor((now - 59) / 60) * 60)),
      validBefore: uint64(BigInt(Math.floor(now + this.ttlSeconds))),
    }
    const changed = { ...usual, ...this.spoil(certificateFields(key, this.ca)) }
    const signedKey = craftCertificate(key, this.ca, changed)
    this.lines.push(signedKey)
    const requestId = `req-${this.#serial}`
    return { ok: true, signedKey, serialNumber: String(changed.serial.readBigUInt64BE()), requestId }
  }

  async hostCa(signal: AbortSignal): Promise<HostCaAnswer> {
    this.caQuestions += 1
    await this.onHostCa(signal)
    signal.throwIfAborted()
    const noSuchRoute = !this.namesCa
    if (noSuchRoute)
      return { ok: false, noSuchRoute, failure: failureOf('ISSUER_NOT_FOUND', 'administrator') }
    const down = this.failsForGood ? this.failures[0] : undefined
    if (down !== undefined) return { ok: false, noSuchRoute: false, failure: down }
    return { ok: true, keys: [readPublicKey(parsePublicKeyLine(this.ca.line))] }
  }

  /** Nothing is kept between questions. */
  end(): void {}

  health(): IssuerHealth {
    return { reachable: true, lastSuccess: null, clockSkewSeconds: null }
  }
}

export function failureOf(
  code: IssuerFailure['code'],
  next: IssuerFailure['next'],
  retryAfterSeconds: number | null = null,
): IssuerFailure {
  return { code, next, retryAfterSeconds, message: `made to fail: ${code}`, requestId: 'req-failed' }
}
