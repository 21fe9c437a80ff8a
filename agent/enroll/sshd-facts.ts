import { lstat, realpath } from 'node:fs/promises'
import { parseCaKeys } from '../cert/public-key.ts'
import { ownerOf } from '../host/file-access.ts'
import { isGone, readBoundedBytes, readBoundedFile, SMALL_FILE_BYTES } from '../host/files.ts'
import { type PrivateHalf, readPrivateHalf } from '../host/key-pairs.ts'
import {
  DEFAULT_HOST_KEYS,
  makeRuntimeFolder,
  readCertificate,
  readSshd,
  type SshdFacts,
} from '../host/sshd-files.ts'
import type { FileState } from './change.ts'

/** What enroll has to know of sshd before it decides. */
export interface SshdSetup {
  readonly sshd: SshdFacts
  /** Files of sshd's configuration, by the path that it has there; without those that cannot be read. */
  readonly files: ReadonlyMap<string, ConfigurationFile>
  /** What `HostCertificate` lines name, those below `Match` too, by path; without what sshd could not load. */
  readonly certificates: ReadonlyMap<string, Buffer>
  /** The keys in what `TrustedUserCAKeys` lines name, by path; null when they cannot be read. */
  readonly userCas: ReadonlyMap<string, readonly Buffer[] | null>
  /** Private halves that sshd loads, or would load without its `HostKey` lines. */
  readonly hostKeys: readonly HostKeyPair[]
}

export interface ConfigurationFile {
  /** Without symlinks: a change replaces the file, not the link. */
  readonly path: string
  readonly state: FileState
}

export interface HostKeyPair {
  /** Of the private half, as sshd has it. */
  readonly path: string
  readonly half: PrivateHalf
  /** Of the private half; null when it is not there. */
  readonly owner: { readonly uid: number; readonly gid: number } | null
  /** Whether anything has the public half's name, a dangling symlink too, or might. */
  readonly hasPublicHalf: boolean
}

const LIMIT_BYTES = 1024 * 1024

/** Read all of it once, as root. Changes nothing but makes /run/sshd, without which sshd answers nothing. */
export async function readSshdSetup(sshdConfigFile: string, signal: AbortSignal): Promise<SshdSetup> {
  await makeRuntimeFolder()
  const sshd = await readSshd({ isRoot: true, signal, sshdConfigFile })
  const valuesOf = (wanted: string): Set<string> =>
    new Set(sshd.written.flatMap(({ keyword, value }) => (keyword === wanted ? [value] : [])))
  const files = new Map<string, ConfigurationFile>()
  for (const file of new Set([sshd.file, ...sshd.written.map((line) => line.file)])) {
    const read = await readConfigurationFile(file).catch(() => null)
    if (read !== null) files.set(file, read)
  }
  const certificates = new Map<string, Buffer>()
  for (const path of valuesOf('hostcertificate')) {
    const blob = await readCertificate(path)
    if (blob !== null) certificates.set(path, blob)
  }
  const userCas = new Map<string, readonly Buffer[] | null>()
  for (const path of valuesOf('trustedusercakeys')) userCas.set(path, await readKeys(path))
  const paths = [...sshd.loaded.map(({ path }) => path), ...valuesOf('hostkey'), ...DEFAULT_HOST_KEYS]
  const hostKeys: HostKeyPair[] = []
  for (const path of new Set(paths)) {
    const loaded = sshd.loaded.find((key) => key.path === path)
    hostKeys.push(await pairOf(path, loaded?.half ?? (await readPrivateHalf(path, signal))))
  }
  return { sshd, files, certificates, userCas, hostKeys }
}

async function readConfigurationFile(file: string): Promise<ConfigurationFile> {
  const path = await realpath(file)
  const content = await readBoundedBytes(path, LIMIT_BYTES)
  const { mode, uid, gid } = await lstat(path)
  return { path, state: { content, mode: mode & 0o7777, uid, gid } }
}

async function readKeys(path: string): Promise<readonly Buffer[] | null> {
  try {
    return parseCaKeys(await readBoundedFile(path, SMALL_FILE_BYTES)).map(({ blob }) => blob)
  } catch {
    return null
  }
}

async function pairOf(path: string, half: PrivateHalf): Promise<HostKeyPair> {
  const owner = half.kind === 'absent' ? null : await ownerOf(path)
  const hasPublicHalf = await lstat(`${path}.pub`).then(
    () => true,
    (error: unknown) => !isGone(error),
  )
  return { path, half, owner, hasPublicHalf }
}
