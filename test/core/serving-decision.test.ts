import { expect, test } from 'vitest'
import { decideServing, type ServingDecision, type ServingFacts } from '../../agent/core/serving-decision.ts'

/** All is served, nothing waits, and sshd could be reloaded. */
const WELL: ServingFacts = {
  swapped: false,
  byHand: false,
  copiesDiffer: false,
  installWaits: false,
  reloadOwed: false,
  unserved: false,
  silent: false,
  reloadWaits: false,
  mayReload: true,
}

test.each<{ name: string; want: ServingDecision } & Partial<ServingFacts>>([
  { name: 'all is served', want: 'leave' },
  { name: 'swapped, and served already', swapped: true, want: 'leave' },
  { name: 'swapped, and not served', swapped: true, unserved: true, want: 'reload' },
  { name: 'swapped, and sshd is silent', swapped: true, unserved: true, silent: true, want: 'reload' },
  { name: 'not served since an earlier pass', unserved: true, want: 'reload' },
  { name: 'sshd is down: it reads when it starts', unserved: true, silent: true, want: 'leave' },
  { name: 'owed, and sshd is silent', reloadOwed: true, silent: true, want: 'reload' },
  { name: 'a reload did not help', unserved: true, reloadWaits: true, want: 'leave' },
  { name: 'owed, and the last one failed', reloadOwed: true, reloadWaits: true, want: 'leave' },
  { name: 'a swap ends the wait', unserved: true, reloadWaits: true, swapped: true, want: 'reload' },
  { name: 'a person ends the wait', unserved: true, reloadWaits: true, byHand: true, want: 'reload' },
  { name: 'no way to reload', unserved: true, mayReload: false, want: 'cannot-reload' },
  { name: 'copies first', copiesDiffer: true, unserved: true, want: 'install' },
  { name: 'copies do not wait for a reload', copiesDiffer: true, reloadWaits: true, want: 'install' },
  { name: 'a copy that failed waits', copiesDiffer: true, installWaits: true, want: 'leave' },
  {
    name: 'and so does the reload behind it',
    copiesDiffer: true,
    installWaits: true,
    unserved: true,
    want: 'leave',
  },
  { name: 'a person ends that wait', copiesDiffer: true, installWaits: true, byHand: true, want: 'install' },
])('$name', ({ want, ...facts }) => {
  expect(decideServing({ ...WELL, ...facts })).toBe(want)
})

/** Every combination: 512. */
const ALL = Object.keys(WELL).reduce<readonly ServingFacts[]>(
  (some, key) => some.flatMap((facts) => [facts, { ...facts, [key]: !facts[key as keyof ServingFacts] }]),
  [WELL],
)

test.each<{ name: string; when: (facts: ServingFacts) => boolean; never: ServingDecision }>([
  {
    name: 'a wait of a copy that nobody ended',
    when: ({ installWaits, swapped, byHand }) => installWaits && !swapped && !byHand,
    never: 'install',
  },
  {
    name: 'a wait of a reload that nobody ended',
    when: ({ reloadWaits, swapped, byHand }) => reloadWaits && !swapped && !byHand,
    never: 'reload',
  },
  { name: 'copies that differ', when: ({ copiesDiffer }) => copiesDiffer, never: 'reload' },
  { name: 'no way to reload', when: ({ mayReload }) => !mayReload, never: 'reload' },
  {
    name: 'all is served and nothing is owed',
    when: ({ unserved, reloadOwed }) => !unserved && !reloadOwed,
    never: 'reload',
  },
])('$name: never $never, whatever else holds', ({ when, never }) => {
  const decisions = ALL.filter(when).map((facts) => decideServing(facts))
  expect(decisions.length).toBeGreaterThan(50)
  expect(decisions).not.toContain(never)
})
