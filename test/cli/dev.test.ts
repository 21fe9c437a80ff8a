import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { utimes } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { environmentWith } from './hostcertd.ts'

test('npm run dev: starts anew when a file changes, and Ctrl-C leaves nothing', async () => {
  const command = `${process.execPath} test/support/dev.ts`
  // script(1) gives it a terminal, on which Ctrl-C is a signal to all of it.
  const child = spawn('script', ['-qec', command, '/dev/null'], { env: environmentWith({ TERM: 'dumb' }) })
  let output = ''
  child.stdout.on('data', (chunk) => (output += String(chunk)))
  const starts = () => output.match(/the health server listens/g)?.length ?? 0
  try {
    await expect.poll(starts, { timeout: 30_000 }).toBe(1)
    const [config = ''] = /(?<=--config )\S+/.exec(output) ?? []
    expect(existsSync(config)).toBe(true)
    await expect
      .poll(
        async () => {
          // The watch may begin after the program.
          await utimes(resolve('agent/version.ts'), new Date(), new Date())
          return starts()
        },
        { timeout: 30_000, interval: 2000 },
      )
      .toBeGreaterThan(1)
    child.stdin.write('\u0003')
    await once(child, 'exit')
    expect(existsSync(dirname(config))).toBe(false)
  } finally {
    child.kill('SIGKILL')
  }
})
