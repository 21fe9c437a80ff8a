import { stat } from 'node:fs/promises'
import { AgentError, messageOf } from '../core/errors.ts'
import { parseCaKeys, type PublicKey } from '../core/public-key.ts'
import type { PinnedCas } from '../renewal/ports.ts'
import { readBoundedFile, SMALL_FILE_BYTES } from '../system/bounded-file.ts'
import { reasonOf } from '../system/one-line.ts'

export interface PinnedCasOptions {
  /** CA keys, one a line; null when the configuration pins none. */
  readonly path: string | null
}

/** The CA keys of `verify.host_ca_file`, read anew when the file changes. */
export function createPinnedCas({ path }: PinnedCasOptions): PinnedCas {
  let cached: { readonly version: string; readonly keys: readonly PublicKey[] } | null = null

  const read = async (): Promise<readonly PublicKey[] | null> => {
    if (path === null) return null
    // Taken before the content: a change in between is then read at the next call.
    const version = await versionOf(path)
    if (cached?.version === version) return cached.keys
    const keys = await readKeys(path)
    cached = { version, keys }
    return keys
  }
  return { read }
}

async function versionOf(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
    return [dev, ino, size, mtimeNs, ctimeNs].join(' ')
  } catch (error) {
    throw invalid(path, reasonOf(error), error)
  }
}

async function readKeys(path: string): Promise<PublicKey[]> {
  let text: string
  try {
    text = await readBoundedFile(path, SMALL_FILE_BYTES)
  } catch (error) {
    throw invalid(path, reasonOf(error), error)
  }
  let keys: PublicKey[]
  try {
    keys = parseCaKeys(text)
  } catch (error) {
    throw invalid(path, messageOf(error), error)
  }
  if (keys.length === 0) throw invalid(path, 'it holds no CA key')
  return keys
}

function invalid(path: string, why: string, cause?: unknown): AgentError {
  return new AgentError('CONFIG_INVALID', `verify.host_ca_file ${path}: ${why}`, { cause })
}
