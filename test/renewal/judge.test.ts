import { describe, expect, test } from 'vitest'
import { digestOf, parseCertificate } from '../../agent/cert/host-certificate.ts'
import { parsePublicKeyLine, readPublicKey, type PublicKey } from '../../agent/cert/public-key.ts'
import { FOREVER } from '../../agent/cert/time.ts'
import {
  hasKey,
  isCertifiable,
  judge,
  unserved,
  type HostKeyView,
  type Policy,
} from '../../agent/renewal/judge.ts'
import type { Facts, StoredFacts } from '../../agent/renewal/observe.ts'
import type { HostKeyFile } from '../../agent/renewal/ports.ts'
import {
  EMPTY_RECORD,
  recordOf,
  type AttemptRecord,
  type Evidence,
  type HostKeyRecord,
} from '../../agent/renewal/record.ts'
import {
  craftCertificate,
  craftKey,
  sshString,
  uint32,
  uint64,
  type CertificateFields,
} from '../cert/craft.ts'
import { DAY, START } from '../fakes/fake-host.ts'

const NAME = 'ssh_host_ed25519_key'
const [host, ca, otherCa] = [craftKey(), craftKey(), craftKey()]
const publicKey = ({ line }: { line: string }): PublicKey => readPublicKey(parsePublicKeyLine(line))
const key = publicKey(host)
const IDENTITY = { name: NAME, fingerprint: key.fingerprint }
const KEY_FILE: HostKeyFile['content'] = { kind: 'key', key, comment: 'root@web1', pairVersion: 'v1' }
const POLICY: Policy = {
  policy: { window: { kind: 'share', ratio: 0.33 }, jitterRatio: 0 },
  wantedPrincipals: null,
  asksSshd: true,
}

/** A certificate for the host key, of 30 days from {@link START} on. */
function stored(changed: Partial<CertificateFields> = {}, by = ca): StoredFacts & { kind: 'certificate' } {
  const text = craftCertificate({ ...by, blob: host.blob }, by, {
    validAfter: uint64(BigInt(START)),
    validBefore: uint64(BigInt(START + 30 * DAY)),
    ...changed,
  })
  return { kind: 'certificate', certificate: parseCertificate(text), text }
}

interface Given {
  readonly content?: HostKeyFile['content']
  readonly stored?: StoredFacts
  readonly pinned?: Facts['pinned']
  readonly record?: Partial<AttemptRecord>
  readonly ofKey?: Partial<HostKeyRecord>
  readonly policy?: Partial<Policy>
  readonly now?: number
}

const GOOD = stored()
const SERVES_IT: Evidence = {
  kind: 'certificate',
  at: START + 1,
  digest: digestOf(GOOD.certificate.blob),
  serial: '7',
  validBefore: String(START + 30 * DAY),
}

/** The one host key, with a good certificate that sshd serves, but for what is given. */
function view(given: Given = {}): HostKeyView {
  const { content = KEY_FILE, pinned = null, now = START + DAY } = given
  const file: HostKeyFile = { name: NAME, path: `/etc/ssh/${NAME}.pub`, content }
  const facts: Facts = {
    keys: [{ file, certificatePath: '/certs/x', stored: given.stored ?? GOOD }],
    pinned,
    machine: { copied: null, stopped: null },
  }
  const ofKey = { ...recordOf(EMPTY_RECORD, IDENTITY), evidence: SERVES_IT, ...given.ofKey }
  const record = { ...EMPTY_RECORD, hostKeys: { [NAME]: ofKey }, ...given.record }
  const [only] = judge(facts, record, { ...POLICY, ...given.policy }, now)
  if (only === undefined) throw new Error('no host key was judged')
  return only
}

const summary = ({ state: { state, reason }, due, onDisk }: HostKeyView): unknown => ({
  state: reason === null ? state : `${state} ${reason}`,
  due,
  onDisk: onDisk.kind,
})

const caLine = ({ line }: { line: string }): string => line.split(' ').slice(0, 2).join(' ')

const NO_CAS = { code: 'CONFIG_INVALID', message: 'verify.host_ca_file: not there' } as const

