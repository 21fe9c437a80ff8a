import { realpath } from 'node:fs/promises'
import { dirname, isAbsolute } from 'node:path'
import * as v from 'valibot'
import { AgentError } from '../cert/errors.ts'
import { reasonOf } from '../cert/text.ts'
import { problemLine } from '../config/problem.ts'
import { type ConfigFile, readConfigFiles } from '../config/read-files.ts'
import { command as commandSetting } from '../config/values.ts'
import { isGone } from '../host/files.ts'
import { systemClock } from '../host/machine.ts'
import { createSshd } from '../host/sshd.ts'
import { settingIn } from './configuration.ts'
import { refuseShared } from './files.ts'
import { BY_HAND, type Reloaded } from './perform.ts'
import { CONFIG_FILE } from './wanted.ts'

/** A little more than the minute over which the root helper limits reloads. */
const LONGEST_RELOAD_SECONDS = 90

/** What the root helper is too busy for is waited for. @param reloadCommand null: by the root helper */
async function reloadSshd(
  signal: AbortSignal,
  reloadCommand: readonly string[] | null,
): Promise<string | null> {
  const sshd = createSshd({ reloadCommand })
  const until = systemClock.uptime() + LONGEST_RELOAD_SECONDS
  for (;;) {
    const outcome = await sshd.reload(signal)
    if (outcome.kind === 'failed') return outcome.failure.message
    if (outcome.kind === 'done') return null
    if (systemClock.uptime() + outcome.retrySeconds > until) return 'it was reloaded too often just now'
    await systemClock.sleep(outcome.retrySeconds * 1000, signal)
  }
}

/**
 * By `sshd.reload_command` of this host, else by the root helper, which tests sshd's configuration first; not at all with
 * `sshd.reload: never`. That is read now: enroll does not set it, so it is the same before a change of the configuration,
 * after it, and when that is undone. The daemon runs the command as its own user, this as root: one that others than root
 * can change or name is not run.
 *
 * @throws the signal's reason
 */
export async function reloadUnlessByHand(signal: AbortSignal, configFile = CONFIG_FILE): Promise<Reloaded> {
  try {
    const files = await readFiles(configFile)
    if (settingIn(files, ['sshd', 'reload'])?.value === 'never') return BY_HAND
    return await reloadSshd(signal, await reloadCommandIn(files, configFile))
  } catch (error) {
    signal.throwIfAborted()
    return `how sshd is reloaded is not known: ${reasonOf(error)}`
  }
}

/**
 * {@link reloadUnlessByHand} for those who have found that `sshd.reload` is not `never`.
 *
 * @returns why sshd did not read its configuration; null when it did
 */
export async function reloadConfiguredSshd(
  signal: AbortSignal,
  configFile = CONFIG_FILE,
): Promise<string | null> {
  const reloaded = await reloadUnlessByHand(signal, configFile)
  return reloaded === BY_HAND ? 'sshd.reload is never' : reloaded
}

/** What sshd has until it is reloaded: for {@link reloadByHand}, once all is undone. */
export const UNDONE_CONFIGURATION = 'keeps the configuration that was undone'

/** For people, where it is {@link BY_HAND}. @param meanwhile what sshd does until then: `keeps its configuration` */
export function reloadByHand(meanwhile: string): string {
  return `note: sshd.reload is never: reload sshd by hand; until then it ${meanwhile}`
}

/**
 * What cannot be reloaded later is found first.
 *
 * @throws AgentError CONFIG_INVALID when `sshd.reload_command` cannot be run as root
 */
export async function requireReloadable(configFile = CONFIG_FILE): Promise<void> {
  try {
    await reloadCommandIn(await readFiles(configFile), configFile)
  } catch (error) {
    throw new AgentError('CONFIG_INVALID', `sshd.reload_command cannot be run as root: ${reasonOf(error)}`, {
      cause: error,
    })
  }
}

/** Whatever else is wrong with the configuration. */
async function readFiles(configFile: string): Promise<readonly ConfigFile[]> {
  const { files, complete, problems } = await readConfigFiles(configFile)
  if (!complete) throw new Error(problems.map(problemLine).join('; '))
  return files
}

/** @returns null when it is not set */
async function reloadCommandIn(
  files: readonly ConfigFile[],
  configFile: string,
): Promise<readonly string[] | null> {
  const setting = settingIn(files, ['sshd', 'reload_command'])
  if (setting === null) return null
  const { file, value } = setting
  for (const path of [file, dirname(file), dirname(configFile)]) await refuseShared(path)
  const parsed = v.safeParse(commandSetting, value)
  if (!parsed.success) throw new Error(`${file}: sshd.reload_command ${parsed.issues[0].message}`)
  await refuseChangeable(parsed.output)
  return parsed.output
}

/**
 * Refuse a command line that others than root can change: the program, and what else it names by a path, with the folders
 * above, as written and as links lead there.
 *
 * @throws SharedFolder; Error of the system call
 */
async function refuseChangeable(command: readonly string[]): Promise<void> {
  for (const word of command.filter(isAbsolute)) {
    const real = await realpath(word).catch(() => word)
    for (const path of new Set([...upwards(word), ...upwards(real)])) {
      // What is not there is made in a folder that is.
      await refuseShared(path).catch((error: unknown) => {
        if (!isGone(error)) throw error
      })
    }
  }
}

function upwards(path: string): readonly string[] {
  const above = dirname(path)
  return above === path ? [path] : [path, ...upwards(above)]
}
