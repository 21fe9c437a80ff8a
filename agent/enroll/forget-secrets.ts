import type { FileChange, FileState } from './change.ts'
import { digested, isSameState } from './files.ts'
import type { Entry, Run } from './journal-format.ts'

/**
 * What the journal keeps once its runs are finished: of each credential a digest in place of what enroll wrote, and what
 * was there before the first of them. What enroll replaced by its own later call is not kept.
 *
 * @param runs the oldest first, all finished
 */
export function withoutSecrets(runs: readonly Run[]): Run[] {
  const first = new Map<string, { entry: Entry; change: FileChange }>()
  return runs.map(({ isFinished, entries }) => ({
    isFinished,
    entries: entries.flatMap((entry) => {
      const { change, folders, merge } = entry
      if (change.kind !== 'file' || change.isCredential !== true || merge !== null) return [entry]
      const forgotten = forget(change)
      const earlier = first.get(change.path)
      if (earlier !== undefined && isLeftBy(earlier.change, change.before)) {
        earlier.change = { ...forgotten, before: earlier.change.before }
        earlier.entry.change = earlier.change
        earlier.entry.folders = [...new Set([...earlier.entry.folders, ...folders])]
        return []
      }
      const kept = { ...entry, change: forgotten }
      first.set(change.path, { entry: kept, change: forgotten })
      return [kept]
    }),
  }))
}

function forget(change: FileChange): FileChange {
  if (change.isForgotten === true || change.after === null) return change
  return { ...change, after: digested(change.after), isForgotten: true }
}

function isLeftBy({ after }: FileChange, before: FileState | null): boolean {
  return isSameState(after, before && digested(before))
}
