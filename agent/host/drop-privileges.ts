import { stat } from 'node:fs/promises'

/**
 * When run as root, become the owner of a folder, for good: user, group and no other groups. Root has no business in
 * what the daemon owns: files made by it would lock the daemon out. Does nothing for anybody else, nor when the
 * folder is root's own or not there.
 *
 * @throws Error when the kernel forbids it
 */
export async function becomeOwnerOf(folder: string): Promise<void> {
  if (process.geteuid?.() !== 0) return
  const owner = await stat(folder).catch(() => null)
  if (owner === null || owner.uid === 0) return
  // The user last: who is not root any more may not change groups.
  process.setgroups?.([owner.gid])
  process.setgid?.(owner.gid)
  process.setuid?.(owner.uid)
}
