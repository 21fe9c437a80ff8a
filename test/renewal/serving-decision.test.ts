import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { decideServing, type ServingFacts, type ServingStep } from '../../agent/renewal/serving-decision.ts'

/** All is served, nothing waits, sshd was asked lately and could be reloaded. */
const WELL: ServingFacts = {
  swapped: false,
  byHand: false,
  askDue: false,
  hasHelper: true,
  helperUnasked: false,
  copiesDiffer: false,
  installWaits: false,
  reloadOwed: false,
  unserved: 'none',
  isDown: false,
  reloadWaits: false,
  mayReload: true,
  installed: false,
  asked: false,
}

const PROVEN = { unserved: 'proven' } as const
const UNSEEN = { unserved: 'unseen' } as const
const ASKED = { asked: true } as const
const NO_HELPER = { hasHelper: false } as const

test.each<{ name: string; want: ServingStep } & Partial<ServingFacts>>([
  { name: 'all is served', want: 'end' },
  { name: 'it is time to ask', askDue: true, want: 'ask' },
  { name: 'it was asked', askDue: true, ...ASKED, want: 'end' },
  {
    name: 'the helper did not say yet where sshd listens',
    helperUnasked: true,
    askDue: true,
    want: 'install',
  },
  { name: 'without a helper there is nobody to say', ...NO_HELPER, helperUnasked: true, want: 'end' },
  { name: 'swapped: sshd is asked first', ...NO_HELPER, swapped: true, ...UNSEEN, want: 'ask' },
  { name: 'swapped, and served already', swapped: true, ...ASKED, want: 'end' },
  { name: 'swapped, and not served', ...NO_HELPER, swapped: true, ...PROVEN, ...ASKED, want: 'reload' },
  { name: 'swapped, and nothing is known', swapped: true, ...UNSEEN, ...ASKED, want: 'reload' },
  { name: 'nothing is known of an earlier one', ...UNSEEN, ...ASKED, want: 'end' },
  { name: 'not served since an earlier pass: asked first', ...PROVEN, want: 'ask' },
  { name: 'and still not: what the helper wrote may be gone', ...PROVEN, ...ASKED, want: 'install' },
  { name: 'and it is not that', ...PROVEN, ...ASKED, installed: true, want: 'reload' },
  { name: 'without a helper', ...PROVEN, ...ASKED, ...NO_HELPER, want: 'reload' },
  { name: 'sshd is down: it reads when it starts', ...PROVEN, ...ASKED, isDown: true, want: 'end' },
  { name: 'down, and swapped', ...UNSEEN, ...ASKED, isDown: true, swapped: true, want: 'reload' },
  { name: 'down, and owed', reloadOwed: true, ...ASKED, isDown: true, want: 'end' },
  { name: 'owed', reloadOwed: true, ...ASKED, want: 'reload' },
  { name: 'owed: asked first', reloadOwed: true, want: 'ask' },
  { name: 'a reload did not help', ...PROVEN, reloadWaits: true, want: 'end' },
  { name: 'owed, and the last one failed', reloadOwed: true, reloadWaits: true, want: 'end' },
  {
    name: 'a swap ends the wait',
    ...NO_HELPER,
    ...PROVEN,
    ...ASKED,
    reloadWaits: true,
    swapped: true,
    want: 'reload',
  },
  {
    name: 'a person ends the wait',
    ...NO_HELPER,
    ...PROVEN,
    ...ASKED,
    reloadWaits: true,
    byHand: true,
    want: 'reload',
  },
  { name: 'no way to reload', ...NO_HELPER, ...PROVEN, ...ASKED, mayReload: false, want: 'cannot-reload' },
  { name: 'copies first', copiesDiffer: true, swapped: true, ...UNSEEN, want: 'install' },
  { name: 'copied: sshd may read them by itself', copiesDiffer: true, installed: true, want: 'ask' },
  {
    name: 'copied in a later pass, and nothing is known',
    installed: true,
    ...UNSEEN,
    ...ASKED,
    want: 'reload',
  },
  { name: 'copies do not wait for a reload', copiesDiffer: true, reloadWaits: true, want: 'install' },
  { name: 'a copy that failed waits', copiesDiffer: true, installWaits: true, want: 'end' },
  {
    name: 'and sshd is asked all the same',
    copiesDiffer: true,
    installWaits: true,
    askDue: true,
    want: 'ask',
  },
  {
    name: 'the reload waits with it',
    copiesDiffer: true,
    installWaits: true,
    ...PROVEN,
    ...ASKED,
    want: 'end',
  },
  { name: 'a person ends that wait', copiesDiffer: true, installWaits: true, byHand: true, want: 'install' },
  {
    name: 'a helper that fails is no reason not to reload',
    installWaits: true,
    ...PROVEN,
    ...ASKED,
    want: 'reload',
  },
])('$name: $want', ({ want, ...facts }) => {
  expect(decideServing({ ...WELL, ...facts })).toBe(want)
})

test('whatever is known, it comes to an end: no step is decided twice when it was done', () => {
  const flag = fc.boolean()
  const facts = fc.record({
    swapped: flag,
    byHand: flag,
    askDue: flag,
    hasHelper: flag,
    helperUnasked: flag,
    copiesDiffer: flag,
    installWaits: flag,
    reloadOwed: flag,
    unserved: fc.constantFrom('proven', 'unseen', 'none'),
    isDown: flag,
    reloadWaits: flag,
    mayReload: flag,
  })
  const LAST: readonly ServingStep[] = ['end', 'reload', 'cannot-reload']
  const stepsOf = (known: Omit<ServingFacts, 'installed' | 'asked'>): ServingStep[] => {
    const done = { installed: false, asked: false }
    const steps: ServingStep[] = []
    while (steps.length < 8) {
      const next = decideServing({ ...known, ...done })
      steps.push(next)
      if (LAST.includes(next)) break
      if (next === 'ask') done.asked = true
      if (next === 'install') Object.assign(done, { installed: true, asked: false })
    }
    return steps
  }
  fc.assert(
    fc.property(facts, (known) => {
      const steps = stepsOf(known)
      expect(LAST).toContain(steps.at(-1))
      expect(steps.filter((step) => step === 'install').length).toBeLessThan(2)
    }),
  )
})
