import { dirname } from 'node:path'
import { AgentError, messageOf } from '../cert/errors.ts'
import { loadConfig } from '../config/load.ts'
import { readConfigFiles } from '../config/read-files.ts'
import type { Change } from './change.ts'
import { settingIn } from './configuration.ts'
import type { Deletion } from './delete-host.ts'
import { isOfUserCa, userCaOutside } from './enroll-user-ca.ts'
import { type Left, placeOf } from './perform.ts'
import { isOfSshd } from './read-host.ts'
import { forgetHost, forgetUnanswered, unansweredText } from './registering.ts'
import { reloadByHand, UNDONE_CONFIGURATION } from './reload.ts'
import { agrees, isReadOnly, type Mode, type Step, stepsOf } from './show.ts'
import { USER_CA_DROP_IN, USER_CA_FILE } from './sshd-logins.ts'
import { CONFIG_FILE, type EnrollTools } from './wanted.ts'

export interface UnenrollOptions {
  readonly mode: Mode
  /** Logins by user certificate go on. */
  readonly keepsUserCa?: boolean
  /** Of the host at the issuer, in the end. */
  readonly deletion: Deletion | null
}

export interface Unenrolled {
  readonly changed: boolean
  readonly isDone: boolean
  readonly steps: readonly Step[]
  readonly left: readonly Left[]
}

/**
 * Take back what `enroll` did, the newest first; what others changed since stays, and is named. Once begun it goes on
 * whatever signal comes, and after a crash the next call goes on.
 *
 * @throws AgentError; the signal's reason
 */
export async function unenroll(
  { mode, deletion, keepsUserCa = false }: UnenrollOptions,
  { journal, person }: EnrollTools,
  signal: AbortSignal,
): Promise<Unenrolled> {
  const isKept = (change: Change): boolean =>
    change.kind === 'registration' || (keepsUserCa && isOfUserCa(change))
  const toUndo = (): Change[] =>
    journal.runs.flatMap((run) => run.changes).filter((change) => !isKept(change))
  const outside = keepsUserCa ? { changes: [], left: [], notes: [] } : await userCaOutside(journal.runs)
  const undone = [...outside.changes, ...toUndo()]
  const reload = missingReload(undone)
  const changes = [...reload, ...undone].toReversed()
  printLeft(outside.left, person)
  for (const note of outside.notes) person.print(`note: ${note}`)
  const steps = stepsOf(changes.map(reversed))
  const deletes = await willDelete(deletion, mode, signal)
  if (deletes !== null) steps.push(stepOfDeletion(deletes))
  const result = { changed: steps.length > 0, steps, left: outside.left }
  if (steps.length === 0) {
    if (!isReadOnly(mode)) await reportUnanswered({ journal, person })
    return { ...result, isDone: true }
  }
  const also = deletes === null ? '' : `, and ${questionOf(deletes)}`
  const question = `Take all of this back${also}?`
  if (!(await agrees(mode, changes.map(reversed), person, signal, question)))
    return { ...result, isDone: false }
  if (changes.some(isOfLogins)) {
    person.print(LOGINS_END)
    if (mode === 'ask' && !(await person.agrees('End logins by user certificate?', signal)))
      return { ...result, isDone: false }
  }
  signal.throwIfAborted()
  const adopted = [...reload, ...outside.changes]
  if (adopted.length > 0) await journal.adopt(adopted, [dirname(USER_CA_FILE)])
  const { left: notUndone, isReloadedByHand } = await journal.undoAll(isKept)
  const left = [...outside.left, ...notUndone]
  printLeft(notUndone, person)
  if (isReloadedByHand) person.print(reloadByHand(UNDONE_CONFIGURATION))
  if (changes.some(isOfLogins)) await reportSetting(person)
  await reportUnanswered({ journal, person })
  const rest = toUndo()
  const isStuck = !rest.every((change) => isReloadedByHand && placeOf(change) === USER_CA_FILE)
  if (isStuck)
    person.print('the journal keeps what failed: remove its cause, then run `hostcertd unenroll` again')
  else if (rest.length > 0) person.print('once sshd is reloaded, run `hostcertd unenroll` again')
  if (deletes === null) return { ...result, left, isDone: true }

  if (isStuck || outside.left.length > 0) {
    person.print(`the host ${deletes.hostId} is not deleted: first the rest has to be taken back`)
    return { ...result, left, isDone: true }
  }
  person.print(await deleteAtLast(deletes, person, signal))
  await forgetHost(journal, deletes.hostId)
  return { ...result, left, isDone: true }
}

function isOfLogins(change: Change): boolean {
  return change.kind === 'file' && change.path === USER_CA_DROP_IN
}

