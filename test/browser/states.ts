import { formatTime } from '../../agent/cert/time.ts'
import type { HealthSources } from '../../agent/health/routes.ts'
import type { CertificateStatus, RecentEvent, StatusDocument } from '../../agent/renewal/status-document.ts'

/** 2026-11-23T14:43:05Z */
export const NOW = 1_795_444_985
const MINUTE = 60
const HOUR = 3600
const DAY = 86_400

/** What the page shows in one state of the host. */
export type ShownState = Partial<HealthSources> & Pick<HealthSources, 'status'>

export const KEYS = ['ed25519', 'ecdsa', 'rsa'] as const
const TYPES = { ed25519: 'ssh-ed25519', ecdsa: 'ecdsa-sha2-nistp256', rsa: 'ssh-rsa' } as const
const SERIALS = {
  ed25519: '5699169736243703393',
  ecdsa: '2211907783345561203',
  rsa: '8110034456120987345',
} as const

/** RFC 3339, so many seconds from now; negative before. */
function at(seconds: number): string {
  return formatTime(NOW + seconds) ?? ''
}

export function shownCertificate(
  key: (typeof KEYS)[number],
  changes: Partial<CertificateStatus> = {},
): CertificateStatus {
  return {
    host_key: `ssh_host_${key}_key`,
    key_type: TYPES[key],
    certificate: `/var/lib/hostcertd/certs/ssh_host_${key}_key-cert.pub`,
    state: 'valid',
    reason: null,
    serial: SERIALS[key],
    key_id: 'host-8c1efcfc-434c-4c43-80e3-53c9eae6672a',
    principals: ['web1.example.com'],
    ca_fingerprint: 'SHA256:2c0Nn0fTDZ1cVb1QFrD0Nkz1v6SJxGQ0cF2pGxwQk4o',
    valid_after: at(-9 * DAY),
    valid_before: at(21 * DAY),
    renewal_due: at(13 * DAY + 5 * HOUR),
    served: {
      serial: SERIALS[key],
      matches: true,
      valid_before: at(21 * DAY),
      checked_at: at(-4 * MINUTE),
      unknown: null,
    },
    last_attempt: at(-9 * DAY),
    last_success: at(-9 * DAY),
    failures: 0,
    last_error: null,
    ...changes,
  }
}

export function shownStatus(
  certificates: readonly CertificateStatus[],
  issuer: Partial<StatusDocument['issuer']> = {},
): StatusDocument {
  const url = 'https://us.infisical.com'
  const usual = { url, reachable: true, last_success: at(-9 * DAY), clock_skew_seconds: 0.4 }
  return {
    version: '0.1.0',
    enrolled: true,
    issuer: { ...usual, ...issuer },
    certificates,
    waits: [],
    notes: [],
    sshd: { state: 'up', since: at(-9 * DAY) },
    machine: { copied: false },
    login: { method: 'universal-auth' },
  }
}

function event(
  seconds: number,
  level: RecentEvent['level'],
  message: string,
  more: Partial<RecentEvent> = {},
): RecentEvent {
  const nothing = { hostKeys: [], code: null, serial: null, requestId: null, retryInSeconds: null }
  return { at: at(seconds), level, message, ...nothing, ...more }
}

const STARTED = [
  event(-9 * DAY - 1, 'info', 'reloaded sshd', { hostKeys: KEYS.map((key) => `ssh_host_${key}_key`) }),
  ...KEYS.toReversed().flatMap((key, index) => [
    event(-9 * DAY - 3 - 2 * index, 'info', 'a new certificate is installed', {
      hostKeys: [`ssh_host_${key}_key`],
      serial: SERIALS[key],
      requestId: 'req-9QeXJ2YxWcBdPz',
    }),
    event(-9 * DAY - 4 - 2 * index, 'info', 'requesting a certificate', {
      hostKeys: [`ssh_host_${key}_key`],
    }),
  ]),
  event(-9 * DAY - 12, 'info', 'the health server listens'),
]

const UNREACHABLE = {
  code: 'ISSUER_UNREACHABLE',
  message: 'cannot reach us.infisical.com: connect ECONNREFUSED 192.0.2.17:443',
} as const

