import { join } from 'node:path'
import type { PublicKey } from '../../agent/cert/public-key.ts'
import { createPace } from '../../agent/host/machine.ts'
import { createServedCertificates } from '../../agent/host/served-certificates.ts'
import type { Presented } from '../../agent/renewal/ports.ts'
import type { SshdAnswer } from '../../agent/renewal/ports.ts'
import { keyIn } from '../cert/key-ring.ts'
import { generateKey } from '../support/ssh-keygen.ts'

export const never = new AbortController().signal
/** Servers of these tests do not punish anybody. */
export const noPace = createPace(1000, 1)

export async function ask(
  port: number,
  keys: readonly PublicKey[],
  more: { timeoutSeconds?: number; program?: string; host?: string } = {},
): Promise<SshdAnswer> {
  const { host = '127.0.0.1', ...options } = more
  const served = createServedCertificates({ address: { host, port }, pace: noPace, ...options })
  return await served.ask({ keys, listen: [] }, never)
}

/** With `address: auto`. */
export async function askAny(listen: readonly string[], keys: readonly PublicKey[]): Promise<SshdAnswer> {
  return await createServedCertificates({ address: 'auto', pace: noPace }).ask({ keys, listen }, never)
}

export function presentedTo(key: PublicKey, { presented }: SshdAnswer): Presented {
  const one = presented.get(key.fingerprint)
  if (one === undefined) throw new Error('no entry for the key')
  return one
}

export function reasonFor(key: PublicKey, answer: SshdAnswer): string {
  const one = presentedTo(key, answer)
  return one.kind === 'unknown' ? one.reason : `known: ${one.kind}`
}

/** A key that no server has. */
export async function strangeKey(
  folder: string,
  type: 'ed25519' | 'ecdsa-521' | 'rsa' = 'ed25519',
  name = `strange-${type}`,
): Promise<PublicKey> {
  return keyIn(await generateKey(join(folder, name), type))
}
