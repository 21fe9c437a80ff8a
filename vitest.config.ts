import { defineConfig } from 'vitest/config'

/** `fast` needs nothing but Node and ssh-keygen; `e2e` runs the program against a real sshd. */
export default defineConfig({
  test: {
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
    ],
  },
})
