import { AgentError } from '../../cert/errors.ts'
import type { LoginBy } from '../../config/config.ts'
import { type AwsKeys, signRequest } from './aws-signature.ts'
import { type LoginMethod, type LoginTools, secretOf, valueOf } from './login.ts'
import { askPlatform, platformUrl, refusalOf, textsIn } from './platform.ts'

const BODY = 'Action=GetCallerIdentity&Version=2011-06-15'
const METADATA = 'http://169.254.169.254'
const INSTANCE = 'the instance metadata service of AWS'
const CONTAINER = 'the credentials service of the container'
/** Longer than the exchange needs it. */
const TOKEN_SECONDS = '60'
/** Where a container may be sent for its keys, besides loopback. */
const CONTAINER_HOSTS = new Set(['169.254.170.2', '169.254.170.23', '[fd00:ec2::23]', 'localhost', '[::1]'])

/** Keys, and whose they are. */
interface FoundKeys {
  readonly keys: AwsKeys
  readonly from: string
}

/** A request to AWS that this host signs and the issuer sends: AWS answers it with the ARN of the role. */
export function aws(settings: LoginBy<'aws'>, tools: LoginTools): LoginMethod {
  return {
    route: 'aws-auth',
    what: 'the signed request',
    platform: { name: 'AWS', status: 500 },
    hints: {
      400: 'check the region (auth.region)',
      401: 'check that the AWS login of the identity allows this account and this ARN',
    },
    async prove(signal) {
      const identityId = await valueOf(settings.identityId, 'identity id', tools)
      let opened: Promise<Metadata> | null = null
      // One session serves both the keys and the region.
      const metadata = async (): Promise<Metadata> => (opened ??= openMetadata(tools, signal))
      const { keys, from } = await findKeys(settings, tools, metadata, signal)
      const region = await findRegion(settings, tools, metadata)
      const headers = signedHeaders(keys, region, tools)
      return {
        body: {
          identityId,
          iamHttpRequestMethod: 'POST',
          iamRequestBody: Buffer.from(BODY).toString('base64'),
          iamRequestHeaders: Buffer.from(JSON.stringify(headers)).toString('base64'),
        },
        claims: [`access key ${keys.accessKeyId}`, from, `region ${region}`],
      }
    },
  }
}

function signedHeaders(keys: AwsKeys, region: string, tools: LoginTools): Readonly<Record<string, string>> {
  const domain = region.startsWith('cn-') ? 'amazonaws.com.cn' : 'amazonaws.com'
  const timestamp = new Date(tools.clock.now() * 1000).toISOString().replaceAll(/[-:]|\.\d+/g, '')
  const token = keys.sessionToken === null ? {} : { 'x-amz-security-token': keys.sessionToken }
  const headers = {
    'content-length': String(BODY.length),
    'content-type': 'application/x-www-form-urlencoded; charset=utf-8',
    host: `sts.${region}.${domain}`,
    'x-amz-date': timestamp,
    ...token,
  }
  const request = { method: 'POST', path: '/', headers, body: BODY }
  const { authorization, signature } = signRequest(request, { region, service: 'sts', timestamp }, keys)
  tools.secrets.add(signature)
  return { ...headers, Authorization: authorization }
}

async function findKeys(
  settings: LoginBy<'aws'>,
  tools: LoginTools,
  metadata: () => Promise<Metadata>,
  signal: AbortSignal,
): Promise<FoundKeys> {
  if (settings.keys !== null) {
    const { accessKeyIdFile, secretAccessKeyFile, sessionTokenFile } = settings.keys
    const keys = {
      accessKeyId: await valueOf({ file: accessKeyIdFile }, 'access key id', tools),
      secretAccessKey: await secretOf(secretAccessKeyFile, 'secret access key', tools),
      sessionToken:
        sessionTokenFile === null ? null : await secretOf(sessionTokenFile, 'session token', tools),
    }
    return { keys, from: 'from files' }
  }
  const { environment } = tools
  const full = environment['AWS_CONTAINER_CREDENTIALS_FULL_URI']
  const relative = environment['AWS_CONTAINER_CREDENTIALS_RELATIVE_URI']
  if (relative !== undefined && relative.startsWith('/'))
    return keysOfContainer(platformUrl(`http://169.254.170.2${relative}`, tools), tools, signal)
  return full === undefined
    ? keysOfInstance(tools, await metadata())
    : keysOfContainer(ownUrl(full), tools, signal)
}

/** @throws AgentError LOGIN_PLATFORM for an address to which the container's token must not be sent */
function ownUrl(given: string): URL {
  const url = URL.canParse(given) ? new URL(given) : null
  const isOwn = url !== null && (CONTAINER_HOSTS.has(url.hostname) || /^127(?:\.\d+){3}$/.test(url.hostname))
  if (url !== null && isOwn && url.protocol === 'http:') return url
  const message = 'AWS_CONTAINER_CREDENTIALS_FULL_URI is not an http:// address of this host or of AWS'
  throw new AgentError('LOGIN_PLATFORM', message)
}

