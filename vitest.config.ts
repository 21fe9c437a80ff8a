import { defineConfig } from 'vitest/config'

/** `fast` needs nothing but Node and ssh-keygen; `e2e` runs the program against a real sshd; `host` boots
 * whole hosts and installs the packages there, which needs root. */
export default defineConfig({
  test: {
    // .ci/run sums up what the reports say.
    reporters: process.env['VITEST_REPORT'] === undefined ? ['default'] : ['default', 'json'],
    outputFile: { json: process.env['VITEST_REPORT'] ?? '' },
    projects: [
      {
        test: {
          name: 'fast',
          include: ['test/{core,renewal,adapters,config,cli,support}/**/*.test.ts'],
          testTimeout: 20_000,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'host',
          include: ['test/host/**/*.test.ts'],
          globalSetup: ['test/host/support/global-setup.ts'],
          // One booted host at a time: each is a whole system, and what is measured on it are seconds.
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
})
