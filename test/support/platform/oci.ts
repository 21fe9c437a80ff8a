import { type KeyObject, verify } from 'node:crypto'

/** What Oracle Cloud knows of a user's API key. */
export interface OciApiKey {
  /** `TENANCY/USER/FINGERPRINT`. */
  readonly keyId: string
  readonly publicKey: KeyObject
}

/** A request to Oracle Cloud; the names of the headers in lower case. */
interface OciRequest {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
}

/** Oracle Cloud refuses a request whose date is further away. */
const MOST_SKEW_SECONDS = 300

/**
 * Why Oracle Cloud refuses a signed request, null when it accepts it: "Request Signatures" of its documentation.
 *
 * @param now seconds since the epoch
 */
export function ociRefusal(
  { method, path, headers }: OciRequest,
  key: OciApiKey,
  now: number,
): string | null {
  const [scheme, parameters = ''] = (headers['authorization'] ?? '').split(/ (.*)/)
  const given = new Map([...parameters.matchAll(/(\w+)="([^"]*)"/g)].map((match) => [match[1], match[2]]))
  if (scheme !== 'Signature' || given.get('version') !== '1') return 'no signature of version 1'
  if (given.get('algorithm') !== 'rsa-sha256') return 'another algorithm'
  if (given.get('keyId') !== key.keyId) return 'no such key'
  const names = (given.get('headers') ?? '').split(' ')
  const date = names.find((name) => name === 'date' || name === 'x-date')
  if (date === undefined || !names.includes('(request-target)') || !names.includes('host'))
    return 'a header is not signed'
  const lines = names.map((name) =>
    name === '(request-target)' ? `${name}: ${method} ${path}` : `${name}: ${headers[name]}`,
  )
  const signature = Buffer.from(given.get('signature') ?? '', 'base64')
  if (!verify('rsa-sha256', Buffer.from(lines.join('\n')), key.publicKey, signature)) return 'a bad signature'
  const skew = Math.abs(Date.parse(headers[date] ?? '') / 1000 - now)
  return skew <= MOST_SKEW_SECONDS ? null : 'a date too far away'
}