async function keysOfContainer(url: URL, tools: LoginTools, signal: AbortSignal): Promise<FoundKeys> {
  const { environment } = tools
  const file = environment['AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE']
  const token =
    file === undefined
      ? environment['AWS_CONTAINER_AUTHORIZATION_TOKEN']
      : await secretOf(file, 'token of AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE', tools)
  if (token !== undefined) tools.secrets.add(token)
  const remedy = 'check the AWS_CONTAINER_ variables'
  const headers: Record<string, string> = token === undefined ? {} : { authorization: token }
  const reply = await askPlatform({ url, headers, service: CONTAINER, remedy }, signal)
  if (reply.status === 200) return { keys: keysIn(reply.text, CONTAINER, tools), from: 'of the container' }
  const message = `${CONTAINER} gives no keys (${refusalOf(reply, tools)}); ${remedy}, and that the task or pod has a role`
  throw new AgentError('LOGIN_PLATFORM', message)
}

async function keysOfInstance(tools: LoginTools, ask: Metadata): Promise<FoundKeys> {
  const path = '/latest/meta-data/iam/security-credentials/'
  const roles = await ask(path)
  const role = roles.text.trim().split('\n')[0] ?? ''
  if (roles.status === 404 || (roles.status === 200 && role === '')) {
    const message = 'this AWS instance has no role: attach an instance profile with an IAM role to it'
    throw new AgentError('LOGIN_PLATFORM', message)
  }
  // AWS's own rule for the names of roles.
  if (roles.status !== 200 || !/^[\w+=,.@-]{1,64}$/.test(role))
    throw new AgentError('LOGIN_PLATFORM', `${INSTANCE} names no role (${refusalOf(roles, tools)})`)
  const reply = await ask(path + role)
  if (reply.status === 200)
    return { keys: keysIn(reply.text, INSTANCE, tools), from: `of the role ${role} of the instance` }
  const message = `${INSTANCE} gives no keys of the role ${role} (${refusalOf(reply, tools)}); check the role's trust policy`
  throw new AgentError('LOGIN_PLATFORM', message)
}

/** Asks the instance's metadata service for what is at a path. */
type Metadata = (path: string) => ReturnType<typeof askPlatform>

/** IMDSv2: a token first. */
async function openMetadata(tools: LoginTools, signal: AbortSignal): Promise<Metadata> {
  const common = {
    service: INSTANCE,
    remedy:
      'is this an AWS instance, is its metadata service on, and is the hop limit 2 if this is a container?',
  }
  const reply = await askPlatform(
    {
      ...common,
      url: platformUrl(`${METADATA}/latest/api/token`, tools),
      method: 'PUT',
      headers: { 'x-aws-ec2-metadata-token-ttl-seconds': TOKEN_SECONDS },
    },
    signal,
  )
  const token = reply.text.trim()
  if (reply.status !== 200 || !/^[\x21-\x7e]{1,1024}$/.test(token)) {
    const message = `${INSTANCE} gives no session token (${refusalOf(reply, tools)}): switch the instance's metadata service on, with version 2`
    throw new AgentError('LOGIN_PLATFORM', message)
  }
  tools.secrets.add(token)
  const headers = { 'x-aws-ec2-metadata-token': token }
  return async (path) => askPlatform({ ...common, url: platformUrl(METADATA + path, tools), headers }, signal)
}

function keysIn(text: string, service: string, tools: LoginTools): AwsKeys {
  const found = textsIn(text, ['AccessKeyId', 'SecretAccessKey', 'Token'], service)
  tools.secrets.add(found.SecretAccessKey)
  tools.secrets.add(found.Token)
  return {
    accessKeyId: found.AccessKeyId,
    secretAccessKey: found.SecretAccessKey,
    sessionToken: found.Token,
  }
}

async function findRegion(
  { region }: LoginBy<'aws'>,
  tools: LoginTools,
  metadata: () => Promise<Metadata>,
): Promise<string> {
  const { AWS_REGION: own, AWS_DEFAULT_REGION: byDefault } = tools.environment
  const known = region ?? own ?? byDefault ?? (await regionOfInstance(await metadata()))
  if (/^[a-z0-9]+(?:-[a-z0-9]+)*$/.test(known)) return known
  throw new AgentError('LOGIN_PLATFORM', 'the AWS region is not known: set auth.region')
}

async function regionOfInstance(ask: Metadata): Promise<string> {
  const reply = await ask('/latest/dynamic/instance-identity/document')
  return reply.status === 200 ? textsIn(reply.text, ['region'], INSTANCE).region : ''
}
