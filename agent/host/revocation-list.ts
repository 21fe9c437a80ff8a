import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { oneLine } from '../cert/text.ts'
import { readBoundedBytes, SMALL_FILE_BYTES } from './files.ts'
import { runProgram } from './programs.ts'

/** It takes some milliseconds. */
const KEYGEN_MILLISECONDS = 10_000

/**
 * A key revocation list of OpenSSH (PROTOCOL.krl) that revokes every certificate with one of these key ids, whichever
 * key it is for and whichever CA signed it.
 *
 * @param keyIds without line ends
 * @throws Error that says why ssh-keygen made none
 */
export async function makeRevocationList(keyIds: readonly string[]): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'hostcertd-krl-'))
  try {
    const specification = join(folder, 'specification')
    const list = join(folder, 'list')
    await writeFile(specification, keyIds.map((id) => `id: ${id}\n`).join(''))
    // `-s none`: of any CA, so that the list holds after a rotation too.
    const made = await runProgram(['ssh-keygen', '-q', '-k', '-f', list, '-s', 'none', specification], {
      timeoutMilliseconds: KEYGEN_MILLISECONDS,
    })
    if (made.status !== 0) throw new Error(made.failure ?? `ssh-keygen: ${oneLine(made.stderr)}`)
    return await readBoundedBytes(list, SMALL_FILE_BYTES)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
