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

/** An issued certificate with a flaw is never installed; one on disk is renewed. */
const REPLACED =
  'If it is on disk, it is replaced automatically. If the issuer sent it, nothing was installed'
const CHECK_CA = `${REPLACED}: check the CA and this host's settings at the issuer`

/**
 * Every code that a log line, a status document or an exit can carry, with its texts: `status`, the status page and
 * `doctor` show them, and `npm run docs` writes them into docs/errors.md, hostcertd(8) and the alerts. A code is stable;
 * its texts are not.
 */
export const ERRORS = {
  ISSUER_UNREACHABLE: {
    title: 'Issuer unreachable',
    cause:
      'The connection to the issuer failed (name resolution, network, firewall or TLS), or the program of `issuer.command` could not be started',
    remedy:
      "Try `curl -v` with the issuer's URL from this host. If a private CA signed its TLS certificate, set `issuer.ca_file`. If `issuer.command` is set, check that the program is executable",
  },
  ISSUER_TIMEOUT: {
    title: 'Issuer timed out',
    cause: 'The issuer, or the program that takes its place, did not respond in time',
    remedy:
      'Check the log of the issuer, and of any proxy or load balancer in front of it, and that no firewall drops the connection. hostcertd retries automatically',
  },
  ISSUER_BUSY: {
    title: 'Issuer busy or failing',
    cause: 'The issuer rate-limits this host (429), or has an internal problem (408, 5xx)',
    remedy:
      'hostcertd retries automatically. If 408 or 5xx persists, check the log of the issuer, and of any proxy in front of it. If 429 persists, request a higher rate limit: all hosts behind one address share it',
  },
  ISSUER_UNAUTHORIZED: {
    title: 'Login refused',
    cause: 'The issuer refused the login or the access token',
    remedy: 'Install a valid credential, then run `systemctl reload hostcertd`',
  },
  ISSUER_FORBIDDEN: {
    title: 'Not permitted',
    cause: 'The identity is not permitted to issue certificates for this host, or not from this address',
    remedy:
      "Ask an administrator of the issuer: if the message is about the address, allow the identity to log in from this host's address; if it is about a client certificate, exempt this host at the server in front of the issuer, or correct `issuer.url`; otherwise make it a member of the host's project and grant it `issue-host-cert` on `ssh-hosts` for this host. A grant takes effect after about 10 s; then run `systemctl reload hostcertd` to retry",
  },
  ISSUER_NOT_FOUND: {
    title: 'Host or route not found',
    cause: 'The issuer has no such SSH host, or no such route',
    remedy: 'Check `issuer.ssh_host_id` and `issuer.url`. If the host was deleted, register it again',
  },
  ISSUER_REJECTED: {
    title: 'Request rejected',
    cause: 'The issuer rejected the public key or the request',
    remedy:
      'The message gives the reason. Infisical signs RSA, ED25519, ECDSA P-256 and P-384 keys; a key of another type that the issuer rejects is ignored. Remove other keys that it does not accept from `host_keys`',
  },
  ISSUER_INVALID_RESPONSE: {
    title: 'Invalid response',
    cause:
      'The response is not from the issuer, or the program of `issuer.command` did not print a valid response',
    remedy:
      'Check `issuer.url`, and whether a proxy or a login page responds instead. If `issuer.command` is set, run the program manually',
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
    cause: 'The certificate is for a different key than this host key',
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
      'The certificate is signed by a CA that this host does not trust: neither a pinned CA nor, if none is pinned, the one that the issuer publishes',
    remedy:
      'If the CA was changed on purpose, add its public key to `verify.host_ca_file`, then run `systemctl reload hostcertd`. If not, find out who signed the certificate',
  },
  CERT_NO_PRINCIPALS: {
    title: 'No principals',
    cause: 'The certificate has no principals, so it would be valid for any host name',
    remedy: `${CHECK_CA}; it must have a host name there`,
  },
  CERT_PRINCIPALS_MISMATCH: {
    title: 'Principals missing',
    cause:
      'The certificate lacks a name that `verify.principals` requires, or has only names with upper-case letters, which no client accepts',
    remedy: 'Add the name at the issuer, in lower case, or remove it from `verify.principals`',
  },
  CERT_CRITICAL_OPTION: {
    title: 'Critical option',
    cause: 'The certificate has a critical option, which clients refuse in host certificates',
    remedy: CHECK_CA,
  },
  CERT_SIGNATURE_ALGORITHM: {
    title: 'Signed with SHA-1',
    cause: 'The certificate is signed with RSA and SHA-1, which clients refuse',
    remedy: 'Configure the CA to sign with rsa-sha2-256 or rsa-sha2-512, or use an ED25519 CA key',
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
      'hostcertd renews it automatically. If this persists, see the last error, and check the clock with `timedatectl`',
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
      'As root, recreate the public key file: `ssh-keygen -y -f KEY > KEY.pub`. It must be world-readable',
  },
  HOST_KEY_UNSUPPORTED: {
    title: 'Key type not supported',
    cause: 'This version of hostcertd cannot verify keys of this type',
    remedy:
      'No action is needed if another host key is served. Otherwise, add a key of another type, and check that `host_keys` matches it',
  },
  STORE_FAILED: {
    title: 'File access failed',
    cause: 'A file could not be read, written or locked',
    remedy: 'Check the owner and mode of the path in the message, and the free space on its file system',
  },
  SSHD_CONFIG_INVALID: {
    title: 'sshd configuration invalid',
    cause:
      "`sshd -t` fails, or the configuration of sshd does not include hostcertd's lines; sshd was not reloaded and keeps its previous configuration",
    remedy:
      'Run `sshd -t` as root, and fix the problems that it and the message report; hostcertd then continues automatically',
  },
  SSHD_RELOAD_FAILED: {
    title: 'sshd not reloaded',
    cause: 'sshd could not be reloaded',
    remedy: 'The message gives the reason. Try `systemctl reload ssh` (or `sshd`) as root',
  },
  SSHD_NOT_SERVING: {
    title: 'Certificate not served',
    cause: 'sshd presents no certificate, or a different one than on disk',
    remedy:
      "Run `hostcertd doctor`: it reports which line of sshd's configuration to change. `sshd -T` shows `HostCertificate`, `HostKey` and `HostKeyAlgorithms`",
  },
  SSHD_UNREACHABLE: {
    title: 'sshd did not answer',
    cause: 'sshd did not respond, and has not been seen to present this certificate before',
    remedy: 'Start sshd if it is down, or correct `sshd.address`. `hostcertd status` shows the reason',
  },
  CONFIG_INVALID: {
    title: 'Invalid configuration',
    cause: 'The configuration has errors',
    remedy:
      'Fix the problem in the message; `hostcertd config validate` lists every problem. Then run `systemctl reload-or-restart hostcertd`',
    exitStatus: 78,
  },
  LOGIN_LOCKED: {
    title: 'Identity locked',
    cause:
      'The issuer locked this login after several refused attempts, by this host or by another host that uses it',
    remedy:
      'Find the host with the wrong secret, and install a valid one. The lock expires after about five minutes; hostcertd then retries automatically',
  },
  LOGIN_PLATFORM: {
    title: 'No proof of identity',
    cause:
      "The host's platform (cloud, Kubernetes, SPIFFE or the program that supplies a JWT) gave no proof of identity, or the issuer reports that the platform refused it",
    remedy:
      'The message names what is missing. If this host has no proof, the issuer was not asked, and each pass tries again; if the issuer reports the refusal, the waits are those of a refused login. `hostcertd doctor` shows which identity the proof is for, and what to check',
  },
  MACHINE_COPIED: {
    title: 'Machine copied',
    cause:
      "This machine was copied after it was enrolled: its machine-id, or its platform's instance id, differs from the one recorded at enrollment",
    remedy:
      'If this machine is to keep its enrollment, run `hostcertd enroll --yes` as root, which accepts it as it is. If it is a copy, give it a machine-id and host keys of its own, and enroll it as a host of its own',
  },
  CREDENTIAL_UNREADABLE: {
    title: 'Credential unreadable',
    cause: 'A credential file is missing, empty, not readable or not of the right form',
    remedy:
      'Correct the file in the message (a token, password or id is one line; a key is in PEM or JSON form), and make it readable by the user `hostcertd-exchange` (without the package, by the user that runs hostcertd); then run `systemctl reload hostcertd`',
  },
  USER_CA_INVALID: {
    title: 'User CA invalid',
    cause:
      'The issuer did not respond with one public key of a user CA, or it names one that `user_ca.fingerprints` does not list or that `user_ca.revoked` lists; no key was added',
    remedy:
      'Check the user CA of this host at the issuer, and whether a proxy or a login page responds instead. If the CA is listed in `user_ca.revoked`, replace it at the issuer. If it was changed on purpose, add its fingerprint to `user_ca.fingerprints`. Then run `hostcertd ca refresh --now` as root',
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
  cause: 'Connections to the last known address of sshd are refused',
  remedy: 'Start sshd: `systemctl start ssh` (or `sshd`). If it listens elsewhere, correct `sshd.address`',
}

export const CLOCKS_DIFFER: Explanation = {
  title: 'The clocks differ',
  cause:
    'The clock of this host or of the issuer is wrong, usually that of this host. New certificates may appear expired or not yet valid',
  remedy: 'Set the clock and keep it synchronised: `timedatectl set-ntp true`, or chrony',
}

export const UPPER_CASE: Explanation = {
  title: 'Host name with upper-case letters',
  cause:
    'A name or alias of this host is registered at the issuer with upper-case letters, or the program of `issuer.command` requests such a name',
  remedy:
    'Change it to lower case at the issuer, or in that program, and in `verify.principals` if it is there; if you registered the host anew, run `hostcertd enroll --host-id ID`. Then run `systemctl reload hostcertd`, and `hostcertd renew --force`',
}

/** A failure as a value: what happened and the words for a person. Lower case, no full stop. */
export interface Failure {
  readonly code: ErrorCode
  readonly message: string
}

/** The thrown form of a {@link Failure}, for failures that end the operation. */
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
