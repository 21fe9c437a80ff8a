import { factsOf } from '../host/file-access.ts'
import { findProgram } from '../host/programs.ts'
import { HELPER_SOCKET } from '../host/sshd.ts'
import { failure, type Finding, ok, skipped, warning } from './finding.ts'
import type { Patient } from './patient.ts'

const PACKAGED = '`systemctl enable --now hostcertd-reload.socket`'

/** How sshd is reloaded, and what the root helper reported last. Nothing is run, and it is not asked: it would act. */
export async function examineReload(patient: Patient): Promise<readonly Finding[]> {
  const { notes } = patient.attempts.record.sshd
  return [
    await examineWay(patient),
    ...notes.map((note) =>
      warning('reload', `the root helper reported: ${note}`, 'correct that; then `hostcertd renew`'),
    ),
  ]
}

async function examineWay({ config, daemonUser }: Patient): Promise<Finding> {
  const { reload, reloadCommand } = config.sshd
  if (reload === 'never') return skipped('reload', 'sshd.reload is never: hostcertd does not reload sshd')
  if (reloadCommand !== null) {
    const [program = ''] = reloadCommand
    if ((await findProgram(program)) !== null) return ok('reload', `by ${reloadCommand.join(' ')}`)
    const isThere = (await factsOf(program).catch(() => null)) !== null
    const message = `sshd.reload_command: ${program} ${isThere ? 'cannot be executed' : 'is not there'}`
    const remedy = isThere ? `chmod 755 ${program}` : 'correct sshd.reload_command, or put the program there'
    return failure('reload', message, remedy)
  }
  const socket = await factsOf(HELPER_SOCKET).catch(() => null)
  if (socket === null) {
    const remedy = `with the package: ${PACKAGED}; without it set sshd.reload_command to a program that reloads sshd`
    const message = `there is no ${HELPER_SOCKET} and no sshd.reload_command: sshd from 9.8 on serves a new certificate only after a reload`
    return warning('reload', message, remedy)
  }
  if (daemonUser.uid !== 0 && socket.uid !== daemonUser.uid) {
    const message = `${HELPER_SOCKET} belongs to user ${socket.uid}, but the daemon runs as user ${daemonUser.uid}`
    return failure(
      'reload',
      message,
      `chown ${socket.uid} ${config.stateDirectory}, or restart the socket: ${PACKAGED}`,
    )
  }
  return ok('reload', `by the root helper behind ${HELPER_SOCKET}`)
}
