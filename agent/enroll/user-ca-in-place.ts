import { AgentError } from '../cert/errors.ts'
import { reasonOf } from '../cert/text.ts'
import { parseTime } from '../cert/time.ts'
import { linesOf, readDirectives, type SshdDirective } from '../host/sshd-directives.ts'
import { USER_CA_STATUS_FILE, type UserCaStatus } from '../host/user-ca-status.ts'
import type { FileState } from './change.ts'
import { readFileState } from './files.ts'
import { describe } from './sshd-lines.ts'
import { USER_CA_DROP_IN, USER_CA_FILE } from './sshd-logins.ts'
import { keysIn, type UserCa } from './user-ca.ts'
import { SSHD_CONFIG } from './wanted.ts'

/** Which user CAs sshd trusts now. Nothing here writes. */

/** Where the user CAs are kept; a test has places of its own. */
export interface UserCaPlaces {
  readonly sshdConfig: string
  readonly file: string
  readonly dropIn: string
  readonly status: string
  /** Of the lock that the root helper takes too. */
  readonly lockFolder: string
}

export const USER_CA_PLACES: UserCaPlaces = {
  sshdConfig: SSHD_CONFIG,
  file: USER_CA_FILE,
  dropIn: USER_CA_DROP_IN,
  status: USER_CA_STATUS_FILE,
  lockFolder: '/run/hostcertd-reload',
}

/** @throws AgentError STORE_FAILED when it is not known what is there */
export async function readState(path: string): Promise<FileState | null> {
  try {
    return await readFileState(path)
  } catch (error) {
    throw new AgentError('STORE_FAILED', `cannot read ${path}: ${reasonOf(error)}`, { cause: error })
  }
}

/**
 * The CAs in place.
 *
 * @param noted what the status says about them
 * @returns `skipped`: the numbers of lines that hold no key
 * @throws AgentError STORE_FAILED when it is not known which they are
 */
export async function readKnown(
  { file }: Pick<UserCaPlaces, 'file'>,
  noted: UserCaStatus['cas'],
): Promise<KnownCas> {
  return knownIn(await readState(file), noted)
}

interface KnownCas {
  readonly known: readonly UserCa[]
  readonly skipped: readonly number[]
}

/** The same, of a file that was read already. */
export function knownIn(state: FileState | null, noted: UserCaStatus['cas']): KnownCas {
  const { keys, skipped } = keysIn(state?.content.toString('utf8') ?? '')
  const known = keys.map((key) => {
    const since = noted.find(({ fingerprint }) => fingerprint === key.fingerprint)?.unnamed_since ?? null
    return { key, unnamedSince: since === null ? null : parseTime(since) }
  })
  return { known, skipped }
}

/** Those that are in force for all: of several, sshd uses the first. */
export async function trustLines(sshdConfig: string): Promise<readonly SshdDirective[]> {
  return linesOf(await readDirectives(sshdConfig), 'trustedusercakeys')
}

/**
 * Whether sshd uses the file of the CAs: of several `TrustedUserCAKeys` lines it uses the first.
 *
 * @returns `problem`: what wins instead; `notes`: lines below `Match`, which win for those whom they match
 */
export async function readEffect({ sshdConfig, file, dropIn }: UserCaPlaces): Promise<{
  readonly problem: string | null
  readonly notes: readonly string[]
}> {
  const lines = (await readDirectives(sshdConfig)).filter(({ keyword }) => keyword === 'trustedusercakeys')
  const first = lines.find(({ inMatch }) => !inMatch)
  const notes = lines
    .filter(({ inMatch, value }) => inMatch && value !== file)
    .map((line) => `${describe(line)} is below a Match line, and replaces the user CAs of hostcertd there`)
  if (first?.value === file) return { problem: null, notes }
  const problem =
    first === undefined
      ? `sshd does not read ${dropIn}; add this line at the top of ${sshdConfig}, and reload sshd: Include ${dropIn}`
      : `${describe(first)} is read first, so sshd does not use the user CAs in ${file}; remove that line, and reload sshd`
  return { problem, notes }
}
