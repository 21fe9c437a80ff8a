import { formatTime } from '../../agent/core/time.ts'
import { servedAs } from '../support/health-server.ts'
import { NOW, shownCertificate, shownStatus, type ShownState } from './states.ts'

const DAY = 86_400
const TEN_THOUSAND_YEARS = 10_000 * 365.2425 * DAY

/** What is seldom seen, and must not look well, or break. */
export const RARE_STATES = {
  // Clients are asked about the host key now, though what lies on disk is good.
  bare: {
    status: () =>
      shownStatus(
        [
          shownCertificate('ed25519', {
            state: 'unconfirmed',
            reason: 'SSHD_NOT_SERVING',
            served: servedAs({ matches: false, checked_at: formatTime(NOW - 40) }),
          }),
          shownCertificate('rsa'),
        ],
        { clock_skew_seconds: 90 },
      ),
    recentEvents: () => [],
  },
  // No calendar has these years, and no usual host key such a name.
  'far-off': {
    status: () =>
      shownStatus([
        shownCertificate('ed25519', {
          valid_before: formatTime(NOW + TEN_THOUSAND_YEARS),
          renewal_due: formatTime(NOW + 0.7 * TEN_THOUSAND_YEARS),
        }),
        shownCertificate('rsa', { host_key: 'ssh_host_second_listener_rsa_key' }),
      ]),
    recentEvents: () => [],
  },
} satisfies Record<string, ShownState>
