import * as fs from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AgentError } from '../cert/errors.ts'
import { type PublicKey, publicKeyText } from '../cert/public-key.ts'
import { oneLine, reasonOf } from '../cert/text.ts'
import { formatTime } from '../cert/time.ts'
import { isGone, makeFolder, readBoundedFile, replaceFile } from '../host/files.ts'
import { createPassLock } from '../host/lock.ts'
import { findProgram, runProgram } from '../host/programs.ts'
import { isNone } from '../host/sshd-directives.ts'
import { makeRuntimeFolder, type SshdCheck, SshdConfiguration } from '../host/sshd-files.ts'
import type { UserCaStatus } from '../host/user-ca-status.ts'
import type { FileState } from './change.ts'
import { putFileState } from './files.ts'
import { PUBLIC } from './plan-files.ts'
import { describe } from './sshd-lines.ts'
import { readState, trustLines, USER_CA_PLACES, type UserCaPlaces } from './user-ca-in-place.ts'
import { keysIn, type UserCa, userCaText } from './user-ca.ts'

const FOLDER_MODE = 0o755
/** The helper has 30 s for all that it does. */
const LOCK_MILLISECONDS = 35_000
const KEYGEN_MILLISECONDS = 5_000
/** Of a line. */
const LONGEST_KEY_BYTES = 16 * 1024

/**
 * Take the lock of sshd's configuration, which the root helper takes too.
 *
 * @returns what releases it
 * @throws AgentError STORE_FAILED when it is not free in time; the signal's reason
 */
export async function lockSshd(
  signal: AbortSignal,
  folder = USER_CA_PLACES.lockFolder,
): Promise<() => Promise<void>> {
  return createPassLock({ stateDirectory: folder }).acquire(LOCK_MILLISECONDS, signal)
}

/** The drop-in, which never changes: a CA that comes or goes changes only the file that it names. */
export function userCaDropIn({ file }: Pick<UserCaPlaces, 'file'>): string {
  return `# Written by hostcertd (user_ca.install); changes are lost.\nTrustedUserCAKeys ${file}\n`
}

/** As the status says it. */
export function documentOf({ key, unnamedSince }: UserCa): UserCaStatus['cas'][number] {
  return { fingerprint: key.fingerprint, unnamed_since: formatTime(unnamedSince) }
}

/** @throws AgentError STORE_FAILED when it is not known */
export async function isDropInInPlace({ file, dropIn }: UserCaPlaces): Promise<boolean> {
  return isInPlace(await readState(dropIn), userCaDropIn({ file }))
}

/** Whether a file is exactly as it is to be, and root's. */
function isInPlace(state: FileState | null, text: string): boolean {
  return (
    state !== null &&
    state.content.equals(Buffer.from(text)) &&
    state.mode === PUBLIC &&
    state.uid === process.geteuid?.()
  )
}

/** @throws AgentError STORE_FAILED */
export async function write(path: string, text: string): Promise<void> {
  try {
    await makeFolder(dirname(path), FOLDER_MODE)
    await replaceFile(path, text, PUBLIC)
  } catch (error) {
    throw new AgentError('STORE_FAILED', `cannot write ${path}: ${reasonOf(error)}`, { cause: error })
  }
}

/**
 * Whether OpenSSH accepts a key as well: what it does not accept sshd would skip.
 *
 * @param folder of root's own, for a file while it is examined
 * @throws AgentError USER_CA_INVALID; STORE_FAILED when ssh-keygen could not be asked
 */
export async function requireKeygenAccepts(
  key: PublicKey,
  folder: string,
  signal: AbortSignal,
): Promise<void> {
  const text = publicKeyText(key)
  if (text.length > LONGEST_KEY_BYTES)
    throw new AgentError('USER_CA_INVALID', `the user CA ${key.fingerprint} is longer than 16 KiB`)
  const path = join(folder, 'user-ca-candidate.pub')
  await write(path, `${text}\n`)
  try {
    const { status, failure, stdout, stderr } = await runProgram(['ssh-keygen', '-l', '-f', path], {
      timeoutMilliseconds: KEYGEN_MILLISECONDS,
      environment: { LC_ALL: 'C', PATH: process.env['PATH'] ?? '' },
      signal,
    })
    if (failure !== null)
      throw new AgentError('STORE_FAILED', `the user CA ${key.fingerprint} was not examined: ${failure}`)
    const lines = stdout.trimEnd().split('\n')
    if (status === 0 && lines.length === 1 && lines[0]?.split(' ')[1] === key.fingerprint) return
    const why = oneLine(stderr.trim() || stdout.trim()) || `exit status ${status}`
    throw new AgentError('USER_CA_INVALID', `ssh-keygen does not accept ${key.fingerprint}: ${why}`)
  } finally {
    await fs.rm(path, { force: true })
  }
}

