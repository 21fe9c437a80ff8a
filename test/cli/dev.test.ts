import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { utimes } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { environmentWith } from './hostcertd.ts'

test.each([
  { name: 'Ctrl-C', end: (child: ChildProcess) => child.stdin?.write('\u0003') },
  // script(1) closes the terminal, as when a window is closed.
  { name: 'the end of the terminal', end: (child: ChildProcess) => child.kill('SIGTERM') },
])('npm run dev starts anew when a file changes, and $name leaves nothing', async ({ end }) => {
  const command = `${process.execPath} test/support/dev.ts`
  // script(1) gives it a terminal, on which Ctrl-C is SIGINT.
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
    end(child)
    await expect.poll(() => existsSync(dirname(config)), { timeout: 15_000 }).toBe(false)
  } finally {
    // As when a window is closed: what still runs ends too.
    child.kill('SIGTERM')
  }
})
