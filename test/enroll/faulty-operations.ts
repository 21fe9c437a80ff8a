import * as fs from 'node:fs/promises'
import type { FileOperations } from '../../agent/host/files.ts'

/** What happens at one step: see {@link faultyOperations}. */
export interface Fault {
  /** `stop`: nothing happens any more, as after SIGKILL. Else the code of an error. */
  readonly kind: string
  /** Of the steps, from 1; 0: none, they are only counted. */
  readonly at: number
  /** Whether the step is done nevertheless. */
  readonly isDone: boolean
}

export interface FaultyOperations {
  readonly operations: FileOperations
  /** Count something else than a file operation as a step too. */
  step<Result>(perform: () => Promise<Result>): Promise<Result>
  /** Settles when a `stop` is reached. */
  readonly stopped: Promise<void>
  readonly steps: () => number
}

const NONE: Fault = { kind: 'stop', at: 0, isDone: false }
const HANDLE_STEPS: readonly (string | symbol)[] = ['writeFile', 'chown', 'chmod', 'sync']

/** File operations of which one does not return, or fails. Nothing is synced: it takes long, and a crash is only played. */
export function faultyOperations({ kind, at, isDone }: Fault = NONE): FaultyOperations {
  let count = 0
  let isStopped = false
  const { promise: stopped, resolve: stop } = Promise.withResolvers<void>()
  const open = new Set<fs.FileHandle>()

  const step = async <Result>(perform: () => Promise<Result>, isChange = true): Promise<Result> => {
    if (isStopped) return new Promise(() => undefined)
    // A stop is seen in what was changed before it.
    if (kind === 'stop' && !isChange) return perform()
    count += 1
    if (count !== at) return perform()
    const result = isDone ? await perform() : null
    if (kind !== 'stop') {
      if (result instanceof Object && 'close' in result) await (result as unknown as fs.FileHandle).close()
      throw Object.assign(new Error(`${kind}: said the disk`), { code: kind, errno: -5 })
    }
    isStopped = true
    for (const handle of open) await handle.close()
    stop()
    return new Promise(() => undefined)
  }

  const watched = (handle: fs.FileHandle): fs.FileHandle =>
    new Proxy(handle, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name)
        if (typeof value !== 'function') return value
        const call = async (...args: unknown[]): Promise<unknown> => {
          if (name === 'sync') return undefined
          if (name === 'close') open.delete(target)
          return Reflect.apply(value, target, args) as Promise<unknown>
        }
        return HANDLE_STEPS.includes(name)
          ? (...args: unknown[]) => step(() => call(...args), name !== 'sync')
          : call
      },
    })

  const operations: FileOperations = {
    open: async (...args) =>
      watched(
        await step(async () => {
          const handle = await fs.open(...args)
          open.add(handle)
          return handle
        }, args[1] === 'wx'),
      ),
    rename: (...args) => step(() => fs.rename(...args)),
    mkdir: ((...args: Parameters<typeof fs.mkdir>) => step(() => fs.mkdir(...args))) as typeof fs.mkdir,
    chmod: (...args) => step(() => fs.chmod(...args)),
    unlink: (...args) => step(() => fs.unlink(...args)),
    rmdir: (...args) => step(() => fs.rmdir(...args)),
  }
  return { operations, step, stopped, steps: () => count }
}
