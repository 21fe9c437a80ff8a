import { createHash, createHmac } from 'node:crypto'

/** An access key of AWS. */
export interface AwsKeys {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** Null for a key that is not temporary. */
  readonly sessionToken: string | null
}

interface SignedRequest {
  readonly method: string
  /** Encoded already; without a query. */
  readonly path: string
  /** Names in lower case. All of them are signed. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/**
 * Sign a request to AWS by Signature Version 4 ("Create a signed AWS API request", IAM User Guide).
 *
 * @param scope `timestamp` as in `x-amz-date`: `20150830T123600Z`
 */
export function signRequest(
  { method, path, headers, body }: SignedRequest,
  scope: { readonly region: string; readonly service: string; readonly timestamp: string },
  keys: AwsKeys,
): { readonly authorization: string; readonly signature: string } {
  const names = Object.keys(headers).toSorted()
  const lines = names.map((name) => `${name}:${headers[name]?.trim().replaceAll(/ +/g, ' ')}`)
  const canonical = [method, path, '', ...lines, '', names.join(';'), sha256(body)].join('\n')
  const parts = [scope.timestamp.slice(0, 8), scope.region, scope.service, 'aws4_request']
  const text = ['AWS4-HMAC-SHA256', scope.timestamp, parts.join('/'), sha256(canonical)].join('\n')
  const key = parts.reduce<string | Buffer>(hmac, `AWS4${keys.secretAccessKey}`)
  const signature = hmac(key, text).toString('hex')
  const credential = `Credential=${keys.accessKeyId}/${parts.join('/')}`
  const authorization = `AWS4-HMAC-SHA256 ${credential}, SignedHeaders=${names.join(';')}, Signature=${signature}`
  return { authorization, signature }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}