describe('what lies in the certificate’s place', () => {
  test.each<{ name: string; given: Given; want: { state: string; due: string | null; onDisk: string } }>([
    { name: 'all is well', given: {}, want: { state: 'valid', due: null, onDisk: 'usable' } },
    {
      name: 'nothing',
      given: { stored: { kind: 'absent' } },
      want: { state: 'absent', due: 'absent', onDisk: 'absent' },
    },
    {
      name: 'nothing, after the CA was replaced',
      given: {
        stored: { kind: 'absent' },
        record: { issuerCas: [caLine(otherCa)], formerCas: [caLine(ca)] },
      },
      want: { state: 'absent', due: 'absent', onDisk: 'absent' },
    },
    {
      name: 'what cannot be read',
      given: { stored: { kind: 'unreadable', failure: { code: 'STORE_FAILED', message: 'EACCES' } } },
      want: { state: 'invalid STORE_FAILED', due: 'unusable', onDisk: 'unusable' },
    },
    {
      name: 'the window is open',
      given: { now: START + 21 * DAY },
      want: { state: 'due window-open', due: 'window-open', onDisk: 'usable' },
    },
    {
      name: 'overdue',
      given: { now: START + 28 * DAY },
      want: { state: 'overdue', due: 'overdue', onDisk: 'usable' },
    },
    {
      name: 'expired',
      given: { now: START + 30 * DAY },
      want: { state: 'expired CERT_EXPIRED', due: 'expired', onDisk: 'unusable' },
    },
    {
      name: 'that of a former key',
      given: { stored: stored({ key: sshString(craftKey().blob.subarray(-32)) }) },
      want: { state: 'invalid CERT_KEY_MISMATCH', due: 'key-changed', onDisk: 'unusable' },
    },
    {
      name: 'without a principal that is wanted',
      given: { policy: { wantedPrincipals: ['web2.example.com'] } },
      want: { state: 'invalid CERT_PRINCIPALS_MISMATCH', due: 'principals-wanted', onDisk: 'unusable' },
    },
    {
      name: 'with the principals that are wanted',
      given: { policy: { wantedPrincipals: ['host.example.com'] } },
      want: { state: 'valid', due: null, onDisk: 'usable' },
    },
    {
      name: 'by the pinned CA',
      given: { pinned: [publicKey(ca)] },
      want: { state: 'valid', due: null, onDisk: 'usable' },
    },
    {
      name: 'by another than the pinned CA, whatever the issuer says',
      given: { pinned: [publicKey(otherCa)], record: { issuerCas: [ca.line] } },
      want: { state: 'invalid CERT_CA_MISMATCH', due: 'unusable', onDisk: 'unusable' },
    },
    {
      name: 'the pinned CAs cannot be read: that is the fault, not the certificate’s',
      given: { pinned: NO_CAS },
      want: { state: 'invalid CONFIG_INVALID', due: 'unusable', onDisk: 'unusable' },
    },
    {
      name: 'and a certificate with a fault of its own keeps that',
      given: { pinned: NO_CAS, stored: stored({ kind: uint32(1) }) },
      want: { state: 'invalid CERT_NOT_HOST', due: 'unusable', onDisk: 'unusable' },
    },
    {
      name: 'by the CA that the issuer names',
      given: { record: { issuerCas: [otherCa.line, ca.line] } },
      want: { state: 'valid', due: null, onDisk: 'usable' },
    },
    {
      name: 'by one that it named before: good, and renewed as a routine',
      given: { record: { issuerCas: [otherCa.line], formerCas: [ca.line] } },
      want: { state: 'valid', due: 'ca-changed', onDisk: 'usable' },
    },
    {
      name: 'by one that it never named',
      given: { record: { issuerCas: [otherCa.line] } },
      want: { state: 'invalid CERT_CA_MISMATCH', due: 'unusable', onDisk: 'unusable' },
    },
    {
      name: 'by any, where the issuer cannot name its CA',
      given: { record: { issuerCas: [], formerCas: [otherCa.line] } },
      want: { state: 'valid', due: null, onDisk: 'usable' },
    },
  ])('$name', ({ given, want }) => {
    expect(summary(view(given))).toEqual(want)
  })

  test('its text goes to the helper only when it is usable', () => {
    expect(view().text).toBe(GOOD.text)
    expect(view({ now: START + 31 * DAY }).text).toBeNull()
    expect(view({ stored: { kind: 'absent' } }).text).toBeNull()
  })
})

