import { readCaKeys } from '../adapters/pinned-cas.ts'
import { messageOf } from '../core/errors.ts'
import type { KeyProblem } from './problem.ts'
import { isTree, ownValue, type Tree } from './tree.ts'
import { isAbsolutePath } from './values.ts'

const KEYS = ['verify', 'host_ca_file']

/**
 * What is wrong with the file of the pinned CAs. Without them the daemon could tell no certificate from any other, so
 * it is a problem of the configuration. Never throws.
 *
 * @param tree may have problems elsewhere: all of them are told at once
 * @param defaultFile what counts when the configuration names none; null for none
 */
export async function findHostCaProblems(tree: Tree, defaultFile: string | null): Promise<KeyProblem[]> {
  const verify = ownValue(tree, 'verify')
  const said = isTree(verify) ? ownValue(verify, 'host_ca_file') : undefined
  const file = said ?? defaultFile
  // What is no path is told already.
  return typeof file === 'string' && isAbsolutePath(file) ? hostCaProblemsOf(file) : []
}

/** The same for a file by its path. */
export async function hostCaProblemsOf(file: string): Promise<KeyProblem[]> {
  try {
    await readCaKeys(file)
    return []
  } catch (error) {
    return [{ keys: KEYS, message: messageOf(error) }]
  }
}
