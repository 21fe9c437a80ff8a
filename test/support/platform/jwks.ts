import {
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
  type webcrypto,
} from 'node:crypto'

/** The algorithms that the issuer accepts (RFC 7518). */
export type Algorithm = 'RS256' | 'ES256'

/** A public key as a JWKS publishes it (RFC 7517); one that is configured by hand has no `kid`. */
export type PublishedKey = webcrypto.JsonWebKey & { readonly alg: Algorithm; readonly kid?: string }

/** Whoever signs JWTs. */
export interface JwtSigner {
  readonly published: PublishedKey
  readonly privateKey: KeyObject
  sign(claims: object): string
}

/** @param kid null: a key that is configured by hand */
export function makeJwtSigner(alg: Algorithm, kid: string | null): JwtSigner {
  const { publicKey, privateKey } =
    alg === 'RS256'
      ? generateKeyPairSync('rsa', { modulusLength: 2048 })
      : generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return signerOf(alg, kid, publicKey, privateKey)
}

function signerOf(
  alg: Algorithm,
  kid: string | null,
  publicKey: KeyObject,
  privateKey: KeyObject,
): JwtSigner {
  const named = kid === null ? {} : { kid }
  return {
    published: { ...publicKey.export({ format: 'jwk' }), alg, ...named },
    privateKey,
    sign(claims) {
      const content = [{ alg, typ: 'JWT', ...named }, claims].map(encode).join('.')
      const signature = sign('sha256', Buffer.from(content), { key: privateKey, dsaEncoding: 'ieee-p1363' })
      return `${content}.${signature.toString('base64url')}`
    },
  }
}

/**
 * The claims of a JWT that one of these keys has signed and that is valid now (RFC 7515, RFC 7519).
 *
 * @param keys by the `kid` of the JWT; for a JWT without one, those without one
 * @param now seconds since the epoch
 * @throws Error whose message says why it is not accepted
 */
export function verifiedClaims(
  jwt: string,
  keys: readonly PublishedKey[],
  now: number,
): Readonly<Record<string, unknown>> {
  const [head = '', payload = '', signature = '', ...more] = jwt.split('.')
  if (more.length > 0 || signature === '') throw new Error('jwt malformed')
  const { alg, kid } = decode(head)
  if (alg !== 'RS256' && alg !== 'ES256') throw new Error('invalid algorithm')
  const candidates = keys.filter((key) => key.kid === kid)
  if (candidates.length === 0) throw new Error('no such key')
  const fitting = candidates.filter((key) => key.alg === alg)
  if (fitting.length === 0) throw new Error('a key of another algorithm')
  const content = Buffer.from(`${head}.${payload}`)
  const isSigned = fitting.some((key) =>
    verify(
      'sha256',
      content,
      { key: createPublicKey({ key, format: 'jwk' }), dsaEncoding: 'ieee-p1363' },
      Buffer.from(signature, 'base64url'),
    ),
  )
  if (!isSigned) throw new Error('invalid signature')
  const claims = decode(payload)
  const { exp, nbf } = claims
  if (typeof exp !== 'number' || exp <= now) throw new Error('jwt expired')
  if (nbf !== undefined && (typeof nbf !== 'number' || nbf > now)) throw new Error('jwt not active')
  return claims
}

/** One part of a JWT. */
export function encode(part: object): string {
  return Buffer.from(JSON.stringify(part)).toString('base64url')
}

function decode(part: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
    return Object(value) as Readonly<Record<string, unknown>>
  } catch {
    throw new Error('jwt malformed')
  }
}
