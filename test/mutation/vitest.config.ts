import { defineConfig } from 'vitest/config'

/** The tests that Stryker runs for each mutation: those of what it mutates, without whole simulated days. */
export default defineConfig({
  test: {
    include: ['test/{cert,renewal}/**/*.test.ts', 'test/machine/handshake.test.ts'],
    exclude: ['test/renewal/lifetimes.test.ts'],
    isolate: false,
    testTimeout: 60_000,
  },
})
