import { AgentError } from '../cert/errors.ts'
import { isIssuedKeyType, type PublicKey, readPublicKey } from '../cert/public-key.ts'
import { tryParse } from '../cert/verify-issued.ts'
import type { Config } from '../config/config.ts'
import { pathsMatching, readBoundedFile, SMALL_FILE_BYTES } from '../host/files.ts'
import { createHostKeys } from '../host/host-keys.ts'
import { privatePathsOf, readPrivateHalf } from '../host/key-pairs.ts'
import { hostIdIn } from '../issuer/host-questions.ts'

/** A host key of this machine that a certificate can be issued for. */
export interface OwnHostKey {
  /** Of its file, without `.pub`. */
  readonly name: string
  readonly key: PublicKey
  readonly comment: string
}

/**
 * By their public halves; also by the private ones whose public halves are missing, because enroll writes those.
 *
 * @throws the signal's reason
 */
export async function ownHostKeys(
  { hostKeys: patterns }: Pick<Config, 'hostKeys'>,
  signal: AbortSignal,
): Promise<readonly OwnHostKey[]> {
  const files = await createHostKeys({ patterns }).list()
  const keys = files.flatMap(({ name, content }) =>
    content.kind === 'key' && isIssuedKeyType(content.key.type)
      ? [{ name, key: content.key, comment: content.comment }]
      : [],
  )
  const lacking = (await privatePathsOf(patterns)).filter(
    (path) => !files.some((file) => file.path === `${path}.pub`),
  )
  for (const path of lacking) {
    const half = await readPrivateHalf(path, signal)
    if (half.kind !== 'read' || !isIssuedKeyType(half.type)) continue
    const { type, blob } = half
    keys.push({
      name: path.slice(path.lastIndexOf('/') + 1),
      key: readPublicKey({ type, blob }),
      comment: '',
    })
  }
  return keys
}

/** @throws AgentError HOST_KEY_UNREADABLE when there is none */
export function firstOf(keys: readonly OwnHostKey[], { hostKeys }: Pick<Config, 'hostKeys'>): OwnHostKey {
  const [first] = keys
  if (first !== undefined) return first
  throw new AgentError(
    'HOST_KEY_UNREADABLE',
    `no host key that the issuer signs matches ${hostKeys.join(', ')}`,
  )
}

/** A host certificate of the issuer's for a host key of this machine. */
export interface OwnCertificate {
  /** In lower case. */
  readonly hostId: string
  readonly principals: readonly string[]
}

/**
 * Those that lie where sshd or another agent has them. A certificate for a key of another machine was left over from
 * that, and is not among them.
 */
export async function ownCertificates(keys: readonly OwnHostKey[]): Promise<readonly OwnCertificate[]> {
  const found: OwnCertificate[] = []
  for (const pattern of ['/etc/ssh/hostcertd/*-cert.pub', '/etc/ssh/*-cert.pub']) {
    for (const path of await pathsMatching(pattern)) {
      const parsed = tryParse(await readBoundedFile(path, SMALL_FILE_BYTES).catch(() => ''))
      if (!parsed.ok || parsed.certificate.kind !== 'host') continue
      const { keyId, publicKey, principals } = parsed.certificate
      const hostId = hostIdIn(keyId)
      if (hostId !== null && keys.some(({ key }) => key.blob.equals(publicKey.blob)))
        found.push({ hostId, principals })
    }
  }
  return found
}
