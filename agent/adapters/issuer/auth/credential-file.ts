import { AgentError } from '../../../core/errors.ts'
import type { IssuerFailure } from '../../../renewal/ports.ts'
import { readBoundedFile } from '../../../system/bounded-file.ts'
import { reasonOf } from '../../../system/one-line.ts'
import { localFailure } from '../failures.ts'

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
  if (error instanceof AgentError) return localFailure(error.code, 'administrator', error.message)
  throw error
}
