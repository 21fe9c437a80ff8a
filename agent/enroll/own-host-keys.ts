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

/**
 * Ids of hosts in certificates that lie where sshd or another agent has them. Only host certificates for a key of this
 * machine count: any other was left over from another machine.
 */
export async function idsInCertificates(keys: readonly OwnHostKey[]): Promise<readonly string[]> {
  const ids: string[] = []
  for (const pattern of ['/etc/ssh/hostcertd/*-cert.pub', '/etc/ssh/*-cert.pub']) {
    for (const path of await pathsMatching(pattern)) {
      const parsed = tryParse(await readBoundedFile(path, SMALL_FILE_BYTES).catch(() => ''))
      if (!parsed.ok || parsed.certificate.kind !== 'host') continue
      const { keyId, publicKey } = parsed.certificate
      const id = hostIdIn(keyId)
      if (id !== null && keys.some(({ key }) => key.blob.equals(publicKey.blob))) ids.push(id.toLowerCase())
    }
  }
  return [...new Set(ids)]
}
