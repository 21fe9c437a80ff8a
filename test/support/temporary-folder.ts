import { chmod, mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A folder of a test's own; `await using` removes it at the end of the block. */
export interface TemporaryFolder extends AsyncDisposable {
  /** Absolute, without symlinks. */
  readonly path: string
  /** Remove it with all that is in it. May be called twice. */
  remove(): Promise<void>
}

/**
 * Make an empty folder, mode 0755 so that sshd and other users may read in it.
 *
 * @param parent existing
 */
export async function makeTemporaryFolder(parent = tmpdir()): Promise<TemporaryFolder> {
  const path = await realpath(await mkdtemp(join(parent, 'hostcertd-test-')))
  await chmod(path, 0o755)
  // What is still running may add a file while the folder is emptied.
  const remove = () => rm(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
  return { path, remove, [Symbol.asyncDispose]: remove }
}
