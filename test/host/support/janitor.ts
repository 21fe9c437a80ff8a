import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'

/** What can be removed: a cgroup (by name) with all processes in it, a mount, a network namespace, a folder. */
export type Leftover = 'cgroup' | 'mount' | 'netns' | 'folder'

/**
 * A process that outlives the test and removes what the test made, however the test ends: by `await using`, by a
 * failure, by Ctrl-C, by SIGKILL. So tell it of a thing before the thing is made.
 */
export class Janitor implements AsyncDisposable {
  readonly #process: ChildProcessByStdio<Writable, null, Readable>
  readonly #exit: Promise<unknown[]>
  #complaints = ''

  constructor() {
    // In a session of its own, or Ctrl-C would reach it too.
    const script = fileURLToPath(new URL('janitor.sh', import.meta.url))
    this.#process = spawn('sh', [script], { detached: true, stdio: ['pipe', 'ignore', 'pipe'] })
    this.#process.stderr.setEncoding('utf8').on('data', (text: string) => (this.#complaints += text))
    this.#exit = once(this.#process, 'close')
  }

  /** @param name without blanks */
  remember(kind: Leftover, name: string): void {
    this.#process.stdin.write(`${kind} ${name}\n`)
  }

  /** Remove everything. @throws when something could not be removed */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.stdin.end()
    await this.#exit
    if (this.#complaints !== '') throw new Error(`cannot clean up: ${this.#complaints}`)
  }
}
