import { createHash } from 'node:crypto'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { AgentError, messageOf } from '../cert/errors.ts'
import { judgeCopied, readEnrollment, readMachineIdentity } from '../host/enrollment.ts'
import { pathsMatching } from '../host/files.ts'
import { systemClock } from '../host/machine.ts'
import type { Clock } from '../renewal/ports.ts'
import { refuseOneHost } from './current.ts'
import { enroll, type Enrolled } from './enroll.ts'
import { optionsOf, readTemplate, RETURN_FILE, TEMPLATE_FILE } from './template.ts'
import { undo } from './undoing.ts'
import type { EnrollTools } from './wanted.ts'

/** The number of attempts since the boot, in a folder that outlives each attempt. */
const ATTEMPTS_FILE = '/run/hostcertd-enroll/attempts'
/** More than the 30 s in which the issuer counts wrong secrets: three of them lock the identity. */
const SHORTEST_PAUSE_SECONDS = 31
const LONGEST_PAUSE_SECONDS = 300
const HOST_KEYS = '/etc/ssh/ssh_host_*_key.pub'
const HOST_KEYS_SECONDS = 60
/** Host keys are made one after the other: when no new one appears for this long, all are there. */
const SETTLED_SECONDS = 3

/** What it needs from outside. */
export interface BootOptions {
  /** Left out: the machine's own. */
  readonly clock?: Clock
  readonly tell: (text: string) => void
  readonly openTools: (signal: AbortSignal) => Promise<EnrollTools & AsyncDisposable>
}

/**
 * `enroll --from-template`, run by hostcertd-enroll.service: enroll this copy of an image, and take the template away; or
 * register a machine with `--ephemeral` again that was deleted at its power-off.
 *
 * @returns null when there is nothing to do
 * @throws AgentError; the service tries again, later each time
 */
export async function enrollAtBoot(
  { clock = systemClock, tell, openTools }: BootOptions,
  signal: AbortSignal,
): Promise<Enrolled | null> {
  // First of all: whatever fails after that, the service starts this again within a second.
  const failed = await countAttempt()
  if (failed > 0) await clock.sleep(pauseAfter(failed, clock) * 1000, signal)
  const enrolled = await attempt({ clock, tell, openTools }, failed === 0, signal)
  await rm(ATTEMPTS_FILE, { force: true })
  return enrolled
}

async function attempt(
  { clock, tell, openTools }: Required<BootOptions>,
  isFirst: boolean,
  signal: AbortSignal,
): Promise<Enrolled | null> {
  const ofImage = await readTemplate(TEMPLATE_FILE)
  const template = ofImage ?? (await readTemplate(RETURN_FILE))
  if (template === null) {
    tell(`nothing to do: there is no ${TEMPLATE_FILE}`)
    return null
  }
  const enrollment = await readEnrollment().catch((error: unknown) => {
    // Which machine was enrolled is not known: this may be a copy of it.
    const message = `${messageOf(error)}; restore that file, or remove it if this machine was never enrolled`
    throw new AgentError('STORE_FAILED', message, { cause: error })
  })
  const copied = enrollment === null ? null : judgeCopied(enrollment, await readMachineIdentity())
  if (copied !== null && copied !== false) {
    tell(`${copied.message}; it is not enrolled automatically`)
    return null
  }
  if (isFirst) {
    // Without a machine-id, nothing else tells this copy from the others.
    const { machine_id: id } = await readMachineIdentity()
    await clock.sleep(jitterOf(id ?? String(clock.dice()), template.jitter_seconds) * 1000, signal)
  }
  await untilHostKeys(clock, signal)

  await using tools = await openTools(signal)
  if (ofImage !== null && enrollment === null) {
    await undo(tools, 'an earlier attempt that was interrupted')
    await refuseOneHost()
  }
  const options = optionsOf(template)
  let enrolled: Enrolled
  try {
    enrolled = await enroll(options, tools, signal)
  } catch (error) {
    const isGone = error instanceof AgentError && error.code === 'ISSUER_NOT_FOUND'
    if (!isGone || !template.ephemeral || enrollment === null) throw error
    tell(`the issuer no longer has the host ${enrollment.host_id}: registering it again`)
    enrolled = await enroll({ ...options, atBoot: { secrets: {}, isGone: true } }, tools, signal)
  }
  if (ofImage !== null) await removeTemplate(tools)
  return enrolled
}

/** With what is in it, and in the journal of it. */
async function removeTemplate({ journal }: Pick<EnrollTools, 'journal'>): Promise<void> {
  await journal.undoAll((change) => change.kind !== 'file' || change.path !== TEMPLATE_FILE)
  await rm(TEMPLATE_FILE, { force: true })
}

/** @returns how many attempts there were before since the boot */
async function countAttempt(): Promise<number> {
  const before = Number(await readFile(ATTEMPTS_FILE, 'utf8').catch(() => '0')) || 0
  // Started by hand, there is no such folder.
  await writeFile(ATTEMPTS_FILE, String(before + 1)).catch(() => undefined)
  return before
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

/** @throws AgentError HOST_KEY_UNREADABLE when there are none after a minute */
async function untilHostKeys(clock: Clock, signal: AbortSignal): Promise<void> {
  const since = clock.uptime()
  let seen = ''
  let changedAt = since
  for (;;) {
    const now = (await pathsMatching(HOST_KEYS).catch(() => [])).join(' ')
    if (now !== seen) [seen, changedAt] = [now, clock.uptime()]
    if (seen !== '' && clock.uptime() - changedAt >= SETTLED_SECONDS) return
    if (clock.uptime() - since > HOST_KEYS_SECONDS && seen === '')
      throw new AgentError(
        'HOST_KEY_UNREADABLE',
        `no host key matches ${HOST_KEYS}: make them by \`ssh-keygen -A\``,
      )
    await clock.sleep(1000, signal)
  }
}
