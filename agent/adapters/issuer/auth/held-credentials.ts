import type { Login } from '../../../core/login.ts'
import { readCredentialFile, type ReadCredentialFile } from './credential-file.ts'

/**
 * Read every credential file that this way of logging in names, now, while we still may: a verb that root runs becomes
 * somebody else before it logs in. What they hold stays in memory only.
 *
 * @returns reads from memory; a file that could not be read fails when it is asked for, for it may never be
 */
export async function holdCredentials(auth: Login): Promise<ReadCredentialFile> {
  const paths = credentialFiles(auth)
  const read = await Promise.allSettled(paths.map(async (path) => readCredentialFile(path)))
  const held = new Map(paths.map((path, index) => [path, read[index]]))
  return async (path) => {
    const result = held.get(path)
    if (result === undefined) return readCredentialFile(path)
    if (result.status === 'rejected') throw result.reason
    return result.value
  }
}

function credentialFiles(auth: Login): readonly string[] {
  switch (auth.method) {
    case 'universal-auth':
      return [auth.clientSecretFile, ...('file' in auth.clientId ? [auth.clientId.file] : [])]
    case 'token':
      return [auth.tokenFile]
  }
}
