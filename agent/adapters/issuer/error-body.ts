/** What an answer's body says about a failure; issuer.md describes the shape. Each part null when it is absent. */
export interface ErrorBody {
  readonly requestId: string | null
  /** The class of the error, `TokenError` for one: what to decide by. */
  readonly error: string | null
  /** For people only; several parts are joined. Not yet made safe to print. */
  readonly message: string | null
}

/** `req-…`; anything that is not one printable word is no id. */
const REQUEST_ID = /^[\x21-\x7e]{1,128}$/

/** Any text may come here: a proxy answers with HTML, a broken server with nothing. */
export function parseErrorBody(text: string): ErrorBody {
  const body = parseObject(text)
  const requestId = body?.['reqId']
  const error = body?.['error']
  return {
    requestId: typeof requestId === 'string' && REQUEST_ID.test(requestId) ? requestId : null,
    error: typeof error === 'string' ? error : null,
    message: readMessage(body?.['message']),
  }
}

/** A JSON object; null for anything else. */
export function parseObject(text: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : null
  } catch {
    return null
  }
}

/** A text, or with status 422 a list of `{path, message}`. */
function readMessage(message: unknown): string | null {
  if (typeof message === 'string') return message
  if (!Array.isArray(message)) return null
  const parts = message.map(readPart).filter((part) => part !== '')
  return parts.length > 0 ? parts.join('; ') : null
}

function readPart(part: unknown): string {
  if (typeof part === 'string') return part
  if (!isObject(part)) return ''
  const path = Array.isArray(part['path']) ? part['path'].map(String).join('.') : ''
  const message = typeof part['message'] === 'string' ? part['message'] : ''
  return [path, message].filter((word) => word !== '').join(': ')
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
