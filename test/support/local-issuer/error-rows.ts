import { randomInt } from 'node:crypto'

/** An HTTP answer as it goes out; an object is sent as JSON, a string as it is. */
export interface RawAnswer {
  readonly status: number
  readonly body?: string | object
  readonly headers?: Readonly<Record<string, string>>
}

type Row = readonly [status: number, error: string, message: string | readonly object[]]

const KEY_FORMAT = 'Failed to validate SSH public key format:'
const ANY_ID = '00000000-0000-4000-8000-000000000000'
/** What a 429 asks for when nothing else is said. */
const RETRY_AFTER_SECONDS = 54

/** One entry of the `message` of a 422. */
const MISSING_PUBLIC_KEY = {
  code: 'invalid_type',
  expected: 'string',
  received: 'undefined',
  path: ['body', 'publicKey'],
  message: 'Required',
}

/** What the `details` of a 403 say: what the identity may do, for another host here. */
const RULE_FOR_ANOTHER_HOST = {
  action: 'issue-host-cert',
  subject: 'ssh-hosts',
  inverted: false,
  conditions: { hostname: { $eq: 'web2.example.com' } },
}

const ROWS = {
  'unsupported-key': [400, 'BadRequest', `${KEY_FORMAT} unsupported key type.`],
  'unparsable-key': [400, 'BadRequest', `${KEY_FORMAT} could not be parsed.`],
  'token-missing': [401, 'UnauthorizedError', 'Token missing'],
  'token-unknown': [401, 'UnauthorizedError', 'No identity access token found'],
  'token-used-up': [
    401,
    'UnauthorizedError',
    'Unable to renew because access token number of uses limit reached',
  ],
  'wrong-secret': [401, 'UnauthorizedError', 'Invalid credentials'],
  'identity-locked': [
    401,
    'UnauthorizedError',
    'This identity auth method is temporarily locked, please try again later',
  ],
  'token-expired': [403, 'TokenError', 'Your token has expired. Please re-authenticate.'],
  'token-malformed': [
    403,
    'TokenError',
    'The provided access token is malformed. Please use a valid token or generate a new one and try again.',
  ],
  'token-signature': [403, 'TokenError', 'invalid signature'],
  'permission-denied': [403, 'PermissionDenied', 'You are not allowed to issue-host-cert on ssh-hosts'],
  'not-member': [
    403,
    'ForbiddenError',
    `Identity is not a member of the specified project with ID '${ANY_ID}'`,
  ],
  'forbidden-access': [
    403,
    'ForbiddenError',
    `Forbidden access to /api/v1/ssh/hosts/${ANY_ID}/issue-host-cert`,
  ],
  'forbidden-ip': [
    403,
    'ForbiddenError',
    'You are not allowed to access this resource from the current IP address',
  ],
  'host-not-found': [404, 'NotFound', `SSH host with ID ${ANY_ID} not found`],
  'unknown-client-id': [404, 'NotFound', 'No identity with specified client ID was found'],
  'route-not-found': [404, 'Not Found', `Route POST:/api/v1/ssh/hosts/${ANY_ID}/issue-host-cert not found`],
  validation: [422, 'ValidationFailure', [MISSING_PUBLIC_KEY]],
  'rate-limited': [
    429,
    'RateLimitExceeded',
    `Rate limit exceeded. Please try again in ${RETRY_AFTER_SECONDS} seconds`,
  ],
  'server-error': [500, 'InternalServerError', 'Something went wrong'],
} as const satisfies Readonly<Record<string, Row>>

/** Every error that the server was seen to answer, and the failures of a login. */
export type ErrorRowName = keyof typeof ROWS

/** All of them, for a table test. */
export const ERROR_ROW_NAMES = Object.keys(ROWS) as readonly ErrorRowName[]

/** What a row may be told besides: another message, or more members of the body. */
interface RowDetail {
  /** A 500 has `Create` when a name is taken. */
  readonly error?: string
  readonly message?: string | readonly object[]
  readonly details?: readonly unknown[]
  readonly headers?: Readonly<Record<string, string>>
}

/**
 * The answer of one row, with a request id of its own. A fault for `failNext` as well.
 *
 * @param detail what the answer says instead of the example in the table
 */
export function errorRow(name: ErrorRowName, detail: RowDetail = {}): RawAnswer {
  const [statusCode, usual, example] = ROWS[name]
  const error = detail.error ?? usual
  const message = detail.message ?? example
  // The web framework answers this one itself: no request id.
  if (name === 'route-not-found') return { status: statusCode, body: { message, error, statusCode } }
  if (name === 'rate-limited')
    return { ...withRequestId(statusCode, { message, error }), headers: detail.headers ?? RATE_HEADERS }
  const details = name === 'permission-denied' ? { details: detail.details ?? [RULE_FOR_ANOTHER_HOST] } : {}
  return withRequestId(statusCode, { message, error, ...details })
}

/** Thrown by a route to end a request with an error answer. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly answer: RawAnswer

  constructor(row: ErrorRowName, detail: RowDetail = {}) {
    super(row)
    this.answer = errorRow(row, detail)
  }
}

const RATE_HEADERS = {
  'retry-after': String(RETRY_AFTER_SECONDS),
  'x-ratelimit-limit': '200',
  'x-ratelimit-remaining': '0',
  'x-ratelimit-reset': String(RETRY_AFTER_SECONDS),
}

function withRequestId(statusCode: number, rest: object): RawAnswer {
  return { status: statusCode, body: { reqId: requestId(), statusCode, ...rest } }
}

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

function requestId(): string {
  const letters = Array.from({ length: 14 }, () => BASE62.charAt(randomInt(BASE62.length)))
  return `req-${letters.join('')}`
}
