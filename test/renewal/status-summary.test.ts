import { expect, test } from 'vitest'
import { formatTime } from '../../agent/cert/time.ts'
import type { CertificateState } from '../../agent/renewal/certificate-state.ts'
import {
  type CertificateStatus,
  type ServedStatus,
  type StatusDocument,
  summarize,
} from '../../agent/renewal/status-document.ts'

const NOW = 1_790_000_000

const SERVED: ServedStatus = {
  serial: '1',
  matches: true,
  valid_before: null,
  checked_at: formatTime(NOW - 60),
  unknown: null,
}
const OLD: ServedStatus = { ...SERVED, checked_at: formatTime(NOW - 1800) }
const UNSEEN: ServedStatus = { ...SERVED, serial: null, matches: null, checked_at: null, unknown: 'reset' }

function key(state: CertificateState, served: ServedStatus | null = SERVED): CertificateStatus {
  return {
    host_key: 'k',
    key_type: 'ssh-ed25519',
    certificate: '/c',
    state,
    reason: null,
    serial: '1',
    key_id: null,
    principals: [],
    ca_fingerprint: null,
    valid_after: formatTime(NOW - 86_400),
    valid_before: formatTime(NOW + 86_400),
    renewal_due: formatTime(NOW + 3600),
    served,
    last_attempt: null,
    last_success: null,
    failures: 0,
    last_error: null,
  }
}

/** One whose renewal is due in so many seconds. */
function dueIn(seconds: number): CertificateStatus {
  return { ...key('valid'), renewal_due: formatTime(NOW + seconds) }
}

type Sshd = StatusDocument['sshd']['state']

function document(certificates: readonly CertificateStatus[], sshd: Sshd = 'up'): StatusDocument {
  const issuer = { url: null, reachable: null, last_success: null, clock_skew_seconds: null }
  return {
    version: '1',
    enrolled: true,
    issuer,
    certificates,
    waits: [],
    notes: [],
    sshd: { state: sshd, since: null },
    machine: { copied: null },
    login: { method: null },
  }
}

test.each<{ name: string; status: StatusDocument; says: string }>([
  {
    name: 'not enrolled',
    status: { ...document([]), enrolled: false },
    says: 'not enrolled: no configuration file',
  },
  { name: 'no host keys', status: document([]), says: 'no host keys found' },
  { name: 'all served', status: document([key('valid')]), says: '1 host key: 1 valid; next renewal in 1h' },
  {
    name: 'served a moment ago, and no answer since',
    status: document([key('valid', { ...SERVED, unknown: 'reset' })], 'unknown'),
    says: '1 host key: 1 valid; next renewal in 1h',
  },
  {
    name: 'sshd is down',
    status: document([key('valid'), key('due')], 'down'),
    says: 'sshd is down; 2 host keys: 1 valid, 1 due; next renewal in 1h',
  },
  {
    name: 'old evidence',
    status: document([key('valid', OLD), key('valid')], 'unknown'),
    says: 'sshd could not be checked; 2 host keys: 2 valid; next renewal in 1h',
  },
  {
    name: 'no evidence',
    status: document([key('unconfirmed', UNSEEN)], 'unknown'),
    says: 'sshd could not be checked; 1 host key: 1 unconfirmed; next renewal in 1h',
  },
  {
    name: 'no evidence for a key that is ignored',
    status: document([key('valid'), key('ignored', UNSEEN), key('ignored', OLD)]),
    says: '3 host keys: 1 valid, 2 ignored; next renewal in 1h',
  },
  {
    name: 'the next renewal is that of the key which is due first; one that is ignored is renewed all the same',
    status: document([
      dueIn(86_400),
      dueIn(7200),
      { ...dueIn(60), state: 'ignored' },
      { ...dueIn(60), renewal_due: null },
    ]),
    says: '4 host keys: 3 valid, 1 ignored; next renewal in 1m',
  },
  {
    name: 'a renewal that is due now',
    status: document([dueIn(0)]),
    says: '1 host key: 1 valid; next renewal is due',
  },
  {
    name: 'one that was due before',
    status: document([{ ...dueIn(-3600), state: 'due' }]),
    says: '1 host key: 1 due; next renewal is due',
  },
  {
    name: 'nothing to renew',
    status: document([{ ...key('absent'), renewal_due: null }]),
    says: '1 host key: 1 absent',
  },
  {
    name: 'sshd is not asked',
    status: document([key('valid', null)], null),
    says: '1 host key: 1 valid; next renewal in 1h',
  },
])('$name', ({ status, says }) => {
  expect(summarize(status, NOW)).toBe(says)
})
