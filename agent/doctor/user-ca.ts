import { access, constants } from 'node:fs/promises'
import { AgentError } from '../cert/errors.ts'
import { reasonOf } from '../cert/text.ts'
import { parseTime } from '../cert/time.ts'
import { failureLine } from '../cli/context.ts'
import { readEffect, readKnown, USER_CA_PLACES, type UserCaPlaces } from '../enroll/user-ca-files.ts'
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
const ENABLE = '`systemctl enable --now hostcertd-ca.timer`'
/** As the alert HostcertdUserCaStale. */
const STALE_SECONDS = 3 * 86_400

/** Whether sshd trusts the user CAs that hostcertd keeps, and whether they are kept up to date. */
export async function examineUserCa(
  {
    config,
    host,
    sshdConfigFile,
  }: Pick<Examined, 'config' | 'sshdConfigFile'> & { readonly host: Pick<Examined['host'], 'clock'> },
  places: UserCaPlaces = USER_CA_PLACES,
): Promise<readonly Finding[]> {
  if (!config.userCa.install) return [skipped('user-ca', 'not checked: user_ca.install is false')]
  let status: UserCaStatus | null
  try {
    status = await readUserCaStatus(places.status)
  } catch (error) {
    return [unknown('user-ca', reasonOf(error), REFRESH)]
  }
  return [
    ...examineRefresh(status, host.clock.now()),
    await examineKeys(places, status),
    ...(await examineEffect({ ...places, sshdConfig: sshdConfigFile })),
  ]
}

/** Nothing if all is well: then the keys are what matters. */
function examineRefresh(status: UserCaStatus | null, now: number): readonly Finding[] {
  if (status === null)
    return [
      failure(
        'user-ca',
        'user_ca.install is true, but the user CAs were never refreshed',
        `${ENABLE}; ${REFRESH}`,
      ),
    ]
  const { error, last_attempt, last_success, reload_pending } = status
  const since = last_success === null ? 'never' : `last at ${last_success}`
  const isFresh = last_success !== null && now - parseTime(last_success) <= STALE_SECONDS
  const findings: Finding[] = []
  if (error !== null) {
    const message = `the refresh of the user CAs at ${last_attempt} failed (it succeeded ${since}): ${failureLine(error)}`
    findings.push((isFresh ? warning : failure)('user-ca', message, remedyOf(error.code)))
  } else if (!isFresh)
    findings.push(
      failure(
        'user-ca',
        `the user CAs were not refreshed for three days (${since})`,
        `${ENABLE}; ${REFRESH}`,
      ),
    )
  if (reload_pending)
    findings.push(warning('user-ca', 'sshd was not reloaded since the user CAs were set up', RELOAD_SSHD))
  return findings
}

async function examineKeys(places: UserCaPlaces, status: UserCaStatus | null): Promise<Finding> {
  try {
    const { known } = await readKnown(places, status?.cas ?? [])
    if (known.length > 0) {
      const fingerprints = known.map(({ key }) => key.fingerprint).join(', ')
      return ok('user-ca', `${places.file}: ${fingerprints}`)
    }
    return failure('user-ca', `${places.file} holds no CA: sshd accepts no user certificate`, REFRESH)
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    return unknown('user-ca', failureLine(error), 'run `sudo hostcertd doctor`')
  }
}

async function examineEffect(places: UserCaPlaces): Promise<readonly Finding[]> {
  const why = await access(places.sshdConfig, constants.R_OK).then(() => null, reasonOf)
  if (why !== null)
    return [unknown('user-ca', `cannot read ${places.sshdConfig}: ${why}`, 'run `sudo hostcertd doctor`')]
  const { problem, notes } = await readEffect(places)
  return [
    ...(problem === null ? [] : [failure('user-ca', problem, 'see the line above; then run doctor again')]),
    ...notes.map((note) => warning('user-ca', note, 'remove that line, unless it is wanted there')),
  ]
}
