import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AccessTokens } from './local-issuer/access-tokens.ts'
import { makeCertificateAuthority, SIGNED_TYPES } from './local-issuer/host-ca.ts'
import { LocalIssuer, type LocalIssuerOptions } from './local-issuer/issuer.ts'
import { Registry } from './local-issuer/registry.ts'
import type { IssuerState } from './local-issuer/routes.ts'
import { makeTlsCertificate } from './local-issuer/tls-certificate.ts'

export { ERROR_ROW_NAMES, errorRow, type ErrorRowName } from './local-issuer/error-rows.ts'
export type { Fault } from './local-issuer/faults.ts'
export type { LocalIssuer, LocalIssuerOptions } from './local-issuer/issuer.ts'

/**
 * Start an issuer of one's own, on 127.0.0.1 unless told otherwise: the routes, answers and quirks of the real one, certificates signed by the
 * real ssh-keygen, and faults on demand. It knows no host and no identity yet.
 *
 * @throws when the port is taken, or ssh-keygen is missing
 */
export async function startLocalIssuer(options: LocalIssuerOptions): Promise<LocalIssuer> {
  const { folder, now = Date.now } = options
  const [hostCa, userCa] = await Promise.all([
    makeCertificateAuthority(folder, 'host-ca-1', options.caType ?? 'ed25519'),
    makeCertificateAuthority(folder, 'user-ca-1', 'ed25519'),
  ])
  const state: IssuerState = {
    now,
    registry: new Registry(now),
    tokens: new AccessTokens(now),
    issued: [],
    hostCa,
    userCa,
    signedTypes: new Set(SIGNED_TYPES),
    lockAfterFailures: options.lockAfterFailures ?? Infinity,
  }
  const tls = options.https === true ? makeTlsCertificate(options.address) : null
  const tlsCaFile = tls === null ? null : join(folder, 'tls-ca.pem')
  if (tls !== null && tlsCaFile !== null) await writeFile(tlsCaFile, tls.certificate)
  const issuer = new LocalIssuer(options, { state, tls, tlsCaFile })
  await issuer.start()
  return issuer
}
