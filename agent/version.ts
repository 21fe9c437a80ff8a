import manifest from '../package.json' with { type: 'json' }

/** The commit that was built; set by the build, absent in a checkout. */
declare const HOSTCERTD_COMMIT: string | undefined

export interface VersionInfo {
  readonly version: string
  /** Version of the Node that runs this, without `v`. */
  readonly node: string
  /** Null when it is not known. */
  readonly commit: string | null
}

/** What `hostcertd version` prints. */
export function versionInfo(): VersionInfo {
  const commit = typeof HOSTCERTD_COMMIT === 'undefined' || HOSTCERTD_COMMIT === '' ? null : HOSTCERTD_COMMIT
  return { version: manifest.version, node: process.versions.node, commit }
}
