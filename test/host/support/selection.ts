/** A release of Debian, as its archive names it. */
export type Suite = 'bookworm' | 'trixie' | 'testing'

const SUITES: readonly Suite[] = ['bookworm', 'trixie', 'testing']
/** Of testing nobody here decides when it changes: it is tried when somebody asks for it. */
const USUAL: readonly Suite[] = ['bookworm', 'trixie']

/** Carries the releases that were named from `test/host/run.ts` to the tests; blank: none was. */
export const RELEASES_VARIABLE = 'HOSTCERTD_HOST_TEST_RELEASES'

/** Somebody has asked for what there is not. */
export class UsageError extends Error {}

/** What `npm run test:host -- WORD…` asks for. */
export interface Plan {
  /** Named, each once, oldest first; empty: the usual ones. */
  readonly releases: readonly Suite[]
  /** For vitest: parts of file names, and options. */
  readonly rest: readonly string[]
}

/**
 * Read the words of `npm run test:host -- WORD…`: releases in any order, then parts of file names; from the first option
 * on all is vitest's. Who asks for scenarios by name alone gets them on the usual releases.
 *
 * @param files the test files, relative to test/host
 * @throws {UsageError} for a word that is neither
 */
export function planOf(words: readonly string[], files: readonly string[]): Plan {
  const firstOption = words.findIndex((word) => word.startsWith('-'))
  const plain = firstOption === -1 ? words : words.slice(0, firstOption)
  const named = new Set<Suite>()
  const parts: string[] = []
  let onlyScenarios = false
  for (const word of plain) {
    const suite = SUITES.find((name) => name === word)
    const found = files.filter((file) => word !== '' && `test/host/${file}`.includes(word))
    if (suite !== undefined) named.add(suite)
    else if (word === 'all') for (const name of SUITES) named.add(name)
    else if (found.length === 0)
      throw new UsageError(`${word}: not a release (${SUITES.join(', ')}, all), and in no file's name`)
    else {
      parts.push(word)
      if (found.every((file) => file.startsWith('scenarios/'))) onlyScenarios = true
    }
  }
  if (onlyScenarios && named.size === 0) for (const name of USUAL) named.add(name)
  return {
    releases: SUITES.filter((suite) => named.has(suite)),
    rest: [...parts, ...words.slice(plain.length)],
  }
}

/**
 * The releases to test on.
 *
 * @param named the value of {@link RELEASES_VARIABLE}
 * @throws {UsageError} for a release that there is not
 */
export function selectedSuites(named = ''): readonly Suite[] {
  const { releases, rest } = planOf(
    named.split(/\s+/).filter((word) => word !== ''),
    [],
  )
  if (rest.length > 0) throw new UsageError(`${RELEASES_VARIABLE}: not a release: ${rest.join(' ')}`)
  return releases.length === 0 ? USUAL : releases
}
