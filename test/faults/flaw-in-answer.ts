import { ERROR_CODES } from '../../agent/cert/errors.ts'
import type { HostCaAnswer, IssueAnswer } from '../../agent/renewal/ports.ts'

/** What the test uses as the access token, which no result may contain. */
export const TOKEN = 'st.very-secret-token'

/** What is wrong with a result of asking the issuer; null for nothing. */
export function flawIn(result: IssueAnswer | HostCaAnswer): string | null {
  if (result.ok) {
    if ('keys' in result) return result.keys.length > 0 ? null : 'no keys'
    const { signedKey, serialNumber } = result
    if (signedKey.trim() === '') return 'an empty certificate'
    return serialNumber === null || /^\d{1,20}$/.test(serialNumber) ? null : 'a serial number of another form'
  }
  const { code, message, requestId, retryAfterSeconds } = result.failure
  if (!(ERROR_CODES as readonly string[]).includes(code)) return `code ${code}`
  if (/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(message))
    return `a message with controls: ${JSON.stringify(message)}`
  if (message.length > 8000) return `a message of ${message.length} characters`
  if (requestId !== null && /[\p{Cc}\p{Cf}]/u.test(requestId)) return 'a request id with controls'
  if (retryAfterSeconds !== null && !(retryAfterSeconds > 0)) return `retry after ${retryAfterSeconds}`
  return JSON.stringify(result).includes(TOKEN) ? 'the token' : null
}
