import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { describe, expect, test } from 'vitest'

/** Of an installed host, with whatever Node is told. */
const STARTS = [
  { file: 'systemd/hostcertd.service', line: /^ExecStart=\S+\/node (.*) \S+\/hostcertd\.js run$/m },
  { file: 'packaging/hostcertd.sh', line: /^exec \S+\/node (.*) \S+\/hostcertd\.js "\$@"$/m },
]

/** Reports SIGUSR1 and where the debugger listens, for each line on stdin. */
const PROGRAM = `
const inspector = require('node:inspector')
const report = (event) => console.log(JSON.stringify({ event, debugger: inspector.url() ?? null }))
process.stdin.on('data', () => report('asked'))
if (process.argv[1] === 'handle') process.on('SIGUSR1', () => report('SIGUSR1'))
report('started')
`

describe.each(STARTS)('SIGUSR1 to what $file starts', ({ file, line }) => {
  async function start(...argv: string[]) {
    const [, options = ''] = line.exec(await readFile(file, 'utf8')) ?? []
    expect(options).not.toBe('')
    const child = spawn(process.execPath, [...options.split(' '), '-e', PROGRAM, ...argv])
    const events = createInterface(child.stdout)[Symbol.asyncIterator]()
    const next = async (): Promise<unknown> => JSON.parse((await events.next()).value as string)
    expect(await next()).toEqual({ event: 'started', debugger: null })
    return { child, next, [Symbol.dispose]: () => void child.kill('SIGKILL') }
  }

  test('reaches the program', async () => {
    using program = await start('handle')
    program.child.kill('SIGUSR1')
    expect(await program.next()).toEqual({ event: 'SIGUSR1', debugger: null })
  })

  test('opens no debugger before the program handles it', async () => {
    using program = await start()
    program.child.kill('SIGUSR1')
    // Node says where it listens, or that it cannot.
    await once(program.child.stderr, 'data')
    program.child.stdin.write('\n')
    expect(await program.next()).toEqual({ event: 'asked', debugger: null })
  })
})
