import { execFile, spawn } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { environmentWith } from './hostcertd.ts'

const run = promisify(execFile)

const ECHO_ARGUMENTS = String.raw`hostcertd() { printf '\nargs'; printf ':%s' "$@"; echo; }`

/** Whether a program can be had here. */
export async function isInstalled(program: string): Promise<boolean> {
  return run('sh', ['-c', `command -v ${program}`]).then(
    () => true,
    () => false,
  )
}

/**
 * What a shell that is not interactive prints, line by line. As in {@link typeInto} it is in a folder of its own, and
 * nobody's settings are read.
 *
 * @param patienceMilliseconds when it is killed
 */
export async function linesFrom(
  argv: readonly [string, ...string[]],
  patienceMilliseconds: number,
): Promise<string[]> {
  await using home = await makeTemporaryFolder()
  await makeFiles(home.path)
  const [program, ...args] = argv
  const { stdout } = await run(program, args, {
    // Settings and history elsewhere, so that here is nothing but the files.
    cwd: join(home.path, 'here'),
    env: environmentWith({ HOME: home.path, LC_ALL: 'C.UTF-8' }),
    timeout: patienceMilliseconds,
  })
  return stdout.split('\n').filter((line) => line !== '')
}

async function makeFiles(home: string): Promise<void> {
  const here = join(home, 'here')
  await mkdir(here)
  await Promise.all(['some-file', 'other file'].map(async (name) => writeFile(join(here, name), '')))
}

/**
 * Type into an interactive shell on a terminal of its own (script(1)), a folder of its own, with the files `some-file`
 * and `other file` in it.
 *
 * @param shell command line that starts it
 * @param setup its first line
 * @param typed a line each, without the newline; `\t` asks for completion
 * @param patienceMilliseconds when the shell is killed, with whatever is not answered yet
 * @returns for each line the arguments that a program called hostcertd was given
 */
export async function typeInto(
  shell: string,
  setup: string,
  typed: readonly string[],
  patienceMilliseconds: number,
): Promise<string[][]> {
  await using home = await makeTemporaryFolder()
  await makeFiles(home.path)
  const child = spawn('script', ['-qec', shell, '/dev/null'], {
    cwd: join(home.path, 'here'),
    // No colours, no bracketed paste: what is printed is text.
    env: environmentWith({ HOME: home.path, TERM: 'dumb', LC_ALL: 'C.UTF-8' }),
    timeout: patienceMilliseconds,
  })
  child.stdin.on('error', () => {})
  child.stdin.write(`${setup}\n${ECHO_ARGUMENTS}\n`)
  // A terminal drops what is typed ahead of a busy shell: each line waits until the one before it has been answered.
  const left = typed.values()
  const typeNext = (): void => {
    child.stdin.write(`${left.next().value ?? 'exit'}\n`)
  }
  const got: string[][] = []
  typeNext()
  for await (const line of createInterface({ input: child.stdout })) {
    if (!line.startsWith('args:')) continue
    got.push(line.trimEnd().split(':').slice(1))
    typeNext()
  }
  return got
}
