import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { publicKeyText, type PublicKey } from '../../agent/cert/public-key.ts'
import { decideUserCas, keysIn, type UserCa, userCaText } from '../../agent/enroll/user-ca.ts'
import { craftKey } from '../cert/craft.ts'

const DAY = 86_400
const NOW = 20_000 * DAY
const [one, two, three] = [craftKey(), craftKey(), craftKey()].map(({ blob }) => {
  const [key] = keysIn(publicKeyText({ type: 'ssh-ed25519', blob })).keys
  return key as PublicKey
}) as [PublicKey, PublicKey, PublicKey]
const POLICY = { overlapSeconds: 14 * DAY, fingerprints: [], revoked: [] }
const current = (key: PublicKey): UserCa => ({ key, unnamedSince: null })
const old = (key: PublicKey, days: number): UserCa => ({ key, unnamedSince: NOW - days * DAY })
const pinning = (...keys: PublicKey[]) => ({
  ...POLICY,
  fingerprints: keys.map(({ fingerprint }) => fingerprint),
})
const revoking = (...keys: PublicKey[]) => ({
  ...POLICY,
  revoked: keys.map(({ fingerprint }) => fingerprint),
})

describe('which user CAs are trusted', () => {
  test.each([
    { name: 'the first', known: [], answer: one, cas: [current(one)] },
    { name: 'the same again', known: [current(one)], answer: one, cas: [current(one)] },
    { name: 'none is known yet', known: [], answer: null, cas: [] },
    { name: 'no answer', known: [current(one)], answer: null, cas: [current(one)] },
    { name: 'another', known: [current(one)], answer: two, cas: [old(one, 0), current(two)] },
    {
      name: 'in its overlap',
      known: [old(one, 3), current(two)],
      answer: two,
      cas: [old(one, 3), current(two)],
    },
    { name: 'after it', known: [old(one, 14), current(two)], answer: two, cas: [current(two)] },
    { name: 'after it, no answer', known: [old(one, 14), current(two)], answer: null, cas: [current(two)] },
    { name: 'the last one stays', known: [old(one, 14)], answer: null, cas: [old(one, 14)] },
    {
      name: 'named again',
      known: [old(one, 3), current(two)],
      answer: one,
      cas: [old(two, 0), current(one)],
    },
    {
      name: 'noted by a clock that was ahead',
      known: [old(one, -9), current(two)],
      answer: two,
      cas: [old(one, 0), current(two)],
    },
    {
      name: 'no overlap',
      known: [current(one)],
      answer: two,
      policy: { ...POLICY, overlapSeconds: 0 },
      cas: [current(two)],
    },
    {
      name: 'pinned',
      known: [current(one)],
      answer: two,
      policy: pinning(two),
      cas: [old(one, 0), current(two)],
    },
    {
      name: 'not pinned',
      known: [current(one)],
      answer: two,
      policy: pinning(one),
      cas: [current(one)],
      refused: /fingerprints does not list/,
    },
    {
      name: 'in place, and not pinned',
      known: [current(one)],
      answer: one,
      policy: pinning(two),
      cas: [current(one)],
      refused: /fingerprints does not list/,
    },
    {
      name: 'revoked',
      known: [old(one, 1), current(two)],
      answer: two,
      policy: revoking(one),
      cas: [current(two)],
    },
    {
      name: 'revoked, no answer',
      known: [old(one, 1), current(two)],
      answer: null,
      policy: revoking(one),
      cas: [current(two)],
    },
    {
      name: 'revoked, and named',
      known: [old(one, 1), current(two)],
      answer: two,
      policy: revoking(two),
      cas: [old(one, 1)],
      refused: /revoked lists/,
    },
    {
      name: 'another, by a clock that is not known',
      known: [current(one)],
      answer: two,
      now: null,
      cas: [current(one), current(two)],
    },
    {
      name: 'after its overlap, by a clock that is not known',
      known: [old(one, 15), current(two)],
      answer: two,
      now: null,
      cas: [old(one, 15), current(two)],
    },
    {
      name: 'revoked, by a clock that is not known',
      known: [old(one, 1), current(two)],
      answer: null,
      now: null,
      policy: revoking(one),
      cas: [current(two)],
    },
    { name: 'the only one revoked', known: [current(one)], answer: null, policy: revoking(one), cas: [] },
  ])('$name', ({ known, answer, policy = POLICY, now = NOW, cas, refused }) => {
    const decision = decideUserCas(known, answer, policy, now)
    expect(decision.cas).toEqual(cas)
    expect(decision.refused ?? '').toMatch(refused ?? /^$/)
  })

  test('whatever happens: a CA is trusted while one is known that is not revoked, and never a revoked one', () => {
    const all = [one, two, three]
    const ca = fc.record({
      key: fc.constantFrom(...all),
      unnamedSince: fc.option(fc.integer({ min: NOW - 40 * DAY, max: NOW + 40 * DAY })),
    })
    fc.assert(
      fc.property(
        fc.uniqueArray(ca, { selector: ({ key }) => key.fingerprint }),
        fc.option(fc.constantFrom(...all)),
        fc.subarray(all),
        fc.subarray(all),
        fc.integer({ min: 0, max: 30 }),
        fc.constantFrom(NOW, null),
        (known, answer, pins, revoked, days, now) => {
          const policy = {
            overlapSeconds: days * DAY,
            fingerprints: pinning(...pins).fingerprints,
            revoked: revoking(...revoked).revoked,
          }
          const { cas } = decideUserCas(known, answer, policy, now)
          const trusted = cas.map(({ key }) => key)
          expect(trusted.filter((key) => revoked.includes(key))).toEqual([])
          expect(new Set(trusted).size).toBe(trusted.length)
          const isOneLeft = known.some(({ key }) => !revoked.includes(key))
          expect(trusted.length > 0 || !isOneLeft).toBe(true)
          const added = trusted.filter((key) => !known.some((before) => before.key === key))
          expect(added.every((key) => key === answer && (pins.length === 0 || pins.includes(key)))).toBe(true)
          expect(decideUserCas(cas, answer, policy, now).cas).toEqual(cas)
        },
      ),
    )
  })
})

test('the file: a line for each, read back as sshd reads it', () => {
  const text = userCaText([current(one), old(two, 1)])
  expect(text).toMatch(/^# Written by hostcertd: .*\nssh-ed25519 \S+\nssh-ed25519 \S+\n$/)
  expect(keysIn(text)).toEqual({ keys: [one, two], skipped: [] })
  expect(keysIn(userCaText([]))).toEqual({ keys: [], skipped: [] })
  const damaged = text.replace(publicKeyText(one), publicKeyText(one).slice(0, 40))
  expect(keysIn(damaged)).toEqual({ keys: [two], skipped: [2] })
})
