import { createHmac } from 'node:crypto'

/** An access key of a user of Alibaba Cloud. */
export interface AlicloudAccessKey {
  readonly id: string
  readonly secret: string
}

/** Alibaba Cloud refuses a request whose time is further away. */
const MOST_SKEW_SECONDS = 900

/**
 * Why Alibaba Cloud refuses the parameters of a signed GET request, null when it accepts them: "RPC signature" of its
 * documentation.
 *
 * @param now seconds since the epoch
 */
export function alicloudRefusal(
  { Signature, ...parameters }: Readonly<Record<string, string>>,
  key: AlicloudAccessKey,
  now: number,
): string | null {
  if (parameters['AccessKeyId'] !== key.id) return 'InvalidAccessKeyId.NotFound'
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(parameters['Timestamp'] ?? ''))
    return 'InvalidTimeStamp.Format'
  if (parameters['SignatureMethod'] !== 'HMAC-SHA1' || parameters['SignatureVersion'] !== '1.0')
    return 'UnsupportedSignature'
  const query = Object.keys(parameters)
    .sort()
    .map((name) => `${percentEncoded(name)}=${percentEncoded(parameters[name] ?? '')}`)
    .join('&')
  const toSign = `GET&%2F&${percentEncoded(query)}`
  if (createHmac('sha1', `${key.secret}&`).update(toSign).digest('base64') !== Signature)
    return 'SignatureDoesNotMatch'
  const skew = Math.abs(Date.parse(parameters['Timestamp'] ?? '') / 1000 - now)
  return skew <= MOST_SKEW_SECONDS ? null : 'InvalidTimeStamp.Expired'
}

/** Byte by byte, so that it shares nothing with the agent's own. */
function percentEncoded(text: string): string {
  return [...Buffer.from(text)]
    .map((byte) => {
      const character = String.fromCharCode(byte)
      return /[\w.~-]/.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
    })
    .join('')
}
