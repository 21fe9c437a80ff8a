import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

/** A shell script in place of a program of the system. `await using` removes it with its folder. */
export interface FakeProgram extends AsyncDisposable {
  readonly folder: string
  readonly program: string
}

/** @param script lines of sh; `$0` is in the folder */
export async function makeFakeProgram(name: string, script: string): Promise<FakeProgram> {
  const { path: folder, remove } = await makeTemporaryFolder()
  const program = join(folder, name)
  await writeFile(program, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  return { folder, program, [Symbol.asyncDispose]: remove }
}
