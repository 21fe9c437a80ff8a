import { alicloudRefusal, type AlicloudAccessKey } from './alicloud.ts'
import { type PublishedKey, verifiedClaims } from './jwks.ts'
import { LoginRefusal, type Verify } from './login-server.ts'
import { type OciApiKey, ociRefusal } from './oci.ts'

/** Whose JWTs the identity of the tests accepts. */
export interface JwtRules {
  /** Of the issuer of the JWTs; they may change. */
  readonly keys: () => readonly PublishedKey[]
  readonly issuer: string
  readonly subject: string
  readonly audience: string
}

/** How the issuer answers when a JWT is not what the rules ask for. */
interface JwtRefusals {
  readonly unverified: (message: string) => LoginRefusal
  readonly issuer: (message: string) => LoginRefusal
  readonly subject: (message: string) => LoginRefusal
  readonly audience: (message: string) => LoginRefusal
}

function jwtVerifier(rules: JwtRules, refusals: JwtRefusals): Verify {
  return ({ body, at }) => {
    const { jwt } = body
    if (typeof jwt !== 'string') throw new LoginRefusal(422, 'ValidationFailure', 'jwt: Required')
    let claims: ReturnType<typeof verifiedClaims>
    try {
      claims = verifiedClaims(jwt, rules.keys(), at / 1000)
    } catch (error) {
      throw refusals.unverified(`Access denied: ${error instanceof Error ? error.message : ''}`)
    }
    if (claims['iss'] !== rules.issuer) throw refusals.issuer('Access denied: issuer not allowed.')
    if (claims['sub'] !== rules.subject) throw refusals.subject('Access denied: subject not allowed.')
    if (![claims['aud']].flat().includes(rules.audience))
      throw refusals.audience('Access denied: audience not allowed.')
  }
}

/** `oidc-auth`: 401 for what cannot be verified, 403 for a subject or audience that is not allowed. */
export function oidcLogin(rules: JwtRules): Verify {
  const refusals = { unverified: unauthorized, issuer: unauthorized, subject: forbidden, audience: forbidden }
  return jwtVerifier(rules, refusals)
}

/** `jwt-auth`: 401 for a bad signature or a past expiry, 403 for issuer, subject or audience. */
export function jwtLogin(rules: JwtRules): Verify {
  const refusals = { unverified: unauthorized, issuer: forbidden, subject: forbidden, audience: forbidden }
  return jwtVerifier(rules, refusals)
}

/** `spiffe-auth`: 401 whatever is wrong. */
export function spiffeLogin(rules: JwtRules): Verify {
  return jwtVerifier(rules, always(unauthorized))
}

/**
 * `kubernetes-auth`: the API server reviews the token. 401 for what the review, or the identity, does not accept, and when
 * the reviewer may not review; 400 when the issuer gets no review at all.
 */
export function kubernetesLogin(
  rules: JwtRules,
  apiServer: { fails: boolean; forbidsReviews?: boolean },
): Verify {
  const verify = jwtVerifier(rules, always(unauthorized))
  return (login) => {
    if (apiServer.fails) throw new LoginRefusal(400, 'BadRequest', 'connect ECONNREFUSED 10.0.0.1:6443')
    if (apiServer.forbidsReviews === true)
      throw unauthorized('tokenreviews.authentication.k8s.io is forbidden')
    verify(login)
  }
}

/** `gcp-auth` of a machine: Google verifies the token, and a refusal of its is a 500. */
export function gcpLogin(rules: JwtRules): Verify {
  return jwtVerifier(rules, { ...always(relayed), subject: forbidden })
}

/** `gcp-auth` with the key of a service account: what the server's JWT library refuses is a 403 TokenError. */
export function gcpKeyLogin(rules: JwtRules): Verify {
  return jwtVerifier(rules, { ...always(tokenError), subject: forbidden, audience: unauthorized })
}

