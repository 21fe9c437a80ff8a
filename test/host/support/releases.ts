import { describe, inject } from 'vitest'

/** A release of Debian that the packages must work on. */
export interface Release {
  readonly suite: 'bookworm' | 'trixie'
  readonly title: string
  /** OpenSSH up to 9.7 reads host keys and certificates anew for every connection; later ones at a reload only. */
  readonly readsCertificatesAnew: boolean
}

/** Both ways that sshd treats certificates, and both ends of the systemd versions supported. */
export const RELEASES: readonly [Release, Release] = [
  { suite: 'bookworm', title: 'Debian 12', readsCertificatesAnew: true },
  { suite: 'trixie', title: 'Debian 13', readsCertificatesAnew: false },
]

/** Containers and namespaces need root; the set-up has said so in one line when there is none. */
export const canBootHosts = process.geteuid?.() === 0

/** `describe`, once for each release; skipped where hosts cannot be booted. */
export function describeOnEachRelease(title: string, tests: (release: Release) => void): void {
  for (const release of RELEASES) {
    describe.skipIf(!canBootHosts)(`${title}, ${release.title}`, () => {
      tests(release)
    })
  }
}

/** The folder that debootstrap filled for this run. */
export function baseRoot(release: Release): string {
  const roots = inject('hostTestRoots')
  if (roots === null)
    throw new Error('no root file systems: the set-up of the host tests did not run as root')
  return roots[release.suite]
}
