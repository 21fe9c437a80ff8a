import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Login } from '../../agent/config/config.ts'
import { issueTlsCertificate, makeTlsCertificate } from '../support/local-issuer/tls-certificate.ts'
import { awsLogin } from '../support/platform/aws.ts'
import { makeJwtSigner } from '../support/platform/jwks.ts'
import {
  alicloudLogin,
  azureLogin,
  gcpKeyLogin,
  gcpLogin,
  jwtLogin,
  kubernetesLogin,
  ldapLogin,
  ociLogin,
  oidcLogin,
  spiffeLogin,
  tlsCertLogin,
  universalAuthLogin,
} from '../support/platform/login-methods.ts'
import type {
  LoginRequest,
  LoginServer,
  LoginServerOptions,
  Verify,
} from '../support/platform/login-server.ts'
import type { Machine, MetadataServer } from '../support/platform/metadata.ts'
import type { Setup } from './local-setup.ts'

export const IDENTITY = '7a1c2d3e-0000-4000-8000-00000000abcd'
export const RULES = { issuer: 'https://tokens.example.com', subject: 'web1', audience: 'hostcertd' }
export const AZURE_RESOURCE = 'https://management.azure.com/'

/** Where a login is tried. */
export interface Bench {
  readonly setup: Setup
  readonly platform: MetadataServer
  /** Seconds since the epoch. */
  readonly now: () => number
}

/** A method, whose proofs the test replaces: there are two of them, each of which is refused while the other is good. */
export interface LoginCase {
  /** Of the login; null when there is none. */
  readonly route: string | null
  readonly auth: (server: LoginServer) => Login
  readonly verify: Verify
  /** Put a proof in place on the host, or at its platform. */
  readonly give: (which: Which) => Promise<void>
  /** Have the issuer accept this one and no other. */
  readonly expect: (which: Which) => void
  /** What must appear nowhere, of what the host has read. @param login null: before the first */
  readonly secrets: (login: LoginRequest | null) => readonly string[]
  readonly tls?: LoginServerOptions['tls'] & object
  /** Whether the second proof differs in more than its time. */
  readonly isReplaced?: false
}

/** The first proof or the second. */
type Which = 0 | 1

/** Made once, for RSA keys take their time. */
const es256 = [makeJwtSigner('ES256', 'key-1'), makeJwtSigner('ES256', 'key-2')] as const
const rs256 = [makeJwtSigner('RS256', 'key-1'), makeJwtSigner('RS256', 'key-2')] as const
const byHand = [makeJwtSigner('ES256', null), makeJwtSigner('ES256', null)] as const

export function makeMachine(now: () => number): Machine {
  return {
    role: 'web-server',
    hasRoleKeys: true,
    keys: awsKeys(0),
    region: 'eu-central-1',
    jwt: (query) => platformJwt(query, 0, now()),
    identities: [],
    fault: null,
  }
}

function awsKeys(which: Which) {
  return {
    accessKeyId: `ASIAEXAMPLE000000000${which}`,
    secretAccessKey: `canary-secret/access+key-${which}`,
    sessionToken: `canary-session/token+of-aws-${which}==`,
  }
}

/** The key by which the platform signs the token of a machine, `which`. */
export function platformJwt(query: URLSearchParams, which: Which, now: number, change: object = {}): string {
  const audience = query.get('audience') ?? query.get('resource') ?? ''
  const { issuer: iss, subject: sub } = RULES
  return rs256[which].sign({ iss, sub, aud: audience, iat: now, exp: now + 3600, ...change })
}

