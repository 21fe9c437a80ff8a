import { createHash } from 'node:crypto'
import * as fs from 'node:fs/promises'
import { AgentError, messageOf } from '../cert/errors.ts'
import { reasonOf } from '../cert/text.ts'
import { ENROLLMENT_FILE, judgeCopied, readEnrollment, readMachineIdentity } from '../host/enrollment.ts'
import { pathsMatching } from '../host/files.ts'
import { privatePathsOf } from '../host/key-pairs.ts'
import { systemClock } from '../host/machine.ts'
import type { Clock } from '../renewal/ports.ts'
import type { Change } from './change.ts'
import { configuredHostKeys, refuseOneHost } from './current.ts'
import { enroll, type Enrolled } from './enroll.ts'
import { putFileState } from './files.ts'
import { optionsOf, readTemplate, RETURN_FILE, type Template, TEMPLATE_FILE } from './template.ts'
import { isUnfinished, undo } from './undoing.ts'
import type { EnrollTools } from './wanted.ts'

/** The number of attempts since the boot, in a folder that outlives each attempt. */
const ATTEMPTS_FILE = '/run/hostcertd-enroll/attempts'
/** More than the 30 s in which the issuer counts wrong secrets: three of them lock the identity. */
const SHORTEST_PAUSE_SECONDS = 31
const LONGEST_PAUSE_SECONDS = 300
const HOST_KEYS_SECONDS = 60
/** Host keys are made one after the other: when no new one appears for this long, all are there. */
const SETTLED_SECONDS = 3

export interface BootOptions {
  /** Left out: the machine's own. */
  readonly clock?: Clock
  /** A message, a line. */
  readonly log: (text: string) => void
  readonly openTools: (signal: AbortSignal) => Promise<EnrollTools & AsyncDisposable>
}

/**
 * `enroll --from-template`, run by hostcertd-enroll.service: enroll this copy of an image and remove the template; or
 * register a machine with `--ephemeral` again that was deleted at its power-off. First waits for its turn: a random part
 * of the jitter, or a pause that is longer after each failure.
 *
 * @returns null when there is nothing to do
 * @throws AgentError; the service then starts it again. The signal's reason; the next start waits for nothing
 */
export async function enrollAtBoot(
  { clock = systemClock, log, openTools }: BootOptions,
  signal: AbortSignal,
): Promise<Enrolled | null> {
  // First of all: whatever fails after that, the service starts this again within a second.
  const failed = await countAttempt()
  try {
    if (failed !== null && failed > 0) {
      const pause = pauseAfter(failed, clock)
      log(`attempt ${failed + 1} begins in ${Math.ceil(pause)} s`)
      await clock.sleep(pause * 1000, signal)
    }
    const enrolled = await attempt({ clock, log, openTools }, failed === null, signal)
    await fs.rm(ATTEMPTS_FILE, { force: true }).catch(() => undefined)
    return enrolled
  } catch (error) {
    // A person who stops the service and starts it again wants no pause.
    if (signal.aborted) await writeAttempts(0)
    throw error
  }
}

async function attempt(
  { clock, log, openTools }: Required<BootOptions>,
  isFirst: boolean,
  signal: AbortSignal,
): Promise<Enrolled | null> {
  const before = await readTask(log)
  if (before === null) return null
  if (isFirst) {
    // Without a machine-id, nothing else distinguishes this copy from the others.
    const { machine_id: id } = await readMachineIdentity()
    await clock.sleep(jitterOf(id ?? String(clock.dice()), before.template.jitter_seconds) * 1000, signal)
  }
  await waitForHostKeys(clock, signal)

  await using tools = await openTools(signal)
  await undo(tools, 'an earlier attempt that was interrupted')
  // Anew: in the meantime a person may have enrolled this machine, or removed the template.
  const task = await readTask(log)
  if (task === null) return null
  const { template, isOfImage, isEnrolled } = task
  // What could not be undone is refused by enroll.
  if (isOfImage && !isUnfinished(tools.journal)) {
    if (isEnrolled) {
      log(`this machine is enrolled already: removing ${TEMPLATE_FILE}`)
      await removeTemplate(tools)
      return null
    }
    await refuseOneHost()
  }
  const enrolled = await enroll(optionsOf(template), tools, signal)
  if (isOfImage) await removeTemplate(tools)
  return enrolled
}

interface Task {
  readonly template: Template
  /** False: of an ephemeral machine, which may have been deleted. */
  readonly isOfImage: boolean
  readonly isEnrolled: boolean
}

/**
 * @returns null when there is nothing to do; why is logged
 * @throws AgentError when that is not known
 */
