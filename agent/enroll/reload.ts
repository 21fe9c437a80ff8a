import { realpath, stat } from 'node:fs/promises'
import { dirname, isAbsolute } from 'node:path'
import * as v from 'valibot'
import { reasonOf } from '../cert/text.ts'
import { problemLine } from '../config/problem.ts'
import { readConfigFiles } from '../config/read-files.ts'
import { command as commandSetting } from '../config/values.ts'
import { systemClock } from '../host/machine.ts'
import { createSshd } from '../host/sshd.ts'
import { valueAt } from './configuration.ts'
import { refuseShared } from './files.ts'
import { CONFIG_FILE } from './wanted.ts'

/** A little more than the minute over which the root helper limits reloads. */
const LONGEST_RELOAD_SECONDS = 90

/**
 * By the root helper, which tests the configuration first; what it is too busy for is waited for.
 *
 * @param reloadCommand instead of the helper. The daemon runs it as its own user, `enroll` and `ca refresh` as root: what
 *   another user can change is not run
 * @returns why sshd did not read its configuration; null when it did
 */
export async function reloadSshd(
  signal: AbortSignal,
  reloadCommand: readonly string[] | null = null,
): Promise<string | null> {
  const why = await whyNotRoots(reloadCommand ?? [])
  if (why !== null) return why
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
 * By `sshd.reload_command` of this host, else by the root helper; not at all with `sshd.reload: never`. That is read now:
 * enroll does not set it, so it is the same before a change of the configuration, after it, and when that is undone.
 *
 * @returns why sshd did not read its configuration; null when it did, or is not to
 */
export async function reloadConfiguredSshd(
  signal: AbortSignal,
  configFile = CONFIG_FILE,
): Promise<string | null> {
  try {
    if ((await readSetting(configFile, 'reload'))?.value === 'never') return null
    return await reloadSshd(signal, await readReloadCommand(configFile))
  } catch (error) {
    signal.throwIfAborted()
    return `how sshd is reloaded is not known: ${reasonOf(error)}`
  }
}

/** Only a file that nobody but root can change may name what root runs. */
async function readReloadCommand(configFile: string): Promise<readonly string[] | null> {
  const setting = await readSetting(configFile, 'reload_command')
  if (setting === null) return null
  const { file, value } = setting
  for (const path of [file, dirname(file), dirname(configFile)]) await refuseShared(path)
  const parsed = v.safeParse(commandSetting, value)
  if (!parsed.success) throw new Error(`${file}: sshd.reload_command ${parsed.issues[0].message}`)
  return parsed.output
}

/** One of `sshd`, whatever else is wrong with the configuration. @returns null when it is not set */
async function readSetting(
  configFile: string,
  name: string,
): Promise<{ readonly file: string; readonly value: unknown } | null> {
  const { files, complete, problems } = await readConfigFiles(configFile)
  if (!complete) throw new Error(problems.map(problemLine).join('; '))
  const settings = files.map(({ file, tree }) => ({ file, value: valueAt(tree, ['sshd', name]) }))
  return settings.findLast(({ value }) => value !== undefined) ?? null
}

/**
 * Whether only root can change what a command line runs: the program, and what else it names by a path.
 *
 * @returns what another user can change; null when there is nothing
 */
async function whyNotRoots(command: readonly string[]): Promise<string | null> {
  for (const word of command.filter(isAbsolute)) {
    // What is not there, or no file at all, cannot be run.
    const real = await realpath(word).catch(() => null)
    for (let path = real; path !== null; path = path === dirname(path) ? null : dirname(path)) {
      const { uid, mode } = await stat(path)
      if (uid !== 0 || (mode & 0o022) !== 0)
        return `reload_command was not run as root: other users than root can change ${path}`
    }
  }
  return null
}
