import { resolve } from 'node:path'
import type { HostKeyFile } from '../renewal/ports.ts'

/**
 * The host key that `--host-key` means: a path with or without `.pub`, or a name.
 *
 * @returns null when the configuration names no such host key
 */
export function findHostKey(files: readonly HostKeyFile[], given: string): HostKeyFile | null {
  const isPath = given.includes('/')
  const wanted = withoutSuffix(isPath ? resolve(given) : given)
  const matches = ({ name, path, content }: HostKeyFile): boolean =>
    // Who names a key by its path means that file, not the one of the same name that goes before it.
    content.kind !== 'shadowed' && wanted === (isPath ? withoutSuffix(path) : name)
  return files.find(matches) ?? null
}

/** What to say when {@link findHostKey} found none. */
export function noSuchHostKey(files: readonly HostKeyFile[], given: string): string {
  const names = files.map(({ name }) => name).join(', ')
  return `there is no host key ${given}${names === '' ? '' : `; there are ${names}`}`
}

function withoutSuffix(text: string): string {
  return text.replace(/\.pub$/, '')
}
