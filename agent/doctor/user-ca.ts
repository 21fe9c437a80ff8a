import { access, constants } from 'node:fs/promises'
import { dirname } from 'node:path'
import { AgentError } from '../cert/errors.ts'
import { reasonOf } from '../cert/text.ts'
import { parseTime } from '../cert/time.ts'
import { failureLine } from '../cli/context.ts'
import { readEffect, readKnown, USER_CA_PLACES, type UserCaPlaces } from '../enroll/user-ca-in-place.ts'
import { isGone, pathsMatching } from '../host/files.ts'
import { includePatterns, readDirectives } from '../host/sshd-directives.ts'
import { readUserCaStatus, type UserCaStatus } from '../host/user-ca-status.ts'
import {
  type Examined,
  failure,
  type Finding,
  ok,
  RELOAD_SSHD,
  remedyOf,
  skipped,
  unknown,
  warning,
} from './finding.ts'

const REFRESH = 'as root: `hostcertd ca refresh --now`'
const AS_ROOT = 'run `sudo hostcertd doctor`'
const CHANGE = 'make the change that this message names, then run `hostcertd doctor` again'
const ENABLE = '`systemctl enable --now hostcertd-ca.timer`'
/** As the alert HostcertdUserCaStale. */
const STALE_SECONDS = 3 * 86_400

/** Whether sshd trusts the user CAs that hostcertd keeps, and whether they are kept up to date. */
export async function examineUserCa(
  {
    config,
    host,
    sshdConfigFile,
    isRoot,
  }: Pick<Examined, 'config' | 'sshdConfigFile' | 'isRoot'> & {
    readonly host: Pick<Examined['host'], 'clock'>
  },
  places: UserCaPlaces = USER_CA_PLACES,
): Promise<readonly Finding[]> {
  if (!config.userCa.install) return [skipped('user-ca', 'not checked: user_ca.install is false')]
  let status: UserCaStatus | null = null
  let damage: Finding | null = null
  try {
    status = await readUserCaStatus(places.status)
  } catch (error) {
    damage = unknown('user-ca', reasonOf(error), REFRESH)
  }
  return [
    ...(damage === null ? examineRefresh(status, host.clock.now()) : [damage]),
    await examineKeys(places, isRoot),
    ...(await examineEffect({ ...places, sshdConfig: sshdConfigFile }, isRoot)),
  ]
}

/** Nothing if all is well: then the keys are what matters. */
function examineRefresh(status: UserCaStatus | null, now: number): readonly Finding[] {
  if (status === null)
    return [
      failure(
        'user-ca',
        'user_ca.install is true, but the user CAs have never been refreshed',
        `${ENABLE}; ${REFRESH}`,
      ),
    ]
  const { error, last_attempt, last_success, reload_pending } = status
  const since = last_success === null ? 'it has never succeeded' : `last success: ${last_success}`
  const isFresh = last_success !== null && now - parseTime(last_success) <= STALE_SECONDS
  const findings: Finding[] = []
  if (error !== null) {
    const message = `the refresh of the user CAs at ${last_attempt} failed (${since}): ${failureLine(error)}`
    findings.push((isFresh ? warning : failure)('user-ca', message, remedyOf(error.code)))
  } else if (!isFresh)
    findings.push(
      failure(
        'user-ca',
        `the user CAs have not been refreshed for three days (${since})`,
        `${ENABLE}; ${REFRESH}`,
      ),
    )
  if (reload_pending)
    findings.push(
      warning('user-ca', 'sshd has not been reloaded since the user CAs were set up', RELOAD_SSHD),
    )
  return findings
}

async function examineKeys(places: UserCaPlaces, isRoot: boolean): Promise<Finding> {
  try {
    const { known } = await readKnown(places, [])
    if (known.length > 0) {
      const fingerprints = known.map(({ key }) => key.fingerprint).join(', ')
      return ok('user-ca', `${places.file}: ${fingerprints}`)
    }
    return failure('user-ca', `${places.file} holds no CA: sshd accepts no user certificate`, REFRESH)
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    return unknown('user-ca', failureLine(error), isRoot ? remedyOf(error.code) : AS_ROOT)
  }
}

async function examineEffect(places: UserCaPlaces, isRoot: boolean): Promise<readonly Finding[]> {
  // A line in it may be the one that sshd uses.
  const unreadable = await findUnreadable(places.sshdConfig)
  if (unreadable !== null)
    return [unknown('user-ca', unreadable, isRoot ? remedyOf('STORE_FAILED') : AS_ROOT)]
  const { problem, notes } = await readEffect(places)
  return [
    ...(problem === null ? [] : [failure('user-ca', problem, CHANGE)]),
    ...notes.map((note) => warning('user-ca', note, 'remove that line unless it is intended')),
  ]
}

/** Which file of sshd's configuration, or folder of an Include, cannot be read, and why; null when all can. */
async function findUnreadable(sshdConfig: string): Promise<string | null> {
  const includes = (await readDirectives(sshdConfig)).filter(({ keyword }) => keyword === 'include')
  const patterns = includes.flatMap((line) => includePatterns(line.arguments))
  const included = await Promise.all(patterns.map(pathsMatching))
  const folders = patterns.map((pattern) => [dirname(pattern), constants.R_OK | constants.X_OK] as const)
  const files = [sshdConfig, ...included.flat()].map((path) => [path, constants.R_OK] as const)
  for (const [path, mode] of [...folders, ...files]) {
    try {
      await access(path, mode)
    } catch (error) {
      // What is not there holds no line.
      if (!isGone(error) || path === sshdConfig) return `cannot read ${path}: ${reasonOf(error)}`
    }
  }
  return null
}
