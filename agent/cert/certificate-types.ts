/**
 * Certificate types by the plain type of the key that they certify: PROTOCOL.certkeys, and `ssh -Q key` of OpenSSH 9.2 to
 * 10.6. A list, not a suffix: not every type ends in `-cert-v01@openssh.com`.
 */
const CERTIFICATE_TYPES = new Map(
  Object.entries({
    'ssh-ed25519': 'ssh-ed25519-cert-v01@openssh.com',
    'ssh-rsa': 'ssh-rsa-cert-v01@openssh.com',
    'ssh-dss': 'ssh-dss-cert-v01@openssh.com',
    'ecdsa-sha2-nistp256': 'ecdsa-sha2-nistp256-cert-v01@openssh.com',
    'ecdsa-sha2-nistp384': 'ecdsa-sha2-nistp384-cert-v01@openssh.com',
    'ecdsa-sha2-nistp521': 'ecdsa-sha2-nistp521-cert-v01@openssh.com',
    'sk-ssh-ed25519@openssh.com': 'sk-ssh-ed25519-cert-v01@openssh.com',
    'sk-ecdsa-sha2-nistp256@openssh.com': 'sk-ecdsa-sha2-nistp256-cert-v01@openssh.com',
    'ssh-mldsa44-ed25519': 'ssh-mldsa44-ed25519-cert',
    'ssh-mldsa44-ed25519@openssh.com': 'ssh-mldsa44-ed25519-cert-v01@openssh.com',
  }),
)

const PLAIN_TYPES = new Map([...CERTIFICATE_TYPES].map(([plain, type]) => [type, plain]))

/** The type of a certificate for a key of this plain type; null for a type that OpenSSH does not certify. */
export function certificateTypeOf(keyType: string): string | null {
  return CERTIFICATE_TYPES.get(keyType) ?? null
}

/** The plain type of the key in a certificate of this type; null when this is not the type of a certificate. */
export function plainTypeOf(certificateType: string): string | null {
  return PLAIN_TYPES.get(certificateType) ?? null
}

/** How the file of a certificate ends. */
export const CERTIFICATE_SUFFIX = '-cert.pub'

/** `ssh_host_ed25519_key-cert.pub`: the file of a host key's certificate, as ssh-keygen(1) calls it. */
export function certificateFileOf(hostKeyName: string): string {
  return hostKeyName + CERTIFICATE_SUFFIX
}
