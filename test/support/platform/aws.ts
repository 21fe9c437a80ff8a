import { createHash, createHmac } from 'node:crypto'
import { type LoginRequest, LoginRefusal, type Verify } from './login-server.ts'

/** A key that AWS has given out. */
export interface AwsKey {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** Null: not temporary. */
  readonly sessionToken: string | null
}

const BODY = 'Action=GetCallerIdentity&Version=2011-06-15'
const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=([^/,]+)\/(\d{8})\/([^/,]+)\/([^/,]+)\/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$/
const SIGNED = ['content-length', 'content-type', 'host', 'x-amz-date']
/** AWS refuses a request that was signed longer ago, or later from now. */
const MOST_SKEW_MILLISECONDS = 15 * 60_000

/**
 * `aws-auth`: sends the request on to AWS. 500 when AWS refuses it, 400 for a region that it cannot be sent to, 401 for an
 * account that the identity does not allow.
 */
export function awsLogin(keys: () => readonly AwsKey[], rules: { readonly allowed: boolean }): Verify {
  return (login) => {
    if (login.body['iamHttpRequestMethod'] !== 'POST')
      throw new LoginRefusal(422, 'ValidationFailure', 'iamHttpRequestMethod: Invalid')
    const { region, refusal } = askAws(login, keys())
    if (!/^[a-z]{2}(?:-[a-z]+)+-\d$/.test(region))
      throw new LoginRefusal(400, 'BadRequest', 'Invalid AWS region')
    if (refusal !== null) throw new LoginRefusal(500, 'InternalServerError', 'Something went wrong', refusal)
    if (!rules.allowed)
      throw new LoginRefusal(401, 'UnauthorizedError', 'Access denied: AWS account ID not allowed.')
  }
}

/**
 * What AWS answers to the request in a login ("Troubleshoot signed AWS API requests", IAM User Guide).
 *
 * @returns `region` of the credential scope, which decides where the request goes; `refusal` null: it is accepted
 */
export function askAws(
  { body: login, at }: Pick<LoginRequest, 'body' | 'at'>,
  keys: readonly AwsKey[],
): { readonly region: string; readonly refusal: string | null } {
  const body = Buffer.from(String(login['iamRequestBody']), 'base64')
  const given = JSON.parse(
    Buffer.from(String(login['iamRequestHeaders']), 'base64').toString('utf8'),
  ) as Record<string, string>
  const sent = new Map(Object.entries(given).map(([name, value]) => [name.toLowerCase(), value]))
  const parts = AUTHORIZATION.exec(sent.get('authorization') ?? '')
  const [, id = '', day = '', region = '', service = '', list = '', signature = ''] = parts ?? []
  const host = `sts.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`
  // The length and the host are those of the connection, whatever the headers say.
  const received = new Map([...sent, ['host', host], ['content-length', String(body.length)]])
  const refuse = (refusal: string) => ({ region, refusal })
  if (parts === null) return refuse('IncompleteSignature')
  if (sent.get('host') !== host || sent.get('content-length') !== received.get('content-length'))
    return refuse('another host or length')
  if (service !== 'sts') return refuse('SignatureDoesNotMatch: scope')
  const key = keys.find(({ accessKeyId }) => accessKeyId === id)
  if (key === undefined) return refuse('InvalidClientTokenId')
  const token = received.get('x-amz-security-token')
  if ((token ?? null) !== key.sessionToken) return refuse('InvalidClientTokenId: session token')
  const names = list.split(';')
  const needed = token === undefined ? SIGNED : [...SIGNED, 'x-amz-security-token']
  if (!needed.every((name) => names.includes(name))) return refuse('SignatureDoesNotMatch: not all is signed')
  if (list !== names.toSorted().join(';')) return refuse('SignatureDoesNotMatch: order')
  const stamp = received.get('x-amz-date') ?? ''
  const time = Date.parse(stamp.replace(/^(\d{4})(\d\d)(\d\dT\d\d)(\d\d)(\d\dZ)$/, '$1-$2-$3:$4:$5'))
  if (!stamp.startsWith(day) || !(Math.abs(time - at) <= MOST_SKEW_MILLISECONDS))
    return refuse('SignatureDoesNotMatch: expired')
  const lines = names.map((name) => `${name}:${(received.get(name) ?? '').trim().replaceAll(/ +/g, ' ')}`)
  const canonical = `POST\n/\n\n${lines.join('\n')}\n\n${list}\n${sha256(body)}`
  const toSign = `AWS4-HMAC-SHA256\n${stamp}\n${day}/${region}/sts/aws4_request\n${sha256(canonical)}`
  const dated = hmac(hmac(hmac(`AWS4${key.secretAccessKey}`, day), region), 'sts')
  if (hmac(hmac(dated, 'aws4_request'), toSign).toString('hex') !== signature)
    return refuse('SignatureDoesNotMatch')
  return body.toString() === BODY ? { region, refusal: null } : refuse('InvalidAction')
}

function sha256(content: string | Buffer): string {
  return createHash('sha256').update(content).digest('hex')
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}
