import { readlink } from 'node:fs/promises'
import { basename } from 'node:path'
import { messageOf } from '../cert/errors.ts'
import { CERTIFICATE_SUFFIX } from '../cert/host-certificate.ts'
import { isKeyType } from '../cert/key-types.ts'
import { parsePublicKeyLine, readPublicKey } from '../cert/public-key.ts'
import { quote, reasonOf } from '../cert/text.ts'
import type { HostKeyFile, HostKeys } from '../renewal/ports.ts'
import { readBoundedFile, SMALL_FILE_BYTES, fileVersion, isGone, pathsMatching } from './files.ts'

interface HostKeysOptions {
  /** Paths of public halves, or patterns with `*`, `?` and `[…]`. */
  readonly patterns: readonly string[]
}

/** The public host keys that the configuration names, read anew at each call. */
export function createHostKeys({ patterns }: HostKeysOptions): HostKeys {
  const list = async (): Promise<HostKeyFile[]> => {
    const files: HostKeyFile[] = []
    const firstOfName = new Map<string, string>()
    for (const path of await findPaths(patterns)) {
      const name = nameOf(path)
      const by = firstOfName.get(name)
      if (by !== undefined) {
        files.push({ name, path, content: { kind: 'shadowed', by } })
        continue
      }
      firstOfName.set(name, path)
      files.push((await readHostKey(path)) ?? unreadable(path, 'it was removed while being read'))
    }
    return files
  }
  return { list, read: readHostKey }
}

/** All paths that the patterns name now, each once, in the order of their bytes, certificates left out. */
async function findPaths(patterns: readonly string[]): Promise<string[]> {
  const paths = new Set<string>()
  for (const pattern of patterns) {
    for (const path of await pathsMatching(pattern)) paths.add(path)
  }
  return [...paths].filter((path) => !path.endsWith(CERTIFICATE_SUFFIX)).sort()
}

async function readHostKey(path: string): Promise<HostKeyFile | null> {
  let text: string
  try {
    text = await readBoundedFile(path, SMALL_FILE_BYTES)
  } catch (error) {
    if (!isGone(error)) return unreadable(path, reasonOf(error))
    const target = await readlink(path).catch(() => null)
    return target === null
      ? null
      : unreadable(path, `it is a symbolic link to ${quote(target)}, which does not exist`)
  }
  try {
    const line = parsePublicKeyLine(text)
    if (!isKeyType(line.type)) {
      const message = `${path}: keys of type ${quote(line.type)} are not supported`
      const failure = { code: 'HOST_KEY_UNSUPPORTED', message } as const
      return { name: nameOf(path), path, content: { kind: 'unsupported', keyType: line.type, failure } }
    }
    const key = readPublicKey(line)
    const pairVersion = `${await versionOf(path)} ${await versionOf(path.slice(0, -'.pub'.length))}`
    return { name: nameOf(path), path, content: { kind: 'key', key, comment: line.comment, pairVersion } }
  } catch (error) {
    return unreadable(path, messageOf(error))
  }
}

/** Of the private half no more is looked at than when it was written. */
async function versionOf(path: string): Promise<string> {
  return fileVersion(path).catch(() => '-')
}

function unreadable(path: string, why: string): HostKeyFile {
  const failure = { code: 'HOST_KEY_UNREADABLE', message: `cannot read ${path}: ${why}` } as const
  return { name: nameOf(path), path, content: { kind: 'unreadable', failure } }
}

function nameOf(path: string): string {
  return basename(path, '.pub')
}
