import { parseCertificate } from '../../agent/cert/host-certificate.ts'
import type { CertificateRequirements } from '../../agent/cert/verify-issued.ts'
import { signCertificate, type SignOptions } from '../support/ssh-keygen.ts'
import { blobOf, lineOf } from './craft.ts'
import { makeKeyRing, type KeyRing } from './key-ring.ts'

/** 2026-11-23T13:00:00Z; certificates are signed with absolute times, so nothing depends on the clock. */
export const NOW = 1_795_438_800
export const NAME = 'web1.example.com'

/** A validity as `ssh-keygen -V` takes it, in seconds from {@link NOW}. */
export function span(after: number, before: number | 'forever'): string {
  const hex = (offset: number): string => `0x${(NOW + offset).toString(16)}`
  return `${hex(after)}:${before === 'forever' ? before : hex(before)}`
}

/** An issuer whose certificates are good, but for what is wished otherwise. */
export interface Issuance {
  readonly ring: KeyRing
  issue(wish?: Partial<SignOptions>): Promise<string>
  requirements(changed?: Partial<CertificateRequirements>): CertificateRequirements
}

export async function makeIssuance(): Promise<Issuance> {
  const ring = await makeKeyRing()
  return {
    ring,
    issue: (wish = {}) =>
      signCertificate({
        ca: ring.ca.ed25519.path,
        publicKey: ring.host.ed25519.line,
        principals: [NAME],
        validity: span(-59, 3600),
        serial: 41n,
        ...wish,
      }),
    requirements: (changed = {}) => ({
      hostKey: ring.host.ed25519.key,
      trustedCas: [ring.ca.ed25519.key],
      wantedPrincipals: [NAME],
      ...changed,
    }),
  }
}

/** One bit changed, at an offset from the start or, negative, from the end of the bytes. */
export function flipped(line: string, offset: number): string {
  const blob = blobOf(line)
  const at = offset < 0 ? blob.length + offset : offset
  blob[at] = (blob[at] ?? 0) ^ 1
  return lineOf(blob)
}

/** The certificate with the key of another CA of the same size put where its own was. */
export function withCa(line: string, ca: Buffer): string {
  const blob = blobOf(line)
  const own = parseCertificate(line).ca.blob
  ca.copy(blob, blob.lastIndexOf(own))
  return lineOf(blob)
}