describe('a file that is no key to be certified', () => {
  const failure = { code: 'HOST_KEY_UNREADABLE', message: 'it is empty' } as const
  test.each<{ name: string; content: HostKeyFile['content']; want: string }>([
    {
      name: 'of a type that is not supported',
      content: { kind: 'unsupported', keyType: 'ssh-dss', failure: { ...failure, message: 'no DSA' } },
      want: 'ignored no DSA',
    },
    {
      name: 'whose name another has',
      content: { kind: 'shadowed', by: '/etc/ssh/a' },
      want: 'ignored /etc/ssh/a has the same file name',
    },
    {
      name: 'that cannot be read: not ignored, for it may be a key',
      content: { kind: 'unreadable', failure },
      want: 'invalid HOST_KEY_UNREADABLE',
    },
  ])('$name: $want', ({ content, want }) => {
    const judged = view({ content })
    expect(summary(judged)).toMatchObject({ state: want, due: null })
    expect(judged).toMatchObject({ subject: null, text: null, times: null, served: { kind: 'not-asked' } })
    expect(unserved([judged])).toEqual([])
  })
})

describe('a key of a type that not every issuer signs', () => {
  const type = 'ssh-mldsa44-ed25519'
  const content = { ...KEY_FILE, key: { ...key, type } }
  const now = START + DAY
  const failed = { code: 'ISSUER_BUSY', message: 'it is busy', at: START, scope: 'issuer' } as const
  const given = (ofKey: Partial<HostKeyRecord>, text: StoredFacts = { kind: 'absent' }): HostKeyView =>
    view({ content, stored: text, ofKey: { evidence: null, ...ofKey }, now })

  test.each<{ name: string; ofKey: Partial<HostKeyRecord>; state: string; due: string | null }>([
    {
      name: 'not asked for yet',
      ofKey: {},
      state: `ignored no key of type ${type} has been signed yet`,
      due: 'absent',
    },
    {
      name: 'the issuer could not be asked',
      ofKey: { lastError: failed },
      state: `ignored no key of type ${type} has been signed yet: it is busy`,
      due: 'absent',
    },
    {
      name: 'refused',
      ofKey: { refused: { why: 'unsupported key type', askAgainAt: now + 1 } },
      state: `ignored the issuer does not sign keys of type ${type}: unsupported key type`,
      due: null,
    },
    {
      name: 'refused a week ago',
      ofKey: { refused: { why: 'unsupported key type', askAgainAt: now } },
      state: `ignored the issuer does not sign keys of type ${type}: unsupported key type`,
      due: 'absent',
    },
    {
      name: 'refused under a clock that was months ahead',
      ofKey: { refused: { why: 'unsupported key type', askAgainAt: now + 60 * DAY } },
      state: `ignored the issuer does not sign keys of type ${type}: unsupported key type`,
      due: 'absent',
    },
    {
      name: 'signed once, and the certificate is gone: as with any other key',
      ofKey: { issued: { serial: '7', at: START } },
      state: 'absent',
      due: 'absent',
    },
  ])('$name: $state', ({ ofKey, state, due }) => {
    expect(summary(given(ofKey))).toMatchObject({ state, due })
  })

  test('is asked for, but sshd is not asked about it, and nobody waits for it', () => {
    const judged = given({})
    expect([hasKey(judged), isCertifiable(judged)]).toEqual([true, false])
    expect(judged.served).toEqual({ kind: 'not-asked' })
    expect(unserved([judged])).toEqual([])
  })

  test('with something in its place, of whatever kind: the issuer has signed one', () => {
    const judged = given({}, GOOD)
    expect(judged.unproven).toBeNull()
    expect(isCertifiable(judged)).toBe(true)
  })
})

