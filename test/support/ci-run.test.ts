import { execFile } from 'node:child_process'
import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { delimiter, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { makeTemporaryFolder } from './temporary-folder.ts'

/**
 * What `.ci/run` prints where npm does nothing but this.
 *
 * @param npm a script of sh; `$what` is the name of what npm was to run, `$VITEST_REPORT` the report that is wanted
 */
async function ciRun(npm: string): Promise<{ readonly status: number; readonly lines: readonly string[] }> {
  await using folder = await makeTemporaryFolder()
  await mkdir(join(folder.path, '.ci'))
  await mkdir(join(folder.path, 'bin'))
  await copyFile(resolve('.ci/run'), join(folder.path, '.ci/run'))
  const passes = String.raw`[ -z "$VITEST_REPORT" ] || printf 'passed\t%s\t\n' "a.test.ts > one" >"$VITEST_REPORT"`
  const script = `#!/bin/sh\nfor what; do :; done\n${passes}\n${npm}\nexit 0\n`
  await writeFile(join(folder.path, 'bin/npm'), script, { mode: 0o755 })
  const PATH = [join(folder.path, 'bin'), process.env['PATH']].join(delimiter)
  const { stdout, code } = await promisify(execFile)('bash', ['.ci/run'], {
    cwd: folder.path,
    env: { ...process.env, PATH },
  }).then(
    (result) => ({ ...result, code: 0 }),
    (error: { readonly stdout: string; readonly code: number }) => error,
  )
  return { status: code, lines: stdout.trimEnd().split('\n') }
}

test('all is well: the time of each part, and the count', async () => {
  const { status, lines } = await ciRun('')
  expect(status).toBe(0)
  expect(lines.at(-1)).toBe('14 passed, 0 failed')
  const times = lines.slice(lines.indexOf('== time') + 1, -1)
  // Two parts run side by side, and either may end first.
  expect(times.map((line) => line.replace(/^ *\d+ s {2}/, '')).toSorted()).toEqual(
    'browser demo faults format host install lint monitoring package packaging tests tools total types unused'.split(
      ' ',
    ),
  )
  expect(lines).not.toContain('== skipped')
})

test('what needed a retry and what was skipped is named, with the reason, and is no failure', async () => {
  const { status, lines } = await ciRun(String.raw`
[ "$what" != test:host ] || printf 'skipped\tb > two\tno moon\nretried\ta.test.ts > one\tlate\n' >>"$VITEST_REPORT"`)
  expect(status).toBe(0)
  expect(lines).toEqual(
    expect.arrayContaining(['== needed a retry', 'a.test.ts > one: late', '== skipped', 'b > two: no moon']),
  )
  expect(lines.at(-1)).toBe('14 passed, 0 failed')
})

test.each([
  {
    name: 'a step',
    npm: '[ "$what" != lint ] || exit 3',
    failed: 'lint: exit status 3',
    count: '13 passed, 1 failed',
  },
  {
    name: 'a test',
    npm: String.raw`[ "$what" != test ] || { printf 'failed\tb > two\tbroken\n' >>"$VITEST_REPORT"; exit 1; }`,
    failed: 'b > two: broken',
    count: '14 passed, 1 failed',
  },
  {
    name: 'vitest, though each test passed',
    npm: '[ "$what" != test ] || exit 1',
    failed: 'tests: exit status 1, though no test failed',
    count: '14 passed, 1 failed',
  },
  {
    name: 'vitest, before its report',
    npm: '[ "$what" != test ] || { rm "$VITEST_REPORT"; exit 137; }',
    failed: 'tests: left no report, exit status 137',
    count: '13 passed, 1 failed',
  },
  {
    name: 'a run without a test',
    npm: '[ "$what" != test ] || : >"$VITEST_REPORT"',
    failed: 'tests: ran no test',
    count: '13 passed, 1 failed',
  },
])('$name fails', async ({ npm, failed, count }) => {
  const { status, lines } = await ciRun(npm)
  expect(status).toBe(1)
  expect(lines.slice(lines.indexOf('== failed'))).toContain(failed)
  expect(lines.at(-1)).toBe(count)
})