/**
 * Put the file of the CAs in place, and the drop-in that names it, if sshd accepts that and nobody's CA is lost by it.
 * Under the lock that the root helper takes, so that neither tests or reloads what the other one has half done. The file
 * comes first: there is never a drop-in without it.
 *
 * @param isUntested whether a drop-in that is there may be one that was never tested
 * @param signal ends the wait for the lock; what has begun is brought to its end
 * @throws AgentError STORE_FAILED, SSHD_CONFIG_INVALID; the drop-in is as it was then
 */
export async function installUserCas(
  cas: readonly UserCa[],
  places: UserCaPlaces,
  isUntested: boolean,
  signal: AbortSignal,
): Promise<void> {
  const text = userCaText(cas)
  const release = await lockSshd(signal, places.lockFolder)
  try {
    if (!isInPlace(await readState(places.file), text)) await write(places.file, text)
    await installDropIn(cas, places, isUntested)
  } finally {
    await release()
  }
}

async function installDropIn(
  cas: readonly UserCa[],
  { sshdConfig, file, dropIn }: UserCaPlaces,
  isUntested: boolean,
): Promise<void> {
  const text = userCaDropIn({ file })
  const before = await readState(dropIn)
  const isThere = isInPlace(before, text)
  if (isThere && !isUntested) return
  if (!isThere) {
    const already = await checkSshd(sshdConfig)
    if (already.kind !== 'ok') {
      const message = `sshd -t fails, so ${dropIn} was not written: ${already.why}`
      throw new AgentError('SSHD_CONFIG_INVALID', message)
    }
    await write(dropIn, text)
  }
  const check = await checkSshd(sshdConfig)
  if (isThere && check.kind === 'unknown')
    throw new AgentError(
      'SSHD_CONFIG_INVALID',
      `it is not known whether sshd accepts ${dropIn}: ${check.why}`,
    )
  if (isThere && check.kind !== 'ok') await requireOther(sshdConfig, dropIn, text)
  const why =
    check.kind === 'ok' ? await lostBy({ sshdConfig, file }, cas) : `sshd does not accept it: ${check.why}`
  if (why === null) return
  try {
    await putBack(dropIn, isThere ? null : before)
  } catch (error) {
    const message = `${why}; and ${dropIn} cannot be taken back: ${reasonOf(error)}`
    throw new AgentError('SSHD_CONFIG_INVALID', message, { cause: error })
  }
  throw new AgentError('SSHD_CONFIG_INVALID', `${dropIn} was taken back: ${why}`)
}

/** As root's, whoever it belonged to: sshd reads it as root, and the unit may not give files away. */
async function putBack(dropIn: string, state: FileState | null): Promise<void> {
  if (state === null) await putFileState(dropIn, null, fs)
  else await replaceFile(dropIn, state.content, state.mode)
}

/** @throws AgentError SSHD_CONFIG_INVALID if it is not because of the drop-in, which stays then */
async function requireOther(sshdConfig: string, dropIn: string, text: string): Promise<void> {
  await putBack(dropIn, null)
  const without = await checkSshd(sshdConfig)
  if (without.kind === 'ok') return
  await write(dropIn, text)
  throw new AgentError('SSHD_CONFIG_INVALID', `sshd -t fails: ${without.why}`)
}

const LARGEST_CA_FILE_BYTES = 1024 * 1024

/** A line whose CAs sshd uses no more once it reads the drop-in first; null: there is none. */
async function lostBy(
  { sshdConfig, file }: Pick<UserCaPlaces, 'sshdConfig' | 'file'>,
  cas: readonly UserCa[],
): Promise<string | null> {
  const [first, ...others] = await trustLines(sshdConfig)
  if (first?.value !== file) return null
  for (const line of others) {
    if (line.value === file || isNone(line)) continue
    let text: string
    try {
      // As sshd does, through links.
      text = await readBoundedFile(line.value, LARGEST_CA_FILE_BYTES)
    } catch (error) {
      if (isGone(error)) continue
      return `${describe(line)} names CAs that cannot be read (${reasonOf(error)}), and logins by their certificates would end: remove that line, or set user_ca.install to false`
    }
    const { keys, skipped } = keysIn(text)
    const isKept = skipped.length === 0 && keys.every((key) => cas.some((ca) => ca.key.blob.equals(key.blob)))
    if (!isKept)
      return `${describe(line)} names other CAs, and logins by their certificates would end: remove that line, or set user_ca.install to false`
  }
  return null
}

async function checkSshd(file: string): Promise<SshdCheck> {
  const program = await findProgram('sshd')
  if (program === null) return { kind: 'unknown', why: 'there is no sshd on this host' }
  await makeRuntimeFolder()
  return new SshdConfiguration(program, file).check(new AbortController().signal)
}
