import { defineConfig } from 'vitest/config'
import { HonestReporter } from './test/support/reporter.ts'

/** Tests of single parts, but with hundreds of runs or programs: too slow for `npm run check`. */
const THOROUGH = [
  'test/enroll/{ca-refresh,ca-refresh-killed,enroll,first-boot,journal,sshd,template}.test.ts',
  'test/issuer/{exchange-unit,hosts,login-cloud,logins}.test.ts',
  'test/machine/{served-certificates,served-certificates-faults,watch}.test.ts',
]

/**
 * `fast` needs little more than Node and ssh-keygen; `thorough` also a real sshd; `cli` and `e2e` run the bundle, `e2e` against
 * a real sshd; `browser` looks at the status page in Chromium; `monitoring` lets a real Prometheus watch real daemons; `packaging` tries the
 * packages, the root helper, and the completions in their shells; `host` boots whole hosts and installs the packages there, as root.
 */
/** Whole programs on a noisy machine: what fails twice is broken. */
const RETRY = 1

export default defineConfig({
  test: {
    // .ci/run counts what the file says.
    reporters: ['default', new HonestReporter(process.env['VITEST_REPORT'])],
    // Of all projects. What is polled for comes; how soon says nothing on a busy machine.
    expect: { poll: { timeout: 20_000 } },
    projects: [
      {
        test: {
          name: 'fast',
          maxWorkers: 2,
          include: ['test/{cert,config,enroll,health,issuer,log,machine,renewal}/**/*.test.ts'],
          exclude: THOROUGH,
          // A simulated day is some seconds of computing, or half a minute on a machine with much else to do.
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'thorough',
          maxWorkers: 2,
          include: THOROUGH,
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'cli',
          retry: RETRY,
          maxWorkers: 2,
          include: ['test/{cli,doctor,support}/**/*.test.ts'],
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'e2e',
          retry: RETRY,
          maxWorkers: 2,
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'faults',
          // Each fault is a process of its own, some of them hundreds; the soak test and the one of time-outs mostly wait.
          maxWorkers: 3,
          include: ['test/faults/**/*.test.ts'],
          testTimeout: 3_600_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'browser',
          retry: RETRY,
          // A browser has many processes of its own.
          fileParallelism: false,
          include: ['test/browser/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'packaging',
          maxWorkers: 2,
          include: ['test/packaging/**/*.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 300_000,
        },
      },
      {
        test: {
          name: 'monitoring',
          retry: RETRY,
          include: ['test/monitoring/**/*.test.ts'],
          // Half a dozen daemons at once, and certificates that have to expire; beside it runs a browser.
          testTimeout: 480_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'host',
          retry: RETRY,
          // See test/host/run.ts, which sets this variable when somebody names releases.
          include: [
            process.env['HOSTCERTD_HOST_TEST_RELEASES'] ? 'test/host/**/*.test.ts' : 'test/host/*.test.ts',
          ],
          globalSetup: ['test/host/support/global-setup.ts'],
          // A booted host waits most of the time: two of them share two cores well.
          maxWorkers: 2,
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
})
