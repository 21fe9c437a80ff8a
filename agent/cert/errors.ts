/** The explanation of a failure or a condition for a person: whole sentences without a full stop at the end. */
export interface Explanation {
  /** A short name, as a heading. */
  readonly title: string
  /** What is wrong. */
  readonly cause: string
  /** What to do about it. Commands, settings and codes are between backticks. */
  readonly remedy: string
}

/** One entry of {@link ERRORS}. */
export interface ErrorEntry extends Explanation {
  /**
   * Exit status of `run` and `config validate` when they end with this code. Absent: 1. Other verbs have one exit status
   * for all codes.
   */
  readonly exitStatus?: number
}

/** What is wrong with an issued certificate is found before it is installed; one on disk is renewed. */
const REPLACED =
  'If it is on disk, it is replaced automatically. If the issuer sent it, nothing was installed'
const CHECK_CA = `${REPLACED}: check the CA and this host's settings at the issuer`

/**
 * Every code that a log line, a status document or an exit can carry, and what people are told about it: by `status`,
 * the status page and `doctor` as they run; in docs/errors.md, hostcertd(8) and the alerts through `npm run docs`. A code
 * is stable; its words are not.
 */
export const ERRORS = {
  ISSUER_UNREACHABLE: {
    title: 'Issuer unreachable',
    cause:
      'There is no connection to the issuer: name resolution, network, firewall or TLS; or the program of `issuer.command` cannot be started',
    remedy:
      "Try `curl -v` with the issuer's URL from this host. If a private CA signed its TLS certificate, set `issuer.ca_file`. Check that the program of `issuer.command` can be run",
  },
  ISSUER_TIMEOUT: {
    title: 'Issuer timed out',
    cause: 'The issuer accepted the request and did not answer within `issuer.timeout`',
    remedy:
      'Look at the log of the issuer, or of the proxy or load balancer in front of it. hostcertd retries automatically',
  },
  ISSUER_BUSY: {
    title: 'Issuer busy or failing',
    cause: 'The issuer limits the rate of requests (429), or it has a problem of its own (408, 5xx)',
    remedy:
      "hostcertd retries automatically. If 5xx or 408 persists, look at the issuer's log, or that of the proxy in front of it. If 429 persists, ask for a higher rate limit: all hosts behind one address share it",
  },
  ISSUER_UNAUTHORIZED: {
    title: 'Login refused',
    cause: 'The issuer refused the login or the access token',
    remedy: 'Put a valid credential in place, then `systemctl reload hostcertd`',
  },
  ISSUER_FORBIDDEN: {
    title: 'Not permitted',
    cause: 'The identity may not issue certificates for this host, or not from this address',
    remedy:
      "An administrator of the issuer must act: if the message is about the address, allow the identity to use this host's address; otherwise make it a member of the host's project and grant it `issue-host-cert` on `ssh-hosts` for this host. A grant takes effect after about 10 s; then `systemctl reload hostcertd` tries again",
  },
  ISSUER_NOT_FOUND: {
    title: 'Host or route not found',
    cause: 'The issuer has no such SSH host, or no such route',
    remedy: 'Check `issuer.ssh_host_id` and `issuer.url`. A host that was deleted must be registered again',
  },
  ISSUER_REJECTED: {
    title: 'Request rejected',
    cause: 'The issuer rejected the public key or the request',
    remedy:
      'The message has the reason. The issuer signs RSA, ED25519, ECDSA P-256 and P-384 keys; if it does not accept this one, remove it from `host_keys`',
  },
  ISSUER_INVALID_RESPONSE: {
    title: 'Invalid response',
    cause: 'The response is not from the issuer, or the program of `issuer.command` printed something else',
    remedy:
      'Check `issuer.url`, and whether a proxy or a login page answers in its place. Run the program of `issuer.command` by hand',
  },
  CERT_UNPARSABLE: {
    title: 'Certificate cannot be parsed',
    cause: 'The certificate is damaged, or is not an OpenSSH certificate',
    remedy: `${REPLACED}: check the issuer`,
  },
  CERT_NOT_HOST: {
    title: 'Not a host certificate',
    cause: 'It is a user certificate, not a host certificate',
    remedy: CHECK_CA,
  },
  CERT_KEY_MISMATCH: {
    title: 'Certificate for another key',
    cause: 'The certificate is for a different key, not for this host key',
    remedy:
      'This is normal right after a key change; if it persists, find out what else writes the certificate or the host key',
  },
  CERT_SIGNATURE_INVALID: {
    title: 'Invalid signature',
    cause: 'The signature of the certificate is not valid',
    remedy: CHECK_CA,
  },
  CERT_CA_MISMATCH: {
    title: 'Signed by another CA',
    cause:
      'The certificate is signed by a CA that this host does not trust: not the pinned one or, if none is pinned, not the one that the issuer names',
    remedy:
      'If the CA was changed on purpose, put its public key into `verify.host_ca_file`, then `systemctl reload hostcertd`. If not, find out who signed the certificate',
  },
  CERT_NO_PRINCIPALS: {
    title: 'No principals',
    cause: 'The certificate names no principals, so it would be valid for any host name',
    remedy: `${CHECK_CA}; the host needs a name there`,
  },
  CERT_PRINCIPALS_MISMATCH: {
    title: 'Principals missing',
    cause:
      'The certificate lacks a name that `verify.principals` requires, or has only names with upper-case letters, which no client accepts',
    remedy: 'Add the name at the issuer, in lower case, or remove it from `verify.principals`',
  },
  CERT_CRITICAL_OPTION: {
    title: 'Critical option',
    cause: 'The certificate has a critical option, and clients refuse such host certificates',
    remedy: CHECK_CA,
  },
  CERT_SIGNATURE_ALGORITHM: {
    title: 'Signed with SHA-1',
    cause: 'The certificate is signed with RSA and SHA-1, which clients refuse',
    remedy: 'Have the CA sign with rsa-sha2-256 or rsa-sha2-512, or give it an ED25519 key',
  },
  CERT_NOT_YET_VALID: {
    title: 'Not yet valid',
    cause: "By this host's clock, the certificate is not valid yet",
    remedy: 'Set the clock: `timedatectl` shows whether it is synchronised',
  },
  CERT_EXPIRED: {
    title: 'Expired',
    cause: "By this host's clock, the certificate has expired",
    remedy:
      'hostcertd asks for a new one automatically. If none comes, see the last error, and check the clock with `timedatectl`',
  },
  CERT_NOT_NEWER: {
    title: 'Not newer',
    cause: 'The issuer sent an old certificate instead of a new one',
    remedy: 'Check the issuer, and any cache between it and this host',
  },
  HOST_KEY_UNREADABLE: {
    title: 'Host key unreadable',
    cause: 'A public host key is missing, damaged or not readable',
    remedy:
      'As root, write the public half again: `ssh-keygen -y -f KEY > KEY.pub`. Everyone must be able to read it',
  },
  HOST_KEY_UNSUPPORTED: {
    title: 'Key type not supported',
    cause: 'The issuer does not sign keys of this type',
    remedy:
      'Nothing to do as long as another host key is served. Otherwise add a key of another type; `host_keys` names which are used',
  },
  STORE_FAILED: {
    title: 'File access failed',
    cause: 'A file could not be read, written or locked',
    remedy: 'The message names the path: check its owner and mode, and the free space on that disk',
  },
  SSHD_CONFIG_INVALID: {
    title: 'sshd configuration invalid',
    cause:
      "`sshd -t` fails, or sshd does not read hostcertd's lines; sshd was not reloaded and keeps its previous configuration",
    remedy:
      'Run `sshd -t` as root and fix what it and the message name; hostcertd then continues automatically',
  },
  SSHD_RELOAD_FAILED: {
    title: 'sshd not reloaded',
    cause: 'sshd could not be reloaded',
    remedy: 'The message has the reason. Try `systemctl reload ssh` (or `sshd`) as root',
  },
  SSHD_NOT_SERVING: {
    title: 'Certificate not served',
    cause: 'sshd presents a different certificate than the one on disk, or none',
    remedy:
      "Run `hostcertd doctor`: it names the line of sshd's configuration to change. `sshd -T` shows `HostCertificate`, `HostKey` and `HostKeyAlgorithms`",
  },
  SSHD_UNREACHABLE: {
    title: 'sshd did not answer',
    cause: 'sshd could not be asked, and was not seen to present this certificate before',
    remedy:
      'Start sshd if it is down, or correct `sshd.address`. `hostcertd status` shows why there was no answer',
  },
  CONFIG_INVALID: {
    title: 'Invalid configuration',
    cause: 'The configuration has errors',
    remedy:
      'Fix what the message names; `hostcertd config validate` lists every problem. Then `systemctl reload-or-restart hostcertd`',
    exitStatus: 78,
  },
  LOGIN_LOCKED: {
    title: 'Identity locked',
    cause:
      'The issuer locked this login after several refused attempts, by this host or by another that shares it',
    remedy:
      'Find the host with the wrong secret and put a valid one in place. The lock ends after about five minutes; hostcertd waits for that and tries again',
  },
  CREDENTIAL_UNREADABLE: {
    title: 'Credential unreadable',
    cause: 'A credential file is missing, empty or not readable',
    remedy:
      'Put one line into the file that the message names, and make it readable for the user `hostcertd-exchange`, on a host without the package for the user that runs hostcertd; then `systemctl reload hostcertd`',
  },
} as const satisfies Readonly<Record<string, ErrorEntry>>

export type ErrorCode = keyof typeof ERRORS

/** In the order of {@link ERRORS}. */
export const ERROR_CODES = Object.keys(ERRORS) as readonly ErrorCode[]

/** @returns null when the text is no error code: some reasons are words */
export function errorOf(code: string | null): ErrorEntry | null {
  const known = ERROR_CODES.find((one) => one === code)
  return known === undefined ? null : ERRORS[known]
}

/** Conditions that are no error of an attempt and have no code. */
export const SSHD_DOWN: Explanation = {
  title: 'sshd is down',
  cause: 'Nothing accepts connections where sshd was last known to listen',
  remedy: 'Start it: `systemctl start ssh` (or `sshd`). If it runs elsewhere, correct `sshd.address`',
}

export const CLOCKS_DIFFER: Explanation = {
  title: 'The clocks differ',
  cause:
    "One of the two clocks is wrong, usually this host's. New certificates may seem not yet valid, or expired",
  remedy: 'Set the clock and keep it synchronised: `timedatectl set-ntp true`, or chrony',
}

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

/** The message of anything thrown, without a stack. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
