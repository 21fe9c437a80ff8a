import type { TestOptions } from 'vitest'

declare module 'vitest' {
  interface TaskMeta {
    /** Why a test, or each test of a suite, does not run here. */
    skipReason?: string
  }
}

/**
 * The options of a test or a suite that cannot run everywhere: `test('…', runsIf(HAS_OPENSSL, 'openssl is missing'), …)`.
 * Instead of `skipIf`, which keeps no reason; `.ci/run` counts a test that is skipped without one as failed.
 *
 * @param reason why it is skipped where `condition` does not hold
 */
export function runsIf(condition: boolean, reason: string): TestOptions {
  return condition ? {} : { skip: true, meta: { skipReason: reason } }
}

export const isRoot = process.geteuid?.() === 0

/** For what only root can do. */
export const needsRoot = runsIf(isRoot, 'only root can run it')
