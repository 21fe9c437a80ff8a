import { describe, inject } from 'vitest'
import { needsRoot, runsIf } from '../../support/skip.ts'
import { RELEASES_VARIABLE, selectedSuites, type Suite } from './selection.ts'

/** A release of Debian that the packages must work on. */
export interface Release {
  readonly suite: Suite
  readonly title: string
  /** OpenSSH up to 9.7 reads host keys and certificates anew for every connection; later ones at a reload only. */
  readonly readsCertificatesAnew: boolean
}

export const BOOKWORM: Release = { suite: 'bookworm', title: 'Debian 12', readsCertificatesAnew: true }
export const TRIXIE: Release = { suite: 'trixie', title: 'Debian 13', readsCertificatesAnew: false }
export const TESTING: Release = { suite: 'testing', title: 'Debian testing', readsCertificatesAnew: false }

const SELECTED = selectedSuites(process.env[RELEASES_VARIABLE])
const ALL: readonly Release[] = [BOOKWORM, TRIXIE, TESTING]

/** For what does not differ among releases, and takes minutes: one of them, or those that somebody named. */
export const ONE_BY_DEFAULT: readonly Release[] = process.env[RELEASES_VARIABLE] ? ALL : [BOOKWORM]

/**
 * `describe`, once for each release that was asked for: by default 12 and 13, which have both ways that sshd treats
 * certificates and both ends of the systemd versions supported. Skipped without root, which containers and namespaces need.
 *
 * @param releases of which it makes sense
 */
export function describeOnEachRelease(
  title: string,
  tests: (release: Release) => void,
  releases: readonly Release[] = ALL,
): void {
  const selected = releases.filter(({ suite }) => SELECTED.includes(suite))
  // A file without any test would count as broken.
  for (const release of selected.length === 0 ? releases : selected) {
    const where = selected.length === 0 ? runsIf(false, 'not for the releases that were named') : needsRoot
    describe(`${title}, ${release.title}`, where, () => {
      tests(release)
    })
  }
}

/** The folder that debootstrap filled for this run. */
export function baseRoot({ suite }: Release): string {
  const root = inject('hostTestRoots')?.[suite]
  if (root === undefined) throw new Error(`no root file system of ${suite}: the set-up did not make it`)
  return root
}
