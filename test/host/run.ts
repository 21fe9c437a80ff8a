import { spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { argv, env, execPath, exit, stderr } from 'node:process'
import { fileURLToPath } from 'node:url'
import { planOf, RELEASES_VARIABLE, UsageError } from './support/selection.ts'

/**
 * `npm run test:host -- [RELEASE…] [PART OF A FILE NAME…] [OPTION OF VITEST…]`
 *
 * Without a release: the tests of `test/host` as `.ci/run` runs them, on Debian 12 and 13 or, what does not differ
 * between them, on 12. With `bookworm`, `trixie`, `testing`, or `all`: on these, and `test/host/scenarios` too. Debian
 * testing has whatever OpenSSH it has on the day, so only a person asks for it.
 */
const checkout = fileURLToPath(new URL('../..', import.meta.url))
const files = readdirSync(new URL('.', import.meta.url), { recursive: true, encoding: 'utf8' }).filter(
  (name) => name.endsWith('.test.ts'),
)

try {
  const { releases, rest } = planOf(argv.slice(2), files)
  const vitest = `${checkout}node_modules/vitest/vitest.mjs`
  const child = spawn(execPath, [vitest, 'run', '--project', 'host', ...rest], {
    cwd: checkout,
    env: { ...env, [RELEASES_VARIABLE]: releases.join(' ') },
    stdio: 'inherit',
  })
  // The terminal sends Ctrl-C to both: vitest cleans up, and then this ends as it does.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => child.kill('SIGTERM'))
  child.on('close', (status) => exit(status ?? 1))
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  stderr.write(`test:host: ${error.message}\n`)
  exit(64)
}
