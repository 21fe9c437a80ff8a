import { AgentError } from '../../cert/errors.ts'
import { oneLine } from '../../cert/text.ts'
import type { LoginBy } from '../../config/config.ts'
import { parseObject } from '../answer.ts'
import { type AwsKeys, signRequest } from './aws-signature.ts'
import { isToken } from './credential-file.ts'
import { type LoginMethod, type LoginTools, secretOf, valueOf } from './login.ts'
import { askPlatform, platformRefusal, platformUrl, textsIn } from './platform.ts'

const BODY = 'Action=GetCallerIdentity&Version=2011-06-15'
const METADATA = 'http://169.254.169.254'
const INSTANCE = 'the instance metadata service of AWS'
const CONTAINER = 'the credentials service of the container'
/** More than the exchange needs. */
const TOKEN_SECONDS = '60'
/** Hosts that may be asked for the keys of a container, besides loopback. */
const CONTAINER_HOSTS = new Set(['169.254.170.2', '169.254.170.23', '[fd00:ec2::23]', 'localhost', '[::1]'])

interface FoundKeys {
  readonly keys: AwsKeys
  /** Whose they are, for people: `role web-server`. */
  readonly from: string
}

/** A request to AWS that this host signs and the issuer sends: AWS answers it with the ARN of the role. */
export function aws(settings: LoginBy<'aws'>, tools: LoginTools): LoginMethod {
  return {
    route: 'aws-auth',
    what: 'the signed request',
    platform: { status: 500, likely: 'most likely AWS refused the signed request, or the issuer failed' },
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
        claims: [`access key ${shortened(keys.accessKeyId)}`, from, `region ${region}`],
      }
    },
  }
}

/** The four letters that say of which kind it is, and four by which it is recognized. */
function shortened(accessKeyId: string): string {
  return accessKeyId.length > 8 ? `${accessKeyId.slice(0, 4)}…${accessKeyId.slice(-4)}` : accessKeyId
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
    const accessKeyId = await valueOf({ file: accessKeyIdFile }, 'access key id', tools)
    if (!isToken(accessKeyId)) {
      const message = `the access key id in ${accessKeyIdFile} is not one word of printable characters`
      throw new AgentError('CREDENTIAL_UNREADABLE', message)
    }
    const keys = {
      accessKeyId,
      secretAccessKey: await secretOf(secretAccessKeyFile, 'secret access key', tools),
      sessionToken:
        sessionTokenFile === null ? null : await secretOf(sessionTokenFile, 'session token', tools),
    }
    return { keys, from: 'keys from files' }
  }
  const full = variable('AWS_CONTAINER_CREDENTIALS_FULL_URI', tools)
  const relative = variable('AWS_CONTAINER_CREDENTIALS_RELATIVE_URI', tools)
  if (relative?.startsWith('/') === true)
    return keysOfContainer(platformUrl(`http://169.254.170.2${relative}`, tools), tools, signal)
  return full === null
    ? keysOfInstance(tools, await metadata())
    : keysOfContainer(ownUrl(full), tools, signal)
}

/** Null also for an empty variable: `NAME=` in a unit means that it is not set. */
function variable(name: `AWS_${string}`, { environment }: LoginTools): string | null {
  return environment[name] || null
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
  const token = await tokenOfContainer(tools)
  const remedy = 'check the AWS_CONTAINER_ variables'
  const headers: Record<string, string> = token === null ? {} : { authorization: token }
  const reply = await askPlatform({ url, headers, service: CONTAINER, remedy }, signal)
  if (reply.status === 200)
    return { keys: keysIn(reply.text, CONTAINER, tools), from: 'keys of the container' }
  throw platformRefusal(`${CONTAINER} gives no keys`, reply, {}, tools)
}