/** `azure-auth`: likewise; 401 for a key that the tenant does not have, and for another service principal. */
export function azureLogin(rules: JwtRules): Verify {
  const unverified = (message: string): LoginRefusal =>
    message.endsWith('no such key') ? unauthorized('Invalid signing key') : tokenError(message)
  return jwtVerifier(rules, { ...always(tokenError), unverified, subject: unauthorized })
}

function always(refusal: (message: string) => LoginRefusal): JwtRefusals {
  return { unverified: refusal, issuer: refusal, subject: refusal, audience: refusal }
}

/** `oci-auth`: Oracle Cloud judges the signed request, and a refusal of its is a 500 that says nothing. */
export function ociLogin(key: () => OciApiKey): Verify {
  return ({ body, at }) => {
    const path = `/20160918/users/${String(body['userOcid'])}`
    const request = { method: 'get', path, headers: textsIn(body['headers']) }
    const reason = ociRefusal(request, key(), at / 1000)
    if (reason !== null) throw relayed(reason)
  }
}

/** `alicloud-auth`: as {@link ociLogin}, by Alibaba Cloud. */
export function alicloudLogin(key: () => AlicloudAccessKey): Verify {
  return ({ body, at }) => {
    const { identityId: _, organizationSlug: __, ...parameters } = body
    const reason = alicloudRefusal(textsIn(parameters), key(), at / 1000)
    if (reason !== null) throw relayed(reason)
  }
}

function textsIn(value: unknown): Readonly<Record<string, string>> {
  const entries = Object.entries(Object(value) as Readonly<Record<string, unknown>>)
  if (entries.every(([, one]) => typeof one === 'string'))
    return Object.fromEntries(entries) as Record<string, string>
  throw new LoginRefusal(422, 'ValidationFailure', 'Expected string')
}

const LOCK_AFTER_FAILURES = 3
const FAILURES_WITHIN_MILLISECONDS = 30_000
const LOCK_MILLISECONDS = 300_000

/** `universal-auth`: 404 for a client id that there is not, 401 for another secret. */
export function universalAuthLogin(client: () => { readonly id: string; readonly secret: string }): Verify {
  return ({ body }) => {
    const { id, secret } = client()
    if (body['clientId'] !== id)
      throw new LoginRefusal(404, 'NotFound', 'No identity with specified client ID was found')
    if (body['clientSecret'] !== secret) throw unauthorized('Invalid credentials')
  }
}

/** `ldap-auth`: three failures within 30 s lock the identity for 300 s. */
export function ldapLogin(user: () => { readonly username: string; readonly password: string }): Verify {
  let failures: number[] = []
  let lockedUntil = -Infinity
  return ({ body, at }) => {
    if (typeof body['username'] !== 'string' || typeof body['password'] !== 'string')
      throw new LoginRefusal(422, 'ValidationFailure', 'username and password: Required')
    if (at < lockedUntil)
      throw unauthorized('This identity auth method is temporarily locked, please try again later')
    const { username, password } = user()
    if (body['username'] === username && body['password'] === password) {
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
export function tlsCertLogin(commonName: () => string): Verify {
  return ({ clientName }) => {
    if (clientName === null) throw new LoginRefusal(400, 'BadRequest', 'Missing TLS certificate in header')
    if (clientName !== commonName()) throw unauthorized('Access denied: common name not allowed')
  }
}

/** What the platform refused; the issuer does not say why. */
function relayed(reason: string): LoginRefusal {
  return new LoginRefusal(500, 'InternalServerError', 'Something went wrong', reason)
}

function unauthorized(message: string): LoginRefusal {
  return new LoginRefusal(401, 'UnauthorizedError', message)
}

function tokenError(message: string): LoginRefusal {
  return new LoginRefusal(403, 'TokenError', message)
}

function forbidden(message: string): LoginRefusal {
  return new LoginRefusal(403, 'ForbiddenError', message)
}