export const METHODS: Readonly<Record<string, (bench: Bench) => LoginCase>> = {
  'universal-auth': ({ setup: { folder, clientId } }) => {
    const proofs = new Proofs()
    const secret = (which: Which): string => `canary-client-secret/"+${which}`
    return {
      route: 'universal-auth',
      auth: () => ({
        method: 'universal-auth',
        organization: null,
        clientId: { value: clientId },
        clientSecretFile: join(folder, 'proof'),
      }),
      verify: universalAuthLogin(() => ({ id: clientId, secret: secret(proofs.accepted) })),
      give: async (which) => writeFile(join(folder, 'proof'), `${secret((proofs.given = which))}\n`),
      expect: proofs.expect,
      secrets: () => [secret(proofs.given)],
    }
  },
  token: ({ setup: { folder, server } }) => {
    let token = ''
    return {
      route: null,
      auth: () => ({ method: 'token', tokenFile: join(folder, 'proof') }),
      verify: () => {},
      give: async () => {
        token = server.addToken()
        await writeFile(join(folder, 'proof'), `${token}\n`)
      },
      expect: (which) => {
        if (which === 1) server.revokeTokens()
      },
      secrets: () => [token],
    }
  },
  kubernetes: (bench) => {
    const tokenFile = join(bench.setup.folder, 'proof')
    const verify = (rules: Parameters<typeof kubernetesLogin>[0]) => kubernetesLogin(rules, { fails: false })
    return jwtCase(bench, 'kubernetes-auth', { ...common, method: 'kubernetes', tokenFile }, verify)
  },
  oidc: (bench) => jwtCase(bench, 'oidc-auth', { ...common, method: 'oidc', jwt: fileIn(bench) }, oidcLogin),
  jwt: (bench) => jwtCase(bench, 'jwt-auth', { ...common, method: 'jwt', jwt: fileIn(bench) }, jwtLogin),
  spiffe: (bench) =>
    jwtCase(bench, 'spiffe-auth', { ...common, method: 'spiffe', jwt: fileIn(bench) }, spiffeLogin),
  'jwt signed by the host': ({ setup: { folder } }) => {
    const proofs = new Proofs()
    const keyFile = join(folder, 'proof')
    const pem = (which: Which): string => pemOf(byHand[which].privateKey)
    return {
      route: 'jwt-auth',
      auth: () => ({ ...common, method: 'jwt', jwt: { keyFile, ...RULES } }),
      verify: jwtLogin({ ...RULES, keys: () => [byHand[proofs.accepted].published] }),
      give: async (which) => writeFile(keyFile, pem((proofs.given = which))),
      expect: proofs.expect,
      secrets: (login) => [...secretLines(pem(proofs.given)), ...jwtIn(login)],
    }
  },
  aws: ({ platform: { machine } }) => {
    const proofs = new Proofs()
    return {
      route: 'aws-auth',
      auth: () => ({ ...common, method: 'aws', region: null, keys: null }),
      verify: awsLogin(() => [awsKeys(proofs.accepted)], { allowed: true }),
      give: async (which) => void (machine.keys = awsKeys((proofs.given = which))),
      expect: proofs.expect,
      secrets: (login) => {
        const headers = Buffer.from(textIn(login, 'iamRequestHeaders').join(''), 'base64').toString()
        const { secretAccessKey, sessionToken } = awsKeys(proofs.given)
        return [secretAccessKey, sessionToken, ...(/Signature=(\w+)/.exec(headers)?.slice(1) ?? [])]
      },
    }
  },
  gcp: (bench) => machineCase(bench, 'gcp-auth', { ...common, method: 'gcp', keyFile: null }, gcpLogin),
  azure: (bench) => {
    const auth = { ...common, method: 'azure', resource: AZURE_RESOURCE, clientId: null } as const
    return machineCase(bench, 'azure-auth', auth, azureLogin)
  },
  'gcp with a key file': ({ setup: { folder } }) => {
    const proofs = new Proofs()
    const keyFile = join(folder, 'proof')
    const email = 'web1@example.iam.gserviceaccount.com'
    const pem = (which: Which): string => pemOf(rs256[which].privateKey)
    const rules = { issuer: email, subject: email, audience: IDENTITY }
    return {
      route: 'gcp-auth',
      auth: () => ({ ...common, method: 'gcp', keyFile }),
      verify: gcpKeyLogin({ ...rules, keys: () => [rs256[proofs.accepted].published] }),
      give: async (which) => {
        proofs.given = which
        const account = { client_email: email, private_key_id: `key-${which + 1}`, private_key: pem(which) }
        await writeFile(keyFile, JSON.stringify(account))
      },
      expect: proofs.expect,
      secrets: (login) => [...secretLines(pem(proofs.given)), ...jwtIn(login)],
    }
  },
  ldap: ({ setup: { folder } }) => {
    const proofs = new Proofs()
    const passwordFile = join(folder, 'proof')
    const password = (which: Which): string => `canary "password"/+${which}`
    return {
      route: 'ldap-auth',
      auth: () => ({ ...common, method: 'ldap', username: { value: 'web1' }, passwordFile }),
      verify: ldapLogin(() => ({ username: 'web1', password: password(proofs.accepted) })),
      give: async (which) => writeFile(passwordFile, `${password((proofs.given = which))}\n`),
      expect: proofs.expect,
      secrets: () => [password(proofs.given)],
    }
  },
  'tls-cert': ({ setup: { folder } }) => {
    const proofs = new Proofs()
    const [certificateFile, keyFile] = [join(folder, 'client.pem'), join(folder, 'client.key')]
    const root = issueTlsCertificate({ name: 'clients root' })
    const clients = ['web1', 'web1-renewed'].map((name) =>
      issueTlsCertificate({ name, issuer: root, isCa: false }),
    )
    return {
      route: 'tls-cert-auth',
      auth: ({ url }) => ({ ...common, method: 'tls-cert', certificateFile, keyFile, loginUrl: url }),
      verify: tlsCertLogin(() => clients[proofs.accepted]?.name ?? ''),
      give: async (which) => {
        proofs.given = which
        await writeFile(certificateFile, clients[which]?.certificate ?? '')
        await writeFile(keyFile, clients[which]?.key ?? '')
      },
      expect: proofs.expect,
      secrets: () => secretLines(clients[proofs.given]?.key ?? ''),
      tls: { ...makeTlsCertificate(), asks: true, clientCa: root.certificate },
    }
  },
  oci: ({ setup: { folder } }) => {
    const { privateKey, publicKey } = ociKey
    const keyFile = join(folder, 'proof')
    const [user, tenancy] = ['ocid1.user.oc1..aaaauser', 'ocid1.tenancy.oc1..aaaatenancy']
    const fingerprint = md5(publicKey)
    return {
      route: 'oci-auth',
      auth: () => ({
        ...common,
        method: 'oci',
        user,
        tenancy,
        fingerprint,
        region: 'eu-frankfurt-1',
        keyFile,
      }),
      verify: ociLogin(() => ({ keyId: `${tenancy}/${user}/${fingerprint}`, publicKey })),
      give: async () => writeFile(keyFile, pemOf(privateKey)),
      expect: () => {},
      secrets: (login) => {
        const { authorization = '' } = Object(login?.body['headers']) as { authorization?: string }
        const signature = /signature="([^"]+)"/.exec(authorization)?.slice(1) ?? []
        return [...secretLines(pemOf(privateKey)), ...signature]
      },
      // The configuration names the key by its fingerprint.
      isReplaced: false,
    }
  },
  alicloud: ({ setup: { folder } }) => {
    const proofs = new Proofs()
    const accessKeySecretFile = join(folder, 'proof')
    const id = 'LTAI5tExample'
    const secret = (which: Which): string => `canary-s'(e)c*r!e~t/+${which}`
    return {
      route: 'alicloud-auth',
      auth: () => ({ ...common, method: 'alicloud', accessKeyId: { value: id }, accessKeySecretFile }),
      verify: alicloudLogin(() => ({ id, secret: secret(proofs.accepted) })),
      give: async (which) => writeFile(accessKeySecretFile, `${secret((proofs.given = which))}\n`),
      expect: proofs.expect,
      secrets: (login) => [secret(proofs.given), ...textIn(login, 'Signature')],
    }
  },
}

