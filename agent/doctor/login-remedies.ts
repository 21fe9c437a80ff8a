import type { CredentialSource, JwtSource, Login, LoginBy } from '../config/config.ts'
import type { IssuerFailure } from '../renewal/ports.ts'
import { projectToken } from './finding.ts'

/** What to check when a login fails. Each text completes a sentence: no capital, no full stop. */
interface LoginAdvice {
  /** On this host, when the issuer refuses the proof. */
  readonly onHost: string
  /** At the issuer, in the same case; begins with "check". Null: nothing but the identity itself. */
  readonly atIssuer: string | null
  /** When this host has no proof, so that the issuer was not asked. Null: the message has it all. */
  readonly noProof: string | null
  /** When the issuer reports that the platform refused the proof. Null: it asks no platform. */
  readonly platform: string | null
  /** The issuer locks this login after some failures. */
  readonly canLock: boolean
}

type AdviceTable = { readonly [M in Login['method']]: (auth: LoginBy<M>) => LoginAdvice }

const RELOAD = 'then `systemctl reload hostcertd`'
const CLOCK = 'check the clock with `timedatectl`: the platform refuses signatures that are minutes old'

const ADVICE: AdviceTable = {
  'universal-auth': ({ clientId, clientSecretFile }) => ({
    onHost: `check ${nameOf('client_id', clientId)}, create a new client secret for that identity, and write it to ${clientSecretFile}; ${RELOAD}`,
    atIssuer: null,
    noProof: null,
    platform: null,
    canLock: true,
  }),
  token: ({ tokenFile }) => ({
    onHost: `write a new access token of the identity to ${tokenFile}; access tokens expire`,
    atIssuer: null,
    noProof: null,
    platform: null,
    canLock: false,
  }),
  kubernetes: ({ tokenFile }) => ({
    onHost: `check that ${tokenFile} is a projected service account token that has not expired, with the audience that the issuer expects`,
    atIssuer:
      'check the allowed namespaces, service account names and audience, and that the token reviewer may create TokenReviews (system:auth-delegator)',
    noProof: projectToken(tokenFile),
    platform:
      'check that the issuer can reach the API server of the cluster at the address that the identity has, and trusts its certificate',
    canLock: false,
  }),
  aws: ({ keys }) => ({
    onHost:
      keys === null
        ? 'check with `aws sts get-caller-identity` which role this instance or task has'
        : `check the keys in ${keys.accessKeyIdFile} and ${keys.secretAccessKeyFile}`,
    atIssuer: 'check the allowed account ids and principal ARNs, and the STS endpoint',
    noProof:
      keys === null
        ? 'attach a role to the instance or task, and check that its metadata service is on (IMDSv2; in a container with a hop limit of 2)'
        : null,
    platform:
      keys === null
        ? CLOCK
        : `check that the keys in ${keys.accessKeyIdFile} are active, and write the session token too if they are temporary; ${CLOCK}`,
    canLock: false,
  }),
  gcp: ({ keyFile }) => ({
    onHost:
      keyFile === null
        ? 'check which service account this instance has'
        : `check that the key in ${keyFile} has not been deleted, and the clock with \`timedatectl\``,
    atIssuer: `check that the type is ${keyFile === null ? 'gce' : 'iam'}, and the allowed service accounts${keyFile === null ? ', projects and zones' : ''}`,
    noProof:
      keyFile === null
        ? 'attach a service account to the instance, and check that the metadata service answers: `curl -H "Metadata-Flavor: Google" http://metadata.google.internal/`'
        : null,
    platform:
      keyFile === null
        ? 'check at the issuer that the type of the login is gce; on this host, check the clock with `timedatectl`'
        : `check that the service account of ${keyFile} still exists, and that the issuer can reach www.googleapis.com`,
    canLock: false,
  }),
  azure: ({ resource, clientId }) => ({
    onHost: `check which managed identity this machine has${clientId === null ? '' : ` (auth.client_id ${clientId})`}, auth.resource (${resource}), and the clock with \`timedatectl\``,
    atIssuer: `check the tenant id, that the audience is ${resource}, and the allowed service principals: the object id of the managed identity`,
    noProof: `${
      clientId === null
        ? 'enable the system-assigned managed identity of this machine, or set auth.client_id to a user-assigned one'
        : `assign the managed identity ${clientId} to this machine`
    }; if nothing answers, check that no firewall blocks 169.254.169.254`,
    platform: 'check the tenant id of the identity, and that the issuer can reach login.microsoftonline.com',
    canLock: false,
  }),
  oidc: ({ jwt }) => ({
    onHost: `check the claims of the JWT ${originOf(jwt)}, and that it has not expired`,
    atIssuer: 'check the discovery URL, and the bound issuer, subject, audiences and claims',
    noProof: supplyOf(jwt, 'JWT'),
    platform: null,
    canLock: false,
  }),
  spiffe: ({ jwt }) => ({
    onHost: `check the SPIFFE ID and the audience of the JWT-SVID ${originOf(jwt)}, and that it has not expired`,
    atIssuer: 'check the trust domain, its trust bundle, and the allowed SPIFFE IDs and audiences',
    noProof: supplyOf(jwt, 'JWT-SVID'),
    platform: null,
    canLock: false,
  }),
  jwt: ({ jwt }) =>
    'keyFile' in jwt
      ? {
          onHost: `check auth.issuer (${jwt.issuer}), auth.subject (${jwt.subject}), auth.audience (${jwt.audience}), and the clock with \`timedatectl\``,
          atIssuer: `check that the public half of ${jwt.keyFile} is one of the static keys, and the bound issuer, subject and audiences`,
          noProof: null,
          platform: null,
          canLock: false,
        }
      : {
          onHost: `check the claims of the JWT ${originOf(jwt)}, and that it has not expired`,
          atIssuer: 'check the keys (static or JWKS), and the bound issuer, subject, audiences and claims',
          noProof: supplyOf(jwt, 'JWT'),
          platform:
            'check that the JWKS of the identity has the key that the header of the JWT names (kid), and that the issuer can reach it',
          canLock: false,
        },
  ldap: ({ username, passwordFile }) => ({
    onHost: `check ${nameOf('username', username)}, and write the password of that user to ${passwordFile}; ${RELOAD}`,
    atIssuer: 'check the search filter and the allowed fields, and that the issuer can reach the directory',
    noProof: null,
    platform: null,
    canLock: true,
  }),
  'tls-cert': ({ certificateFile, keyFile, loginUrl }) => ({
    onHost: `check with \`openssl x509 -in ${certificateFile} -noout -subject -issuer -dates\` that the certificate has not expired and belongs to ${keyFile}, and that auth.login_url (${loginUrl}) asks for client certificates`,
    atIssuer:
      'check that the CA certificate is the one that signed the certificate itself (the intermediate if there is one), and the allowed common names, without spaces between them',
    noProof: `replace the certificate in ${certificateFile} and its key in ${keyFile} if it has expired; check the clock with \`timedatectl\``,
    platform: null,
    canLock: false,
  }),
  oci: ({ user, fingerprint, keyFile }) => ({
    onHost: `check that ${user} still has the API key ${fingerprint}, and that ${keyFile} is its private half`,
    atIssuer: 'check the tenancy and the allowed user names',
    noProof: null,
    platform: `check that ${user} still has the API key ${fingerprint}, that ${keyFile} is its private half, and auth.tenancy and auth.region; ${CLOCK}`,
    canLock: false,
  }),
  alicloud: ({ accessKeyId, accessKeySecretFile }) => ({
    onHost: `check ${nameOf('access_key_id', accessKeyId)} and the secret in ${accessKeySecretFile}`,
    atIssuer: 'check the allowed ARNs',
    noProof: null,
    platform: `check that ${nameOf('access_key_id', accessKeyId)} is active, and the secret in ${accessKeySecretFile}; ${CLOCK}`,
    canLock: false,
  }),
}