/** @throws AgentError LOGIN_PLATFORM when the platform's file cannot be read */
async function tokenOfContainer(tools: LoginTools): Promise<string | null> {
  const name = 'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE'
  const file = variable(name, tools)
  const given = variable('AWS_CONTAINER_AUTHORIZATION_TOKEN', tools)
  if (file === null) {
    if (given !== null) tools.secrets.add(given)
    return given
  }
  try {
    return await secretOf(file, `token of ${name}`, tools)
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    throw new AgentError('LOGIN_PLATFORM', `${error.message}; is this variable right?`, { cause: error })
  }
}

async function keysOfInstance(tools: LoginTools, ask: Metadata): Promise<FoundKeys> {
  const path = '/latest/meta-data/iam/security-credentials/'
  const roles = await ask(path)
  const role = roles.text.trim().split('\n')[0] ?? ''
  if (roles.status === 404 || (roles.status === 200 && role === '')) {
    const message = 'this AWS instance has no role: attach an instance profile with an IAM role to it'
    throw new AgentError('LOGIN_PLATFORM', message)
  }
  // The characters that AWS allows in the name of a role.
  if (roles.status !== 200 || !/^[\w+=,.@-]{1,64}$/.test(role))
    throw platformRefusal(`${INSTANCE} names no role`, roles, {}, tools)
  const reply = await ask(path + role)
  if (reply.status === 200) return { keys: keysIn(reply.text, INSTANCE, tools), from: `role ${role}` }
  throw platformRefusal(`${INSTANCE} gives no keys of the role ${role}`, reply, {}, tools)
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
    const remedies = { 403: "switch the instance's metadata service on, with version 2" }
    throw platformRefusal(`${INSTANCE} gives no session token`, reply, remedies, tools)
  }
  tools.secrets.add(token)
  const headers = { 'x-aws-ec2-metadata-token': token }
  return async (path) => askPlatform({ ...common, url: platformUrl(METADATA + path, tools), headers }, signal)
}

function keysIn(text: string, service: string, tools: LoginTools): AwsKeys {
  refuseFailure(text, service, tools)
  const found = textsIn(text, ['AccessKeyId', 'SecretAccessKey', 'Token'], service)
  tools.secrets.add(found.SecretAccessKey)
  tools.secrets.add(found.Token)
  if (!isToken(found.AccessKeyId))
    throw new AgentError('LOGIN_PLATFORM', `${service} answered without a usable AccessKeyId`)
  return {
    accessKeyId: found.AccessKeyId,
    secretAccessKey: found.SecretAccessKey,
    sessionToken: found.Token,
  }
}

/** The instance's service says `Success` in a `Code`, or why it has no keys, with status 200 as well. */
function refuseFailure(text: string, service: string, { secrets }: LoginTools): void {
  const { Code: code, Message: reason } = parseObject(text) ?? {}
  if (typeof code !== 'string' || code === 'Success') return
  const said = oneLine(secrets.redact(typeof reason === 'string' ? `${code}: ${reason}` : code))
  const message = `${service} gives no keys (${said}); check that the role exists, and that its trust policy allows ec2.amazonaws.com`
  throw new AgentError('LOGIN_PLATFORM', message)
}

async function findRegion(
  { region, keys }: LoginBy<'aws'>,
  tools: LoginTools,
  metadata: () => Promise<Metadata>,
): Promise<string> {
  const given = region ?? variable('AWS_REGION', tools) ?? variable('AWS_DEFAULT_REGION', tools)
  // Such keys are for hosts elsewhere.
  if (given === null && keys !== null)
    throw new AgentError('LOGIN_PLATFORM', 'auth.region is required with an access key from files')
  const known = given ?? (await regionOfInstance(await metadata(), tools))
  if (/^[a-z0-9]+(?:-[a-z0-9]+)*$/.test(known)) return known
  throw new AgentError('LOGIN_PLATFORM', 'the AWS region is not known: set auth.region')
}

async function regionOfInstance(ask: Metadata, tools: LoginTools): Promise<string> {
  const reply = await ask('/latest/dynamic/instance-identity/document')
  if (reply.status === 200) return textsIn(reply.text, ['region'], INSTANCE).region
  if (reply.status === 404) return ''
  throw platformRefusal(`${INSTANCE} does not say its region`, reply, {}, tools)
}
