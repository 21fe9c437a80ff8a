import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'

const run = promisify(execFile)

/** What is in the pages is compared with the program by test/cli/man.test.ts. */
describe.each(['hostcertd.8', 'hostcertd.yaml.5'])('%s', (name) => {
  const path = `packaging/man/${name}`

  test('mandoc -T lint has nothing to say', async () => {
    const { stdout } = await run('mandoc', ['-T', 'lint', path]).catch(
      (error: { readonly stdout: string }) => error,
    )
    // Which other manuals are installed is the machine's affair.
    expect(
      stdout.split('\n').filter((line) => line !== '' && !line.includes('referenced manual not found')),
    ).toEqual([])
  })

  test('man --warnings has nothing to say', async () => {
    const { stdout, stderr } = await run('man', ['--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z', path], {
      env: { ...process.env, LC_ALL: 'C.UTF-8' },
    })
    expect(stderr).toBe('')
    expect(stdout).toContain('hostcertd')
  })
})
