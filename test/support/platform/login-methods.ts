import { verify as verifySignature, type KeyObject } from 'node:crypto'
import { type LoginRequest, LoginRefusal, type Verify } from './login-server.ts'

/** Whose JWTs the identity of the tests accepts. */
export interface JwtRules {
  readonly publicKey: KeyObject
  readonly issuer: string
  readonly subject: string
  readonly audience: string
}

/** `oidc-auth`: 401 for what cannot be verified, 403 for a subject or audience that is not allowed. */
export function oidcLogin(rules: JwtRules): Verify {
  return (login) => {
    const claims = verified(login, rules.publicKey)
    if (claims['iss'] !== rules.issuer) throw unauthorized('Access denied: OIDC issuer not allowed.')
    if (claims['sub'] !== rules.subject) throw forbidden('Access denied: OIDC subject not allowed.')
    if (claims['aud'] !== rules.audience) throw forbidden('Access denied: OIDC audience not allowed.')
  }
}

/** `jwt-auth`: 401 for a bad signature or a past expiry, 403 for issuer, subject or audience. */
export function jwtLogin(rules: JwtRules): Verify {
  return (login) => {
    const claims = verified(login, rules.publicKey)
    if (claims['iss'] !== rules.issuer) throw forbidden('Access denied: issuer mismatch')
    if (claims['sub'] !== rules.subject) throw forbidden('Access denied: subject not allowed')
    if (claims['aud'] !== rules.audience) throw forbidden('Access denied: audience not allowed')
  }
}

/** `spiffe-auth`: 401 whatever is wrong. */
export function spiffeLogin(rules: JwtRules): Verify {
  return (login) => {
    const claims = verified(login, rules.publicKey)
    if (claims['sub'] !== rules.subject) throw unauthorized('Access denied: SPIFFE ID not allowed')
    if (claims['aud'] !== rules.audience) throw unauthorized('Access denied: audience not allowed')
  }
}

/**
 * `kubernetes-auth`: the API server reviews the token. 401 for what the review, or the identity, does not accept; 400
 * when the API server refuses the review itself.
 */
export function kubernetesLogin(rules: JwtRules, apiServer: { fails: boolean }): Verify {
  return (login) => {
    if (apiServer.fails) throw new LoginRefusal(400, 'BadRequest', 'tokenreviews is forbidden')
    const claims = verified(login, rules.publicKey)
    const audiences: readonly unknown[] = Array.isArray(claims['aud']) ? claims['aud'] : []
    if (claims['iss'] !== rules.issuer) throw unauthorized('Access denied: token review failed')
    if (!audiences.includes(rules.audience)) throw unauthorized('Access denied: token audience not allowed')
    if (claims['sub'] !== rules.subject) throw unauthorized('Access denied: service account not allowed')
  }
}

const LOCK_AFTER_FAILURES = 3
const FAILURES_WITHIN_MILLISECONDS = 30_000
const LOCK_MILLISECONDS = 300_000

/** `ldap-auth`: three failures within 30 s lock the identity for 300 s. */
export function ldapLogin(user: { readonly username: string; readonly password: string }): Verify {
  let failures: number[] = []
  let lockedUntil = -Infinity
  return ({ body, at }) => {
    if (typeof body['username'] !== 'string' || typeof body['password'] !== 'string')
      throw new LoginRefusal(422, 'ValidationFailure', 'username and password: Required')
    if (at < lockedUntil)
      throw unauthorized('This identity auth method is temporarily locked, please try again later')
    if (body['username'] === user.username && body['password'] === user.password) {
      failures = []
      return
    }
    failures = [...failures.filter((one) => at - one < FAILURES_WITHIN_MILLISECONDS), at]
    if (failures.length >= LOCK_AFTER_FAILURES) {
      lockedUntil = at + LOCK_MILLISECONDS
      failures = []
    }
    throw unauthorized('Invalid credentials')
  }
}

/** `tls-cert-auth`: the certificate comes in a header that whatever ends TLS has set. */
export function tlsCertLogin(commonName: string): Verify {
  return ({ clientName }) => {
    if (clientName === null) throw new LoginRefusal(400, 'BadRequest', 'Missing TLS certificate in header')
    if (clientName !== commonName) throw unauthorized('Access denied: common name not allowed')
  }
}

/** The claims of a JWT that is signed by this key, by the algorithm of its kind, and valid now. */
function verified({ body, at }: LoginRequest, publicKey: KeyObject): Readonly<Record<string, unknown>> {
  const { jwt } = body
  if (typeof jwt !== 'string') throw new LoginRefusal(422, 'ValidationFailure', 'jwt: Required')
  const [header = '', payload = '', signature = '', ...more] = jwt.split('.')
  if (more.length > 0 || signature === '') throw unauthorized('Access denied: jwt malformed')
  const wanted = publicKey.asymmetricKeyType === 'rsa' ? 'RS256' : 'ES256'
  if (decode(header)['alg'] !== wanted) throw unauthorized('Access denied: invalid algorithm')
  const isSigned = verifySignature(
    'sha256',
    Buffer.from(`${header}.${payload}`),
    { key: publicKey, dsaEncoding: 'ieee-p1363' },
    Buffer.from(signature, 'base64url'),
  )
  if (!isSigned) throw unauthorized('Access denied: invalid signature')
  const claims = decode(payload)
  const seconds = at / 1000
  if (typeof claims['exp'] === 'number' && claims['exp'] <= seconds)
    throw unauthorized('Access denied: jwt expired')
  if (typeof claims['nbf'] === 'number' && claims['nbf'] > seconds)
    throw unauthorized('Access denied: jwt not active')
  return claims
}

function decode(part: string): Readonly<Record<string, unknown>> {
  return JSON.parse(Buffer.from(part, 'base64url').toString('utf8')) as Readonly<Record<string, unknown>>
}

function unauthorized(message: string): LoginRefusal {
  return new LoginRefusal(401, 'UnauthorizedError', message)
}

function forbidden(message: string): LoginRefusal {
  return new LoginRefusal(403, 'ForbiddenError', message)
}
