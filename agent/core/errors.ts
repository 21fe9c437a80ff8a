/** Every code that a log line, a status document or an exit can carry. Stable: see README, "Errors". */
export const ERROR_CODES = [
  'ISSUER_UNREACHABLE',
  'ISSUER_TIMEOUT',
  'ISSUER_BUSY',
  'ISSUER_UNAUTHORIZED',
  'ISSUER_FORBIDDEN',
  'ISSUER_NOT_FOUND',
  'ISSUER_REJECTED',
  'ISSUER_INVALID_RESPONSE',
  'CERT_UNPARSABLE',
  'CERT_NOT_HOST',
  'CERT_KEY_MISMATCH',
  'CERT_SIGNATURE_INVALID',
  'CERT_CA_MISMATCH',
  'CERT_NO_PRINCIPALS',
  'CERT_PRINCIPALS_MISMATCH',
  'CERT_CRITICAL_OPTION',
  'CERT_SIGNATURE_ALGORITHM',
  'CERT_NOT_YET_VALID',
  'CERT_EXPIRED',
  'CERT_NOT_NEWER',
  'HOST_KEY_UNREADABLE',
  'HOST_KEY_UNSUPPORTED',
  'STORE_FAILED',
  'SSHD_CONFIG_INVALID',
  'SSHD_RELOAD_FAILED',
  'SSHD_NOT_SERVING',
  'SSHD_UNREACHABLE',
  'CONFIG_INVALID',
  'CREDENTIAL_UNREADABLE',
] as const

export type ErrorCode = (typeof ERROR_CODES)[number]

/** A failure as a value: what happened and the words for a person. Lower case, no full stop. */
export interface Failure {
  readonly code: ErrorCode
  readonly message: string
}

/** The thrown form of a {@link Failure}, for what cannot go on where it happened. */
export class AgentError extends Error {
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'AgentError'
    this.code = code
  }
}

/** What a thrown thing says to a person, without a stack. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
