import { factsOf } from '../../adapters/file-access.ts'
import { findProgram } from '../../adapters/programs.ts'
import { HELPER_SOCKET } from '../../adapters/sshd.ts'
import { failure, ok, skipped, warning, type Finding } from './finding.ts'
import type { Patient } from './patient.ts'

const PACKAGED = '`systemctl enable --now hostcertd-reload.socket`'

/** How sshd is reloaded. Nothing is run, and the helper is not asked: it would act. */
export async function examineReload({ config, daemonUser }: Patient): Promise<Finding> {
  const { reload, reloadCommand } = config.sshd
  if (reload === 'never') return skipped('reload', 'sshd.reload is never: somebody else reloads sshd')
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
    const message = `${HELPER_SOCKET} is of user ${socket.uid}, but the daemon runs as user ${daemonUser.uid}`
    return failure(
      'reload',
      message,
      `give ${config.stateDirectory} to the user of the socket, or restart the socket: ${PACKAGED}`,
    )
  }
  return ok('reload', `by the root helper behind ${HELPER_SOCKET}`)
}
