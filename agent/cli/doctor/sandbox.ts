import { relative } from 'node:path'
import type { ServiceSandbox } from '../../adapters/service-sandbox.ts'

/** Why the service cannot put files where they are wanted, and what to do. */
export interface Obstacle {
  readonly why: string
  readonly remedy: string
}

/** What `ProtectHome` is about, systemd.exec(5). */
const HOMES = ['/home', '/root', '/run/user']
const TEMPORARY = ['/tmp', '/var/tmp']
/** What of the system is read-only at each level. */
const PROTECTED: Readonly<Record<string, readonly string[]>> = {
  yes: ['/usr', '/boot', '/efi'],
  full: ['/usr', '/boot', '/efi', '/etc'],
  strict: ['/'],
}

/**
 * What of the service's sandbox keeps it from writing in a folder, which root and the modes of files do not show.
 *
 * @param folder absolute, links resolved
 * @param setting that names the folder
 * @returns null when nothing does
 */
export function obstacleIn(sandbox: ServiceSandbox, folder: string, setting: string): Obstacle | null {
  const elsewhere = `set ${setting} to a folder below /var/lib/hostcertd`
  if (sandbox.hasPrivateTmp && isBelow(folder, TEMPORARY))
    return {
      why: 'hostcertd.service has a /tmp of its own (PrivateTmp), so sshd never sees it',
      remedy: elsewhere,
    }
  if (isBelow(folder, sandbox.writable)) return null
  if (sandbox.protectHome !== 'no' && sandbox.protectHome !== '' && isBelow(folder, HOMES))
    return {
      why: `hostcertd.service may not write below home folders (ProtectHome=${sandbox.protectHome})`,
      remedy: elsewhere,
    }
  if (!isBelow(folder, PROTECTED[sandbox.protectSystem] ?? [])) return null
  return {
    why: `it is read-only for hostcertd.service (ProtectSystem=${sandbox.protectSystem})`,
    remedy: `${elsewhere}; or \`systemctl edit hostcertd\`, below [Service] the line \`ReadWritePaths=${folder}\`, and \`systemctl restart hostcertd\``,
  }
}

function isBelow(folder: string, parents: readonly string[]): boolean {
  return parents.some((parent) => !/^\.\.(?:\/|$)/.test(relative(parent, folder)))
}
