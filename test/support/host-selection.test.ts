import { describe, expect, test } from 'vitest'
import { planOf, selectedSuites, UsageError } from '../host/support/selection.ts'

const FILES = ['install.test.ts', 'scenarios/upgrades.test.ts']

describe('npm run test:host -- WORD…', () => {
  test.each([
    { words: [], releases: [], rest: [] },
    { words: ['testing'], releases: ['testing'], rest: [] },
    { words: ['trixie', 'bookworm', 'trixie'], releases: ['bookworm', 'trixie'], rest: [] },
    { words: ['all'], releases: ['bookworm', 'trixie', 'testing'], rest: [] },
    { words: ['testing', 'upgrades'], releases: ['testing'], rest: ['upgrades'] },
    { words: ['install', 'all'], releases: ['bookworm', 'trixie', 'testing'], rest: ['install'] },
    { words: ['scenarios'], releases: ['bookworm', 'trixie'], rest: ['scenarios'] },
    { words: ['install'], releases: [], rest: ['install'] },
    // What an option is given is no word of ours.
    { words: ['-t', 'testing'], releases: [], rest: ['-t', 'testing'] },
    { words: ['testing', '-t', 'boot'], releases: ['testing'], rest: ['-t', 'boot'] },
  ])('$words', ({ words, releases, rest }) => {
    expect(planOf(words, FILES)).toEqual({ releases, rest })
  })

  test.each(['tesing', 'Testing', 'testing bookworm', '', 'sid'])('%j is refused', (word) => {
    expect(() => planOf([word], FILES)).toThrow(UsageError)
  })
})

test.each([
  { named: undefined, suites: ['bookworm', 'trixie'] },
  { named: ' ', suites: ['bookworm', 'trixie'] },
  { named: 'testing', suites: ['testing'] },
  { named: 'testing  bookworm', suites: ['bookworm', 'testing'] },
])('the releases of $named', ({ named, suites }) => {
  expect(selectedSuites(named)).toEqual(suites)
})

test('a release that there is not is refused, wherever it was named', () => {
  expect(() => selectedSuites('testing sid')).toThrow(UsageError)
})