describe('the last error', () => {
  const lastError = { code: 'ISSUER_BUSY', message: 'x', at: START, scope: 'issuer' } as const
  test('is the reason of a state that it explains, and of no other', () => {
    expect(view({ now: START + 21 * DAY, ofKey: { lastError } }).state.reason).toBe('ISSUER_BUSY')
    expect(view({ ofKey: { lastError } }).state).toEqual({ state: 'valid', reason: null })
  })

  test('of another key under that name is not', () => {
    const given = { now: START + 21 * DAY, ofKey: { lastError, fingerprint: 'SHA256:other' } }
    expect(view({ ...given, policy: { asksSshd: false } }).state.reason).toBe('window-open')
  })
})

describe('when it falls due', () => {
  const seconds = (given: Given): readonly [number, number] | null => {
    const { times } = view(given)
    return times === null ? null : [times.dueAt - START, times.overdueAt - START]
  }
  const late = { serial: '7', at: START + 25 * DAY }

  test('is by its window', () => {
    expect(seconds({})).toEqual([expect.closeTo(20.1 * DAY, 1), expect.closeTo(26.7 * DAY, 1)])
  })

  test('is not before half of what was left when it was put in place', () => {
    const now = START + 26 * DAY
    expect(seconds({ now, ofKey: { issued: late } })?.[0]).toBe(27.5 * DAY)
    expect(view({ now, ofKey: { issued: late } }).due).toBeNull()
  })

  test('is by its window when another certificate was put in place last, or a clock was ahead then', () => {
    const byWindow = seconds({})
    expect(seconds({ now: START + 26 * DAY, ofKey: { issued: { ...late, serial: '8' } } })).toEqual(byWindow)
    expect(seconds({ now: START + 24 * DAY, ofKey: { issued: late } })).toEqual(byWindow)
    expect(seconds({ now: START + 25 * DAY, ofKey: { issued: late } })).not.toEqual(byWindow)
  })

  test('is known of one that ended, and of none that is unusable for another reason, or ended before it began', () => {
    expect(seconds({ now: START + 31 * DAY })).toEqual(seconds({}))
    expect(seconds({ now: START + 31 * DAY, policy: { wantedPrincipals: ['x'] } })).toBeNull()
    expect(seconds({ stored: stored({ validBefore: uint64(BigInt(START)) }) })).toBeNull()
    expect(seconds({ stored: { kind: 'absent' } })).toBeNull()
    const unreadable = { kind: 'unreadable', failure: { code: 'CERT_EXPIRED', message: 'x' } } as const
    expect(seconds({ stored: unreadable })).toBeNull()
  })

  test('is never for one that does not end', () => {
    expect(view({ stored: stored({ validBefore: uint64(FOREVER) }), now: START + 9000 * DAY }).due).toBeNull()
  })
})

const NONE: Evidence = { kind: 'none', at: START + 2 }
const NOT_OFFERED: Evidence = {
  kind: 'not-offered',
  at: START + 3,
  why: 'sshd does not offer it',
  pairVersion: 'v1',
  isSettled: false,
}
const OTHER_KEY: Evidence = { ...NOT_OFFERED, kind: 'other-key', why: 'sshd offers another', isSettled: true }

