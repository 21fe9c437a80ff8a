import { AgentError } from '../../cert/errors.ts'
import { reasonOf } from '../../cert/text.ts'
import type { IssuerConfig, Login } from '../../config/config.ts'
import { readBoundedFile } from '../../host/files.ts'
import type { IssuerFailure } from '../../renewal/ports.ts'
import { localFailure } from '../failures.ts'
import type { Secrets } from '../secrets.ts'

/** A token is a few KiB at most; an HTTP header of more than 16 KiB is refused anyway. */
const LIMIT_BYTES = 16 * 1024

/** What is in a credential file. */
export type ReadCredentialFile = (path: string) => Promise<string>

/** From the disk, anew at each call: it may have been replaced. */
export const readCredentialFile: ReadCredentialFile = async (path) => readBoundedFile(path, LIMIT_BYTES)

/** What may stand in an `Authorization` header: no blank, no control. */
const TOKEN = /^[\x21-\x7e]+$/

/**
 * Read a credential.
 *
 * @param what its name in messages, `client secret`
 * @returns without the newlines at its end
 * @throws AgentError CREDENTIAL_UNREADABLE, also when nothing is in it
 */
export async function readCredential(
  path: string,
  what: string,
  read: ReadCredentialFile = readCredentialFile,
): Promise<string> {
  let text: string
  try {
    text = (await read(path)).replace(/[\r\n]+$/, '')
  } catch (error) {
    throw new AgentError(
      'CREDENTIAL_UNREADABLE',
      `cannot read the ${what} from ${path}: ${reasonOf(error)}`,
      {
        cause: error,
      },
    )
  }
  if (text.trim() === '') throw new AgentError('CREDENTIAL_UNREADABLE', `the ${what} file ${path} is empty`)
  return text
}

/** Whether a text can be sent as a bearer token. */
export function isToken(text: string): boolean {
  return TOKEN.test(text)
}

/** As a value, for what {@link readCredential} threw; anything else is thrown on. */
export function credentialFailure(error: unknown): IssuerFailure {
  if (error instanceof AgentError) return localFailure(error.code, 'local', error.message)
  throw error
}

export type TokenAnswer =
  | { readonly kind: 'token'; readonly token: string }
  | { readonly kind: 'failed'; readonly failure: IssuerFailure }

/** The way to an access token. One for each `auth.method`. */
export interface Authenticator {
  /**
   * An access token to use now. Kept in memory at most.
   *
   * @param refused the token that the issuer has just refused, null otherwise: then another one is fetched, once.
   *   The same one again means that there is no other
   * @returns `failed` with what to do next. Rejects only when `signal` fires
   */
  token(refused: string | null, signal: AbortSignal): Promise<TokenAnswer>
}

/** An access token that an administrator made, in a file that is read anew each time. There is no login. */
export class AccessTokenFile implements Authenticator {
  readonly #path: string
  readonly #secrets: Secrets
  readonly #readFile: ReadCredentialFile

  constructor(path: string, secrets: Secrets, readFile: ReadCredentialFile) {
    this.#path = path
    this.#secrets = secrets
    this.#readFile = readFile
  }

  async token(_refused: string | null, signal: AbortSignal): Promise<TokenAnswer> {
    signal.throwIfAborted()
    try {
      const token = await readCredential(this.#path, 'access token', this.#readFile)
      this.#secrets.add(token)
      if (isToken(token)) return { kind: 'token', token }
      const message = `the access token in ${this.#path} is not one word of printable characters`
      return { kind: 'failed', failure: localFailure('CREDENTIAL_UNREADABLE', 'local', message) }
    } catch (error) {
      return { kind: 'failed', failure: credentialFailure(error) }
    }
  }
}

/**
 * Read every credential file that the login names, now: a verb that root runs becomes another user before it logs in.
 * Their content stays in memory only.
 *
 * @returns reads from memory; a file that could not be read fails when it is asked for, for it may never be
 */
export async function holdCredentials(issuer: IssuerConfig): Promise<ReadCredentialFile> {
  const paths = issuer.kind === 'http' ? credentialFiles(issuer.auth) : []
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