/**
 * What to do about a login that failed, or a token that was refused.
 *
 * @param auth with the paths that an administrator knows
 * @returns null for a failure that the method has no part in
 */
export function loginRemedy(
  auth: Login,
  { code, next }: Pick<IssuerFailure, 'code' | 'next'>,
): string | null {
  const advice = adviceOf(auth.method, auth)
  if (code === 'ISSUER_UNAUTHORIZED')
    return `${credentialRemedy(auth)}${advice.canLock ? '. A locked identity is unlocked after 5 minutes' : ''}`
  if (code === 'ISSUER_FORBIDDEN') return forbidden(advice)
  if (code === 'LOGIN_LOCKED')
    return `wait 5 minutes: the issuer locks an identity for that long after wrong secrets. If it still refuses the secret then, ${credentialRemedy(auth)}`
  if (code !== 'LOGIN_PLATFORM') return null
  return (next === 'local' ? advice.noProof : advice.platform) ?? 'fix what the message says'
}

/** On this host first: most proofs are refused for what is there. */
function credentialRemedy(auth: Login): string {
  const { onHost, atIssuer } = adviceOf(auth.method, auth)
  const organization =
    'organization' in auth && auth.organization !== null
      ? `, and that auth.organization (${auth.organization}) is the slug of an organization that it belongs to`
      : ''
  if (atIssuer === null || !('identityId' in auth)) return `${onHost}${organization}`
  return `${onHost}. At the issuer, check that ${nameOf('identity_id', auth.identityId)} exists and has a login of this kind${organization}, and ${atIssuer}`
}

/** No permission is needed to log in: what is forbidden is the address, or what the proof says. */
function forbidden({ atIssuer }: LoginAdvice): string {
  const address = "allow the identity to log in from this host's address"
  if (atIssuer === null) return `at the issuer, ${address}`
  return `at the issuer, ${atIssuer}: the proof must satisfy each of them. If the message is about the address, ${address}`
}

function adviceOf<M extends Login['method']>(method: M, auth: LoginBy<M>): LoginAdvice {
  return ADVICE[method](auth)
}

/** `auth.client_id (41ea…)`, or the file that it is in. */
function nameOf(setting: string, source: CredentialSource): string {
  return 'value' in source ? `auth.${setting} (${source.value})` : source.file
}

function originOf(source: JwtSource): string {
  return 'file' in source ? `in ${source.file}` : `that ${source.command[0] ?? ''} prints`
}

function supplyOf(source: JwtSource, what: string): string {
  if ('file' in source)
    return `check that ${source.file} holds one ${what}, and that what writes it still runs`
  const user = 'run it as the user hostcertd-exchange'
  return `check auth.jwt_command: ${user}; it must print one ${what} and end with status 0`
}
