import { join } from 'node:path'
import { parsePublicKeyLine, readPublicKey, type PublicKey } from '../../agent/cert/public-key.ts'
import { generateKey, type KeyType } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

/** Each kind of key that ssh-keygen makes, with its name on the wire. */
export const KEY_KINDS = [
  { kind: 'ed25519', type: 'ssh-ed25519' },
  { kind: 'ecdsa', type: 'ecdsa-sha2-nistp256' },
  { kind: 'ecdsa-384', type: 'ecdsa-sha2-nistp384' },
  { kind: 'ecdsa-521', type: 'ecdsa-sha2-nistp521' },
  { kind: 'rsa', type: 'ssh-rsa' },
] as const satisfies readonly { readonly kind: KeyType; readonly type: PublicKey['type'] }[]

/** Each way in which such a key, as a CA, signs; `option` is what `ssh-keygen -t` wants for it. */
export const CA_ALGORITHMS = [
  { ca: 'ed25519', algorithm: 'ssh-ed25519', option: undefined },
  { ca: 'ecdsa', algorithm: 'ecdsa-sha2-nistp256', option: undefined },
  { ca: 'ecdsa-384', algorithm: 'ecdsa-sha2-nistp384', option: undefined },
  { ca: 'ecdsa-521', algorithm: 'ecdsa-sha2-nistp521', option: undefined },
  { ca: 'rsa', algorithm: 'rsa-sha2-256', option: 'rsa-sha2-256' },
  { ca: 'rsa', algorithm: 'rsa-sha2-512', option: 'rsa-sha2-512' },
  { ca: 'rsa', algorithm: 'ssh-rsa', option: 'ssh-rsa' },
] as const

export interface RingKey {
  /** Of the private half. */
  readonly path: string
  /** The public key line. */
  readonly line: string
  readonly key: PublicKey
}

/** A host key and a CA of each kind, made by ssh-keygen. */
export interface KeyRing extends AsyncDisposable {
  readonly folder: string
  readonly host: Readonly<Record<KeyType, RingKey>>
  readonly ca: Readonly<Record<KeyType, RingKey>>
}

export async function makeKeyRing(): Promise<KeyRing> {
  const folder = await makeTemporaryFolder()
  const makeKeys = async (role: string): Promise<Record<KeyType, RingKey>> => {
    const one = async (kind: KeyType): Promise<RingKey> => {
      const path = join(folder.path, `${role}-${kind}`)
      const line = await generateKey(path, kind, `${role} key, ${kind}`)
      return { path, line, key: keyIn(line) }
    }
    const [ed25519, ecdsa, rsa, ecdsa384, ecdsa521] = await Promise.all([
      one('ed25519'),
      one('ecdsa'),
      one('rsa'),
      one('ecdsa-384'),
      one('ecdsa-521'),
    ])
    return { ed25519, ecdsa, rsa, 'ecdsa-384': ecdsa384, 'ecdsa-521': ecdsa521 }
  }
  try {
    return {
      folder: folder.path,
      host: await makeKeys('host'),
      ca: await makeKeys('ca'),
      [Symbol.asyncDispose]: () => folder.remove(),
    }
  } catch (error) {
    await folder.remove()
    throw error
  }
}

export function keyIn(line: string): PublicKey {
  return readPublicKey(parsePublicKeyLine(line))
}