/** What `--keep-user-ca` kept is undone by a later call, but its reload left the journal with the rest. */
function missingReload(changes: readonly Change[]): readonly Change[] {
  const isThere = changes.some(({ kind }) => kind === 'sshd')
  // Alone, the file of the CAs needs none: sshd reads it at each login.
  const isNeeded = changes.some((change) => isOfSshd(change) && placeOf(change) !== USER_CA_FILE)
  return isNeeded && !isThere ? [{ kind: 'sshd', step: 'reload sshd' }] : []
}

function printLeft(left: readonly Left[], person: EnrollTools['person']): void {
  for (const { path, why } of left) person.print(`not taken back: ${path}: ${why}`)
}

/** Whoever set it by hand may have enabled the timer as well. */
async function reportSetting(person: EnrollTools['person']): Promise<void> {
  const { files } = await readConfigFiles(CONFIG_FILE)
  const setting = settingIn(files, ['user_ca', 'install'])
  if (setting?.value !== true) return
  const { kind } = await loadConfig({ path: CONFIG_FILE, environment: {}, checkPinnedCas: false })
  const next = kind !== 'not-enrolled' ? 'hostcertd-ca.timer, if it is enabled,' : 'the next enroll'
  person.print(`note: user_ca.install is still true in ${setting.file}: ${next} puts the user CA back`)
}

const LOGINS_END =
  'logins by user certificate end: whoever has no other way to log in to this host is locked out; --keep-user-ca keeps them'

/** Registrations that the issuer never answered: it may have the host, which this machine no longer is. */
async function reportUnanswered({ journal, person }: Pick<EnrollTools, 'journal' | 'person'>): Promise<void> {
  for (const hostname of await forgetUnanswered(journal)) person.print(unansweredText(hostname))
}

/**
 * Only delete a host at the issuer, from whatever machine.
 *
 * @throws AgentError; the signal's reason
 */
export async function deleteHost(
  { mode, deletion }: { readonly mode: Mode; readonly deletion: Deletion },
  person: EnrollTools['person'],
  signal: AbortSignal,
): Promise<Unenrolled> {
  const deletes = await willDelete(deletion, mode, signal)
  const steps = deletes === null ? [] : [stepOfDeletion(deletes)]
  const result = { changed: steps.length > 0, steps, left: [] }
  if (deletes === null || isReadOnly(mode)) return { ...result, isDone: deletes === null }
  const question = questionOf(deletes)
  if (mode === 'ask' && !(await person.agrees(`${question[0]?.toUpperCase()}${question.slice(1)}?`, signal)))
    return { ...result, isDone: false }
  person.print(await deletes.run(signal))
  return { ...result, isDone: true }
}

/** @returns null when there is nothing to delete, which only matters while nothing may be changed */
async function willDelete(
  deletion: Deletion | null,
  mode: Mode,
  signal: AbortSignal,
): Promise<Deletion | null> {
  return isReadOnly(mode) && deletion !== null && !(await deletion.isThere(signal)) ? null : deletion
}

function stepOfDeletion({ hostId, url }: Deletion): Step {
  return { step: `delete the host at ${url}`, changed: true, detail: hostId }
}

function questionOf({ hostId, url }: Deletion): string {
  return `delete the host ${hostId} at ${url}`
}

/** This host has forgotten by now how to log in. */
async function deleteAtLast(
  deletion: Deletion,
  person: EnrollTools['person'],
  signal: AbortSignal,
): Promise<string> {
  const { hostId, url, caFile } = deletion
  const trust = caFile === null ? '' : ` --ca-file ${caFile}`
  const again = `hostcertd unenroll --delete-host --host-id ${hostId} --url ${url}${trust} --admin-token-file FILE`
  try {
    return await deletion.run(signal)
  } catch (error) {
    // After a signal, the verb prints only its reason, even if the exchange, which receives the signal too, failed first.
    // So print this now.
    if (signal.aborted || !(error instanceof AgentError)) {
      person.print(
        `everything on this host was undone, but the host may still exist at the issuer; to delete it: ${again}`,
      )
      throw error
    }
    const message = `${messageOf(error)}; everything on this host was undone, but the host still exists at the issuer; to delete it: ${again}`
    throw new AgentError(error.code, message, { cause: error })
  }
}

function stepOf({ kind, step }: Change): string {
  return kind === 'sshd' ? step : `take back: ${step}`
}

function reversed(change: Change): Change {
  const step = stepOf(change)
  if (change.kind === 'file') return { ...change, step, before: change.after, after: change.before }
  if (change.kind === 'folder') return { ...change, step, before: change.after, after: change.before }
  return { ...change, step }
}
