import { formatTime } from '../../agent/cert/time.ts'
import type { CertificateStatus } from '../../agent/renewal/status-document.ts'
import { servedAs } from '../support/health-server.ts'
import { KEYS, NOW, shownCertificate, shownStatus, type ShownState } from './states.ts'

const MINUTE = 60
const DAY = 86_400
const TEN_THOUSAND_YEARS = 10_000 * 365.2425 * DAY

const UNANSWERED = 'web1.example.com:22: the connection ended behind the banner (kex_exchange_identification)'

const NOTHING_ON_DISK = {
  serial: null,
  key_id: null,
  principals: [],
  ca_fingerprint: null,
  valid_after: null,
  valid_before: null,
  renewal_due: null,
  served: null,
}

/** A certificate that sshd was seen to present so many seconds ago. */
function seen(key: (typeof KEYS)[number], ago: number, unknown: string | null): CertificateStatus {
  const certificate = shownCertificate(key)
  const { serial, valid_before } = certificate
  return {
    ...certificate,
    served: { serial, matches: true, valid_before, checked_at: formatTime(NOW - ago), unknown },
  }
}

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
  // Nothing accepts connections, and the root helper left something out.
  'sshd-down': {
    status: () => ({
      ...shownStatus(KEYS.map((key) => seen(key, 4 * MINUTE, '127.0.0.1:22: Connection refused'))),
      notes: [
        'left out /etc/ssh/ssh_host_rsa_key: ssh_host_rsa_key.pub is empty; its certificate stays as it is',
        'left out /etc/ssh/a-key-in-an-agent-with-a-very-long-name.pub: no private half, and HostKeyAgent is set',
      ],
      sshd: { state: 'down', since: formatTime(NOW - 4 * MINUTE) },
    }),
    recentEvents: () => [],
  },
  // One was served hours ago, one cannot be asked about, and one was never seen: the answers of ssh are long.
  'not-known': {
    status: () => ({
      ...shownStatus([
        seen('ed25519', 3 * 3600, UNANSWERED),
        seen(
          'ecdsa',
          MINUTE,
          '[2001:db8:85a3::8a2e:370:7334]:22222: no matching MAC found. Their offer: hmac-md5-96',
        ),
        shownCertificate('rsa', {
          state: 'unconfirmed',
          reason: 'SSHD_UNREACHABLE',
          served: servedAs({ unknown: UNANSWERED }),
        }),
      ]),
      sshd: { state: 'unknown', since: formatTime(NOW - 3 * 3600) },
    }),
    recentEvents: () => [],
  },
  // All was well when sshd was last asked.
  'evidence-old': {
    status: () => shownStatus(KEYS.map((key) => seen(key, 31 * MINUTE, null))),
    recentEvents: () => [],
  },
  // Ignored is what is renewed all the same, and what is not.
  ignored: {
    status: () =>
      shownStatus([
        shownCertificate('ed25519'),
        shownCertificate('ecdsa', {
          state: 'ignored',
          reason: 'sshd does not offer a host key of type ecdsa-sha2-nistp256',
        }),
        shownCertificate('rsa', {
          ...NOTHING_ON_DISK,
          state: 'ignored',
          reason: 'the issuer does not sign keys of type ssh-rsa',
        }),
      ]),
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