describe('what sshd was seen to present', () => {
  test.each<{ name: string; evidence: Evidence | null; served: object; state: string; lacks: string | null }>(
    [
      {
        name: 'nothing yet',
        evidence: null,
        served: { kind: 'nothing-known' },
        state: 'unconfirmed SSHD_UNREACHABLE',
        lacks: 'unseen',
      },
      {
        name: 'exactly this',
        evidence: SERVES_IT,
        served: {
          kind: 'certificate',
          at: START + 1,
          matches: true,
          serial: '7',
          validBefore: START + 30 * DAY,
        },
        state: 'valid',
        lacks: null,
      },
      {
        name: 'another with the same serial',
        evidence: { ...SERVES_IT, digest: '00' },
        served: { kind: 'certificate', matches: false, serial: '7' },
        state: 'unconfirmed SSHD_NOT_SERVING',
        lacks: 'proven',
      },
      {
        name: 'one that never ends and of which no serial can be read',
        evidence: { ...SERVES_IT, digest: '00', serial: null, validBefore: String(FOREVER) },
        served: { kind: 'certificate', matches: false, serial: null, validBefore: Infinity },
        state: 'unconfirmed SSHD_NOT_SERVING',
        lacks: 'proven',
      },
      {
        name: 'one that cannot be read',
        evidence: { ...SERVES_IT, digest: '00', serial: null, validBefore: null },
        served: { kind: 'certificate', matches: false, validBefore: null },
        state: 'unconfirmed SSHD_NOT_SERVING',
        lacks: 'proven',
      },
      {
        name: 'as version 0.1 noted it: by the serial',
        evidence: { ...SERVES_IT, digest: null },
        served: { kind: 'certificate', matches: true },
        state: 'valid',
        lacks: null,
      },
      {
        name: 'another, as version 0.1 noted it',
        evidence: { ...SERVES_IT, digest: null, serial: '8' },
        served: { kind: 'certificate', matches: false },
        state: 'unconfirmed SSHD_NOT_SERVING',
        lacks: 'proven',
      },
      {
        name: 'none',
        evidence: NONE,
        served: NONE,
        state: 'unconfirmed SSHD_NOT_SERVING',
        lacks: 'proven',
      },
      {
        name: 'that it does not offer the key; a reload may help',
        evidence: NOT_OFFERED,
        served: { kind: 'not-offered', at: START + 3, why: 'sshd does not offer it', isSettled: false },
        state: 'ignored sshd does not offer it',
        lacks: 'proven',
      },
      {
        name: 'that it offers another key, and a reload does not help',
        evidence: OTHER_KEY,
        served: { kind: 'other-key', at: START + 3, isSettled: true },
        state: 'ignored sshd offers another',
        lacks: null,
      },
      {
        name: 'that it did not offer what was the key before its files changed',
        evidence: { ...OTHER_KEY, pairVersion: 'v0' },
        served: { kind: 'nothing-known' },
        state: 'unconfirmed SSHD_UNREACHABLE',
        lacks: 'unseen',
      },
    ],
  )('$name: $state', ({ evidence, served, state, lacks }) => {
    for (const unknown of [null, { reason: 'connection refused', since: START }]) {
      const judged = view({ ofKey: { evidence, unknown } })
      expect(judged.served).toMatchObject({ ...served, unknown: unknown?.reason ?? null })
      expect(summary(judged)).toMatchObject({ state })
      expect(unserved([judged]).map(({ how }) => how)).toEqual(lacks === null ? [] : [lacks])
      // Where it is not asked, nothing of it counts.
      const unasked = view({ ofKey: { evidence, unknown }, policy: { asksSshd: false } })
      expect([unasked.served, unasked.state.state]).toEqual([{ kind: 'not-asked' }, 'valid'])
      expect(unserved([unasked])).toEqual([])
    }
  })

  test.each([NOT_OFFERED, OTHER_KEY])('$kind: the key is renewed all the same', (evidence) => {
    expect(view({ ofKey: { evidence }, now: START + 21 * DAY }).due).toBe('window-open')
    expect(view({ ofKey: { evidence }, stored: { kind: 'absent' } }).due).toBe('absent')
  })

  test('an expired certificate may be served too; what is not usable is not lacking', () => {
    const judged = view({ now: START + 31 * DAY })
    expect(judged.served).toMatchObject({ kind: 'certificate', matches: true })
    for (const evidence of [null, NONE, SERVES_IT])
      expect(unserved([view({ now: START + 31 * DAY, ofKey: { evidence } })])).toEqual([])
  })

  test('with nothing on disk, no certificate that sshd presents is that on disk', () => {
    for (const digest of [null, SERVES_IT.digest])
      expect(
        view({ stored: { kind: 'absent' }, ofKey: { evidence: { ...SERVES_IT, digest } } }).served,
      ).toMatchObject({
        matches: false,
      })
  })
})
