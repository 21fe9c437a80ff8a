import { access, constants } from 'node:fs/promises'
import { delimiter, isAbsolute, join } from 'node:path'

/** Where programs for root lie; a user's PATH often lacks them. */
const FOLDERS_OF_ROOT = ['/usr/local/sbin', '/usr/sbin', '/sbin']

/**
 * Where a program lies.
 *
 * @param program a name, or a path with a slash
 * @returns an absolute path; null when nobody could run it
 */
export async function findProgram(program: string): Promise<string | null> {
  const inPath = (process.env['PATH'] ?? '').split(delimiter).filter(isAbsolute)
  const places = program.includes('/')
    ? [program]
    : [...inPath, ...FOLDERS_OF_ROOT].map((folder) => join(folder, program))
  for (const place of places) {
    try {
      await access(place, constants.X_OK)
      return place
    } catch {
      // Not here.
    }
  }
  return null
}