async function readTask(log: BootOptions['log']): Promise<Task | null> {
  const ofImage = await readTemplate(TEMPLATE_FILE)
  const template = ofImage ?? (await readTemplate(RETURN_FILE))
  if (template === null) {
    log(`nothing to do: there is no ${TEMPLATE_FILE}`)
    return null
  }
  const enrollment = await readEnrollment().catch((error: unknown) => {
    // Which machine was enrolled is not known: this may be a copy of it.
    const message = `${messageOf(error)}; restore that file, or remove it if this machine was never enrolled`
    throw new AgentError('STORE_FAILED', message, { cause: error })
  })
  const copied = enrollment === null ? null : judgeCopied(enrollment, await readMachineIdentity())
  if (copied !== null && copied !== false) {
    log(`${copied.message}; it is not enrolled automatically`)
    return null
  }
  if (ofImage === null && enrollment?.ephemeral !== true) {
    log(`nothing to do: ${ENROLLMENT_FILE} does not say that this machine is ephemeral`)
    return null
  }
  return { template, isOfImage: ofImage !== null, isEnrolled: enrollment !== null }
}

/**
 * Remove the template, and what the journal has of it: both may contain secrets.
 *
 * @throws AgentError STORE_FAILED with the file that is left
 */
async function removeTemplate({ journal }: Pick<EnrollTools, 'journal'>): Promise<void> {
  const isOfTemplate = (change: Change): boolean => change.kind === 'file' && change.path === TEMPLATE_FILE
  try {
    await putFileState(TEMPLATE_FILE, null, fs)
  } catch (error) {
    const message = `cannot remove ${TEMPLATE_FILE}, which may contain secrets: ${reasonOf(error)}`
    throw new AgentError('STORE_FAILED', message, { cause: error })
  }
  const { left } = await journal.undoAll((change) => !isOfTemplate(change))
  // The file is gone, whatever was to be restored in it.
  const isKept = journal.runs.some(({ changes }) => changes.some(isOfTemplate))
  const failures = left.filter(({ path }) => isKept || path !== TEMPLATE_FILE)
  if (failures.length === 0) return
  const whys = failures.map(({ path, why }) => `${path}: ${why}`).join('; ')
  throw new AgentError('STORE_FAILED', `the journal still contains the template: ${whys}`)
}

/** After an attempt that failed: how this goes on, and where a person can change that. */
export async function nextAttempt(): Promise<string> {
  const isOfImage = await fs.access(TEMPLATE_FILE).then(
    () => true,
    () => false,
  )
  const options = isOfImage ? `; the options are in ${TEMPLATE_FILE} (--take-over is "take_over": true)` : ''
  return `this attempt failed, and the service tries again; to try at once: systemctl restart hostcertd-enroll${options}`
}

/** @returns how many attempts failed before; null: this is the first since the boot */
async function countAttempt(): Promise<number | null> {
  const text = await fs.readFile(ATTEMPTS_FILE, 'utf8').catch(() => null)
  const before = text === null ? null : Number(text) || 0
  await writeAttempts((before ?? 0) + 1)
  return before
}

/** Started by hand, there is no such folder. */
async function writeAttempts(attempts: number): Promise<void> {
  await fs.writeFile(ATTEMPTS_FILE, String(attempts)).catch(() => undefined)
}

/** @returns seconds, more with each attempt that failed */
function pauseAfter(failed: number, clock: Clock): number {
  const pause = Math.min(SHORTEST_PAUSE_SECONDS * 2 ** (failed - 1), LONGEST_PAUSE_SECONDS)
  return pause * (1 + clock.dice() / 4)
}

/**
 * The same at each boot, another one for each machine.
 *
 * @returns seconds, from 0 to `most`
 */
export function jitterOf(machineId: string, most: number): number {
  const digest = createHash('sha256').update(`hostcertd-enroll ${machineId}`).digest()
  return (digest.readUInt32BE() / 2 ** 32) * most
}

/**
 * Those that the configuration names, by either half: enroll writes a public one that is missing.
 *
 * @throws AgentError HOST_KEY_UNREADABLE when there are none after a minute
 */
async function waitForHostKeys(clock: Clock, signal: AbortSignal): Promise<void> {
  const patterns = await configuredHostKeys()
  // That the configuration cannot be used is said by enroll.
  if (patterns === null) return
  const since = clock.uptime()
  let seen = ''
  let changedAt = since
  for (;;) {
    const now = (await hostKeyPaths(patterns)).join(' ')
    if (now !== seen) [seen, changedAt] = [now, clock.uptime()]
    if (seen !== '' && clock.uptime() - changedAt >= SETTLED_SECONDS) return
    if (clock.uptime() - since > HOST_KEYS_SECONDS && seen === '')
      throw new AgentError(
        'HOST_KEY_UNREADABLE',
        `no host key matches ${patterns.join(', ')}: generate them with \`ssh-keygen -A\`, or correct host_keys`,
      )
    await clock.sleep(1000, signal)
  }
}

/** What cannot be listed yet is not there yet. */
async function hostKeyPaths(patterns: readonly string[]): Promise<readonly string[]> {
  const publicHalves = patterns.map(async (pattern) => pathsMatching(pattern).catch(() => []))
  const privateHalves = await privatePathsOf(patterns).catch(() => [])
  return [...(await Promise.all(publicHalves)).flat(), ...privateHalves].toSorted()
}
