import { basename, resolve } from 'node:path'
import { CERTIFICATE_SUFFIX } from '../cert/certificate-types.ts'
import { quote } from '../cert/text.ts'
import { isPattern, pathsMatching } from '../host/files.ts'
import { isAbsolutePath, mustBe, type Reading, value } from './values.ts'

/** The absolute path of a public host key, or a pattern of such paths. */
export function readHostKeyPattern(text: string): Reading<string> {
  if (!isAbsolutePath(text)) return mustBe('an absolute path or pattern', text)
  if (text.endsWith(CERTIFICATE_SUFFIX)) return mustBe('that of a host key, not of its certificate', text)
  if (!text.endsWith('.pub')) return mustBe('that of a public half, which ends in .pub', text)
  return value(text)
}

export interface HostKeyFindings {
  readonly problems: readonly string[]
  readonly warnings: readonly string[]
}

/**
 * What the host itself says to `host_keys`: two different files of the same name are a problem, for their
 * certificates would be one file; nothing of that name is a warning, for keys may come later. Never throws.
 */
export async function checkHostKeyFiles(patterns: readonly string[]): Promise<HostKeyFindings> {
  const warnings: string[] = []
  const pathsByName = new Map<string, Set<string>>()
  for (const pattern of patterns) {
    const found = await find(pattern)
    if (found.length === 0) warnings.push(`host_keys: nothing matches ${quote(pattern)} yet`)
    // A path that is written out counts whether it is there or not.
    for (const path of isPattern(pattern) ? found : [resolve(pattern)]) {
      const name = basename(path)
      pathsByName.set(name, (pathsByName.get(name) ?? new Set()).add(path))
    }
  }
  const problems = [...pathsByName]
    .filter(([, paths]) => paths.size > 1)
    .map(([name, paths]) => `${[...paths].sort().join(' and ')} have the same file name, ${name}`)
  return { problems, warnings }
}

/** What matches now; nothing where a folder may not be looked into. */
async function find(pattern: string): Promise<string[]> {
  try {
    return (await pathsMatching(pattern)).filter((path) => !path.endsWith(CERTIFICATE_SUFFIX))
  } catch {
    // The loop looks again each tick, and says what it may not read.
    return []
  }
}
