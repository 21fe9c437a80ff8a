/** Who may do what with a file or folder. */
export interface Access {
  /** Permission bits, `0o600`. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

/** A file with all that belongs to it. */
export interface FileState extends Access {
  readonly content: Buffer
}

/** A regular file that is written, replaced or removed. */
export interface FileChange {
  readonly kind: 'file'
  /** What it is for, for people: `sshd reads its drop-ins`. */
  readonly step: string
  readonly path: string
  /** Null: it was not there. */
  readonly before: FileState | null
  /** Null: it is removed. */
  readonly after: FileState | null
  /** Whether its content is shown to nobody. */
  readonly isSecret: boolean
  /** A secret that is all of its file, so that nothing of it is needed to take it back. */
  readonly isCredential?: boolean
  /** All of it is hostcertd's, whoever wrote it since: it is taken back whole. */
  readonly isOwn?: boolean
  /** The content of `after` is only the SHA-256 of what was written. */
  readonly isForgotten?: boolean
}

/** The owner and mode of a folder that is there. */
export interface FolderChange {
  readonly kind: 'folder'
  readonly step: string
  readonly path: string
  readonly before: Access
  readonly after: Access
}

/** The service is enabled and started, or told to look again. */
export interface ServiceChange {
  readonly kind: 'service'
  readonly step: string
  /** `hostcertd.service`. */
  readonly unit: string
  readonly before: { readonly isEnabled: boolean; readonly isActive: boolean }
  /** Removed while it is stopped, so that it makes them anew, and put back when this is undone. */
  readonly replaced?: ServiceFiles
}

/** Small text files that a service keeps in its own folder. */
export interface ServiceFiles {
  readonly folder: string
  /** By paths below it. */
  readonly files: readonly { readonly path: string; readonly text: string }[]
}

/** The folder of a service, with the paths below it that were there before. */
export interface ServiceState {
  readonly folder: string
  readonly before: readonly string[]
}

/** What the service and the root helper write once it runs: undone by removing what was not there before. */
export interface CopiesChange {
  readonly kind: 'copies'
  readonly step: string
  /** Of those paths, what was there before; each file by itself. Folders are removed when they are empty and new. */
  readonly paths: readonly string[]
  readonly before: readonly { readonly path: string; readonly state: FileState | null }[]
  /** Null: the service keeps nothing. */
  readonly state: ServiceState | null
}

/** The host was registered at the issuer, or may have been. It is not undone: who may register may not delete, as a rule. */
export interface RegistrationChange {
  readonly kind: 'registration'
  readonly step: string
  /** Null: the issuer was asked to, or was about to be, and its answer is not known. */
  readonly hostId: string | null
  readonly hostname: string
  /** Left out: without an answer, or recorded by a version that did not know it. */
  readonly at?: RegisteredAt
}

/** Where a host was registered. */
export interface RegisteredAt {
  /** `issuer.url`. */
  readonly url: string
  readonly projectId: string
  /** Id or slug, as it was asked for. */
  readonly project: string
}

/**
 * sshd reads its configuration again once its files are as before: undone after all files, whatever its place. Nothing
 * happens when it is made, for the service reloads sshd.
 */
export interface SshdChange {
  readonly kind: 'sshd'
  readonly step: string
}

/** One change to this host, written into the journal before it is made. */
export type Change =
  | FileChange
  | FolderChange
  | ServiceChange
  | CopiesChange
  | RegistrationChange
  | SshdChange