const common = { organization: null, identityId: { value: IDENTITY } } as const
const ociKey = generateKeyPairSync('rsa', { modulusLength: 2048 })

/** As the console of Oracle Cloud shows it. */
export function md5(publicKey: KeyObject): string {
  const der = publicKey.export({ type: 'spki', format: 'der' })
  const digest = createHash('md5').update(der).digest('hex')
  return (digest.match(/../g) ?? []).join(':')
}

/** Which proof the issuer accepts, and which the host has. */
class Proofs {
  accepted: Which = 0
  given: Which = 0
  readonly expect = (which: Which): void => void (this.accepted = which)
}

const fileIn = ({ setup: { folder } }: Bench) => ({ file: join(folder, 'proof') })

/** A JWT in a file. */
function jwtCase(
  { setup: { folder }, now }: Bench,
  route: string,
  auth: Login,
  verify: typeof jwtLogin,
): LoginCase {
  const proofs = new Proofs()
  const given: string[] = []
  return {
    route,
    auth: () => auth,
    verify: verify({ ...RULES, keys: () => [es256[proofs.accepted].published] }),
    give: async (which) => {
      const { issuer: iss, subject: sub, audience: aud } = RULES
      const jwt = es256[which].sign({ iss, sub, aud: [aud], exp: now() + 3600 })
      given.push(jwt)
      await writeFile(join(folder, 'proof'), `${jwt}\n`)
    },
    expect: proofs.expect,
    secrets: () => given.flatMap(partsOfJwt),
  }
}

/** A JWT of the metadata service. */
function machineCase(
  { platform: { machine }, now }: Bench,
  route: string,
  auth: Login,
  verify: typeof jwtLogin,
): LoginCase {
  const proofs = new Proofs()
  const audience = route === 'gcp-auth' ? IDENTITY : AZURE_RESOURCE
  return {
    route,
    auth: () => auth,
    verify: verify({ ...RULES, audience, keys: () => [rs256[proofs.accepted].published] }),
    give: async (which) => void (machine.jwt = (query) => platformJwt(query, which, now())),
    expect: proofs.expect,
    secrets: jwtIn,
  }
}

function textIn(login: LoginRequest | null, name: string): readonly string[] {
  const value = login?.body[name]
  return typeof value === 'string' ? [value] : []
}

function jwtIn(login: LoginRequest | null): readonly string[] {
  return textIn(login, 'jwt').flatMap(partsOfJwt)
}

/** Whoever has the signature has the whole: the rest is no secret. */
function partsOfJwt(jwt: string): readonly string[] {
  return [jwt, jwt.split('.')[2] ?? jwt]
}

function pemOf(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' })
}

/** The first and the last line in full: those between are like them. */
function secretLines(pem: string): readonly string[] {
  const lines = pem.split('\n').filter((line) => line.length > 20 && !line.startsWith('-----'))
  return [...lines.slice(0, 1), ...lines.slice(-1)]
}
