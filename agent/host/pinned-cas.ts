import { AgentError, messageOf } from '../cert/errors.ts'
import { parseCaKeys, type PublicKey } from '../cert/public-key.ts'
import { reasonOf } from '../cert/text.ts'
import type { Log, PinnedCas } from '../renewal/ports.ts'
import { readBoundedFile, SMALL_FILE_BYTES, fileVersion } from './files.ts'

interface PinnedCasOptions {
  /** CA keys, one a line; null when the configuration pins none. */
  readonly path: string | null
  readonly log: Pick<Log, 'error'>
}

/** The CA keys of `verify.host_ca_file`, read anew when the file changes; once read they are never lost. */
export function createPinnedCas({ path, log }: PinnedCasOptions): PinnedCas {
  let cached: { readonly version: string; readonly keys: readonly PublicKey[] } | null = null

  let complaint = ''

  const readAnew = async (file: string): Promise<readonly PublicKey[]> => {
    // Taken before the content: a change in between is then read at the next call.
    const version = await versionOf(file)
    if (cached?.version === version) return cached.keys
    const keys = await readCaKeys(file)
    cached = { version, keys }
    complaint = ''
    return keys
  }

  const read = async (): Promise<readonly PublicKey[] | null> => {
    if (path === null) return null
    try {
      return await readAnew(path)
    } catch (error) {
      if (!(error instanceof AgentError)) throw error
      const failure = new AgentError('CONFIG_INVALID', `verify.host_ca_file: ${error.message}`, {
        cause: error,
      })
      if (cached === null) throw failure
      // CAs that were pinned stay in force until others are pinned; logged once.
      if (complaint !== failure.message)
        log.error({ code: failure.code }, `${failure.message}; the CAs pinned before are kept`)
      complaint = failure.message
      return cached.keys
    }
  }
  return { read }
}

/**
 * Read a file of CA keys, one a line.
 *
 * @returns at least one
 * @throws AgentError CONFIG_INVALID that names the file and what is wrong with it
 */
export async function readCaKeys(path: string): Promise<readonly PublicKey[]> {
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

async function versionOf(path: string): Promise<string> {
  try {
    return await fileVersion(path)
  } catch (error) {
    throw invalid(path, reasonOf(error), error)
  }
}

function invalid(path: string, why: string, cause?: unknown): AgentError {
  return new AgentError('CONFIG_INVALID', `${path}: ${why}`, { cause })
}
