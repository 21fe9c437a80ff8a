import { localFailure } from '../failures.ts'
import {
  type Authenticator,
  credentialFailure,
  isToken,
  readCredential,
  type ReadCredentialFile,
  type TokenAnswer,
} from './credential-file.ts'

/** An access token that an administrator made, in a file that is read anew each time. There is no login. */
export class AccessTokenFile implements Authenticator {
  readonly #path: string
  readonly #readFile: ReadCredentialFile

  constructor(path: string, readFile: ReadCredentialFile) {
    this.#path = path
    this.#readFile = readFile
  }

  async token(_refused: string | null, signal: AbortSignal): Promise<TokenAnswer> {
    signal.throwIfAborted()
    try {
      const token = await readCredential(this.#path, 'access token', this.#readFile)
      if (isToken(token)) return { kind: 'token', token }
      const message = `the access token in ${this.#path} is not one word of printable characters`
      return { kind: 'failed', failure: localFailure('CREDENTIAL_UNREADABLE', 'administrator', message) }
    } catch (error) {
      return { kind: 'failed', failure: credentialFailure(error) }
    }
  }
}
