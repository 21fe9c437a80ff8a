import { isSocket } from '../host/files.ts'
import { EXCHANGE_SOCKET } from '../issuer/exchange-channel.ts'
import { createExchangeClient, isOfExchange } from '../issuer/exchange-client.ts'
import { failure, type Finding, ok, skipped } from './finding.ts'
import type { Patient } from './patient.ts'

const START = '`systemctl enable --now hostcertd-exchange.socket`'
const LIMIT_MILLISECONDS = 20_000

/** Whether the daemon can ask the issuer: by the unit that has the credential. Nothing where it asks by a child. */
export async function examineExchange(patient: Patient): Promise<readonly Finding[]> {
  const { config, daemonUser, exchangeUser, host, isRoot, self, signal } = patient
  if (exchangeUser === null) return []
  if (!isSocket(EXCHANGE_SOCKET))
    return [failure('issuer', `there is no ${EXCHANGE_SOCKET}, by which the daemon asks the issuer`, START)]
  if (!isRoot && self.uid !== daemonUser.uid)
    return [
      skipped(
        'issuer',
        `only root and the daemon may ask by ${EXCHANGE_SOCKET}`,
        'run `sudo hostcertd doctor`',
      ),
    ]
  const { clock, metrics } = host
  const way = { program: [], socket: EXCHANGE_SOCKET, mayBeChild: false }
  const exchange = createExchangeClient({ ...way, settings: config, clock, metrics })
  const limit = AbortSignal.timeout(LIMIT_MILLISECONDS)
  const answer = await exchange.hostCa(AbortSignal.any([signal, limit])).catch((error: unknown) => {
    signal.throwIfAborted()
    if (limit.aborted) return null
    throw error
  })
  exchange.end()
  if (answer === null)
    return [
      failure('issuer', `${EXCHANGE_SOCKET} does not answer`, "see `journalctl -u 'hostcertd-exchange*'`"),
    ]
  if (!answer.ok && isOfExchange(answer.failure))
    return [
      failure('issuer', answer.failure.message, `see \`journalctl -u 'hostcertd-exchange*'\`; ${START}`),
    ]
  if (!answer.ok && answer.failure.code === 'CONFIG_INVALID')
    return [failure('issuer', answer.failure.message, 'correct that; then `systemctl reload hostcertd`')]
  // That the issuer refuses, or is not there, other steps say; this one is about the way to it.
  return [ok('issuer', `the daemon asks it by ${EXCHANGE_SOCKET}, as user ${exchangeUser.uid}`)]
}
