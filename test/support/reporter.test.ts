import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { isRoot } from './skip.ts'
import { makeTemporaryFolder } from './temporary-folder.ts'

const SUPPORT = import.meta.dirname
const VITEST = resolve('node_modules/vitest/vitest.mjs')

const FILES: Readonly<Record<string, string>> = {
  'mixed.test.ts': `
    import { describe, expect, test } from 'vitest'
    import { runsIf } from '${SUPPORT}/skip.ts'
    let tries = 0
    test('good', () => expect(1).toBe(1))
    test('flaky', { retry: 1 }, () => expect(++tries, 'the first try').toBe(2))
    test('bad', { retry: 1 }, () => { throw new Error('broken\\nin two lines') })
    test('noted', ({ skip }) => skip('no moon'))
    test('needs', runsIf(false, 'no sun'), () => expect.unreachable())
    test.skip('hidden', () => expect.unreachable())
    test.each([1, 2])('needs %i', runsIf(false, 'no stars'), () => expect.unreachable())
    describe('outer', () => {
      test('runs', runsIf(true, 'never'), () => expect(1).toBe(1))
      describe('inner', runsIf(false, 'no sky'), () => {
        describe('innermost', () => { test('one', () => expect.unreachable()) })
      })
    })`,
  'unloadable.test.ts': `throw new Error('no such thing')`,
  'set-up.test.ts': `
    import { beforeAll, describe, test } from 'vitest'
    describe('suite', () => { beforeAll(() => { throw new Error('no set-up') }); test('one', () => {}) })`,
}

test('a line for each result, also for retries, skips and what never ran', async () => {
  await using folder = await makeTemporaryFolder()
  const report = join(folder.path, 'report')
  for (const [name, text] of Object.entries(FILES)) await writeFile(join(folder.path, name), text)
  await writeFile(
    join(folder.path, 'vitest.config.ts'),
    `import { HonestReporter } from '${SUPPORT}/reporter.ts'
     export default { test: { reporters: [new HonestReporter(process.env.REPORT)] } }`,
  )
  // Vitest is found from the folder by this.
  await promisify(execFile)('ln', ['-s', resolve('node_modules'), join(folder.path, 'node_modules')])
  const { stdout } = await promisify(execFile)(process.execPath, [VITEST, 'run', '--root', folder.path], {
    env: { ...process.env, REPORT: report },
  }).catch((error: { readonly stdout: string }) => error)

  const asRoot = ['failed\tmixed.test.ts > outer > inner\teach of its tests was skipped, as root']
  const lines = (await readFile(report, 'utf8')).trimEnd().split('\n')
  expect(lines.toSorted()).toEqual(
    [
      'passed\tmixed.test.ts > good\t',
      'passed\tmixed.test.ts > flaky\t',
      'retried\tmixed.test.ts > flaky\tthe first try: expected 1 to be 2 // Object.is equality',
      'failed\tmixed.test.ts > bad\tbroken',
      'skipped\tmixed.test.ts > noted\tno moon',
      'skipped\tmixed.test.ts > needs\tno sun',
      'failed\tmixed.test.ts > hidden\tskipped without a reason',
      'skipped\tmixed.test.ts > needs 1\tno stars',
      'skipped\tmixed.test.ts > needs 2\tno stars',
      'passed\tmixed.test.ts > outer > runs\t',
      'skipped\tmixed.test.ts > outer > inner > innermost > one\tno sky',
      'failed\tunloadable.test.ts\tno such thing',
      'failed\tset-up.test.ts > suite\tno set-up',
      ...(isRoot ? asRoot : []),
    ].toSorted(),
  )
  expect(stdout).toContain('retried: mixed.test.ts > flaky: the first try')
  expect(stdout).toContain('skipped: mixed.test.ts > needs: no sun')
})
