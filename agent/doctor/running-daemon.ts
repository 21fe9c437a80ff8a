import { askDaemon, placeOf } from '../cli/daemon-client.ts'
import { findOut, hangingSince, RESTART_DAEMON, START_DAEMON, takenBy } from '../cli/remarks.ts'
import { issuerUrlOf } from '../config/config.ts'
import type { StatusDocument } from '../renewal/status-document.ts'
import { failure, ok, skipped, unknown, warning, type Finding } from './finding.ts'
import type { Patient } from './patient.ts'

/** Whether the daemon runs and its loop turns, by its health port, and with this configuration. */
export async function examineDaemon({ config, signal }: Patient): Promise<Finding> {
  const { listen } = config.health
  const place = placeOf(listen)
  const answer = await askDaemon(listen, signal)
  switch (answer.kind) {
    case 'runs': {
      if (answer.status === null) return ok('daemon', `it answers at ${place}; its first pass is under way`)
      const well = ok('daemon', `it runs, version ${answer.status.version}, and answers at ${place}`)
      return differs(answer.status, issuerUrlOf(config.issuer)) ?? well
    }
    case 'hangs':
      return failure('daemon', `it answers at ${place}, but ${hangingSince(answer.lastTurn)}`, RESTART_DAEMON)
    case 'silent':
      return warning(
        'daemon',
        `something listens at ${place} and does not answer: hostcertd, stuck, or another program`,
        findOut(listen),
      )
    case 'stranger':
      return warning(
        'daemon',
        `another program answers at ${place}: whether hostcertd runs cannot be seen there`,
        `${takenBy(listen)}; \`systemctl status hostcertd\` shows whether it runs`,
      )
    case 'denied':
      return unknown('daemon', `it cannot be asked at ${place}: ${answer.why}`, 'run `sudo hostcertd doctor`')
    case 'nobody':
      return warning(
        'daemon',
        `no hostcertd answers at ${place}: nothing is renewed while it does not run`,
        START_DAEMON,
      )
    case 'not-asked':
      return skipped('daemon', 'it cannot be asked: health.listen is none')
  }
}

function differs({ enrolled, issuer }: StatusDocument, url: string | null): Finding | null {
  if (enrolled && issuer.url === url) return null
  const has = enrolled ? `another configuration (${issuer.url ?? 'issuer.command'})` : 'no configuration yet'
  return warning('daemon', `it runs with ${has}`, '`systemctl reload hostcertd`')
}