/** A certificate that ended while the issuer was down. */
function expired(key: (typeof KEYS)[number]): CertificateStatus {
  return shownCertificate(key, {
    state: 'expired',
    reason: UNREACHABLE.code,
    valid_after: at(-30 * DAY - 5 * HOUR),
    valid_before: at(-5 * HOUR),
    renewal_due: at(-8 * DAY),
    last_attempt: at(-12 * MINUTE),
    last_success: at(-30 * DAY - 5 * HOUR),
    failures: 213,
    last_error: { ...UNREACHABLE, at: at(-12 * MINUTE) },
  })
}

const NOT_ENROLLED: StatusDocument = {
  version: '0.1.0',
  enrolled: false,
  issuer: { url: null, reachable: null, last_success: null, clock_skew_seconds: null },
  certificates: [],
  waits: [],
  notes: [],
  sshd: { state: null, since: null },
  machine: { copied: null },
  login: { method: null },
}

/** The four states in which the page has to look right. */
export const STATES = {
  'all-well': {
    status: () => shownStatus(KEYS.map((key) => shownCertificate(key))),
    recentEvents: () => STARTED,
  },
  due: {
    status: () =>
      shownStatus([
        shownCertificate('ed25519', {
          state: 'due',
          reason: 'window-open',
          valid_after: at(-23 * DAY),
          valid_before: at(7 * DAY),
          renewal_due: at(-2 * MINUTE),
        }),
        shownCertificate('ecdsa'),
        shownCertificate('rsa', { principals: ['web1.example.com', 'web1', 'www.example.com'] }),
      ]),
    recentEvents: () => [
      event(-30, 'info', 'requesting a certificate', { hostKeys: ['ssh_host_ed25519_key'] }),
      ...STARTED,
    ],
  },
  'expired-issuer-down': {
    status: () =>
      shownStatus(KEYS.map(expired), { reachable: false, last_success: at(-30 * DAY - 5 * HOUR) }),
    recentEvents: () =>
      KEYS.flatMap((key, index) => [
        event(-12 * MINUTE - index * HOUR, 'error', UNREACHABLE.message, {
          hostKeys: [`ssh_host_${key}_key`],
          code: UNREACHABLE.code,
          retryInSeconds: 3170,
        }),
        event(-12 * MINUTE - 5 - index * HOUR, 'info', 'requesting a certificate', {
          hostKeys: [`ssh_host_${key}_key`],
        }),
        event(-3 * HOUR - index * HOUR, 'warn', UNREACHABLE.message, {
          hostKeys: [`ssh_host_${key}_key`],
          code: UNREACHABLE.code,
          retryInSeconds: 1803,
        }),
      ]).toSorted((a, b) => (a.at < b.at ? 1 : -1)),
  },
  'not-enrolled': {
    status: () => NOT_ENROLLED,
    recentEvents: () => [
      event(-50, 'info', 'the health server listens'),
      event(-51, 'info', 'not enrolled: no configuration file; checking again every minute'),
    ],
  },
} satisfies Record<string, ShownState>

/** Everything else that can be wrong, for what is less often seen. */
export const MIXED: ShownState = {
  status: () =>
    shownStatus(
      [
        shownCertificate('ed25519', {
          state: 'unconfirmed',
          reason: 'SSHD_NOT_SERVING',
          served: {
            serial: '17',
            matches: false,
            valid_before: at(3 * DAY),
            checked_at: at(-40),
            unknown: null,
          },
        }),
        shownCertificate('ecdsa', {
          state: 'absent',
          reason: 'CERT_CA_MISMATCH',
          serial: null,
          key_id: null,
          principals: [],
          ca_fingerprint: null,
          valid_after: null,
          valid_before: null,
          renewal_due: null,
          served: null,
          last_success: null,
          failures: 3,
          last_error: {
            code: 'CERT_CA_MISMATCH',
            message: 'it is signed by the CA SHA256:aaaa, expected SHA256:bbbb',
            at: at(-90),
          },
        }),
        shownCertificate('rsa', { valid_before: null, renewal_due: null }),
        {
          ...shownCertificate('rsa'),
          host_key: 'ssh_host_dsa_key',
          state: 'ignored',
          reason: 'the issuer signs no ssh-dss keys',
        },
      ],
      { clock_skew_seconds: -75 },
    ),
  recentEvents: () => [event(-90, 'warn', 'something', { code: 'CERT_CA_MISMATCH' })],
}
