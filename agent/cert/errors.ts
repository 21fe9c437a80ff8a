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

/** What an error code means to whoever has to mend it. Whole sentences without a full stop at the end. */
export interface Remedy {
  /** What is the matter. */
  readonly cause: string
  /** What to do about it. Commands stand between backticks. */
  readonly remedy: string
}

const LOOK_AT_CA = 'nothing was installed. Look at the CA and at this host’s settings at the issuer'

/** For each error code its cause and remedy: what the status page, `doctor` and the documentation say. */
export const REMEDIES: Readonly<Record<ErrorCode, Remedy>> = {
  ISSUER_UNREACHABLE: {
    cause: 'The issuer cannot be reached: its name, the network, a firewall, or TLS',
    remedy:
      'Try `curl -v` with the issuer’s address from this host. If a private CA signed its TLS certificate, set `issuer.ca_file`',
  },
  ISSUER_TIMEOUT: {
    cause: 'The issuer took the request and did not answer within `issuer.timeout`',
    remedy: 'Look at the issuer and at what stands in front of it; it is asked again by itself',
  },
  ISSUER_BUSY: {
    cause: 'The issuer answers that it is overloaded or broken (429 or 5xx)',
    remedy:
      'Wait: it is asked again by itself. If many hosts share one address, ask the issuer’s operator for a higher limit',
  },
  ISSUER_UNAUTHORIZED: {
    cause: 'The issuer refuses the login or the token',
    remedy:
      'Put the right credential in place, then `systemctl reload hostcertd`, or `systemctl restart hostcertd` if it is a `credential:NAME`',
  },
  ISSUER_FORBIDDEN: {
    cause: 'This identity may not issue for this host, or not from this address',
    remedy:
      'An administrator of the issuer must put this host’s address on the identity’s list of allowed addresses, if the message is about the address, else grant `issue-host-cert` on this host; then `systemctl reload hostcertd`',
  },
  ISSUER_NOT_FOUND: {
    cause: 'The issuer knows no such host, or has no such route',
    remedy: 'Check `issuer.ssh_host_id` and `issuer.url`; a host that was deleted must be registered again',
  },
  ISSUER_REJECTED: {
    cause: 'The issuer refuses this public key or this request',
    remedy: 'The message says why; `hostcertd doctor` shows which host keys can be signed',
  },
  ISSUER_INVALID_RESPONSE: {
    cause: 'What answered does not speak as the issuer does',
    remedy: 'Check `issuer.url`, and whether a proxy or a login page stands in the way',
  },
  CERT_UNPARSABLE: {
    cause: 'The certificate cannot be read',
    remedy:
      'If it lies on disk it is replaced by itself; if the issuer sent it, nothing was installed: look at the issuer',
  },
  CERT_NOT_HOST: {
    cause: 'It is a user certificate, where a host certificate is wanted',
    remedy: `If the issuer sent it, ${LOOK_AT_CA}`,
  },
  CERT_KEY_MISMATCH: {
    cause: 'The certificate is for another key than this host key',
    remedy:
      'After a key was replaced this mends itself. If it stays, look whether something else writes the certificate or the key',
  },
  CERT_SIGNATURE_INVALID: {
    cause: 'The signature of the certificate does not hold',
    remedy: `If the issuer sent it, ${LOOK_AT_CA}; a damaged file is replaced by itself`,
  },
  CERT_CA_MISMATCH: {
    cause: 'Another CA signed than the one this host has pinned',
    remedy:
      'If the CA was changed on purpose, put its public key into `verify.host_ca_file` and `systemctl reload hostcertd`. If not, find out who signed',
  },
  CERT_NO_PRINCIPALS: {
    cause: 'The certificate names no host, so it would be good for any',
    remedy: `If the issuer sent it, ${LOOK_AT_CA}: the host needs a name there`,
  },
  CERT_PRINCIPALS_MISMATCH: {
    cause: 'A name that `verify.principals` wants is not in the certificate',
    remedy: 'Register that name for this host at the issuer, or take it out of `verify.principals`',
  },
  CERT_CRITICAL_OPTION: {
    cause: 'The certificate has a critical option, and clients refuse such host certificates',
    remedy: `If the issuer sent it, ${LOOK_AT_CA}`,
  },
  CERT_SIGNATURE_ALGORITHM: {
    cause: 'The certificate is signed with RSA and SHA-1, which clients refuse',
    remedy: 'Let the CA sign with rsa-sha2-256 or rsa-sha2-512, or give it an ED25519 key',
  },
  CERT_NOT_YET_VALID: {
    cause: 'By this host’s clock the certificate does not hold yet',
    remedy: 'Set the clock: `timedatectl` shows whether it is synchronised',
  },
  CERT_EXPIRED: {
    cause: 'By this host’s clock the certificate is past its end',
    remedy:
      'A new one is asked for by itself. If it does not come, look at the last error and at the clock (`timedatectl`)',
  },
  CERT_NOT_NEWER: {
    cause: 'The issuer gave an old certificate instead of a new one',
    remedy: 'Look at the issuer, or for a cache between it and this host',
  },
  HOST_KEY_UNREADABLE: {
    cause: 'A public host key is missing, damaged or not readable',
    remedy:
      '`ssh-keygen -y -f KEY > KEY.pub` as root writes the public half anew; it must be readable by all',
  },
  HOST_KEY_UNSUPPORTED: {
    cause: 'The issuer signs no keys of this type',
    remedy: 'Nothing, as long as another host key is served; or take the key out of `host_keys`',
  },
  STORE_FAILED: {
    cause: 'A file could not be read or written',
    remedy: 'The message names the path: look at its owner and mode, and at the space on that disk',
  },
  SSHD_CONFIG_INVALID: {
    cause:
      'sshd’s configuration does not pass its own check, so sshd was not reloaded; it keeps its previous configuration',
    remedy: 'Run `sshd -t` as root and fix what it names; hostcertd then continues by itself',
  },
  SSHD_RELOAD_FAILED: {
    cause: 'sshd could not be reloaded',
    remedy: 'The message says how it failed; try `systemctl reload ssh` (or `sshd`) as root',
  },
  SSHD_NOT_SERVING: {
    cause: 'sshd presents another certificate than the one on disk, or none',
    remedy:
      'Run `hostcertd doctor`: it names the line of sshd’s configuration to change. `sshd -T` shows `HostCertificate`, `HostKey` and `HostKeyAlgorithms`',
  },
  SSHD_UNREACHABLE: {
    cause: 'sshd could not be asked, and was not seen to present this certificate before',
    remedy:
      'Start sshd if it is down, or correct `sshd.address`. `hostcertd status` shows why there was no answer',
  },
  CONFIG_INVALID: {
    cause: 'The configuration has a mistake',
    remedy: '`hostcertd config validate` lists every problem; then `systemctl reload hostcertd`',
  },
  CREDENTIAL_UNREADABLE: {
    cause: 'A credential file is missing, empty or not readable',
    remedy:
      'The message names the file. After mending it, `systemctl restart hostcertd` if it is a `credential:NAME`',
  },
}

/** @returns null when the text is no error code: some reasons are words */
export function remedyOf(code: string | null): Remedy | null {
  const known = ERROR_CODES.find((one) => one === code)
  return known === undefined ? null : REMEDIES[known]
}
