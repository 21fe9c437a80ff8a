import { lstat, realpath, stat } from 'node:fs/promises'
import { parseCaKeys } from '../cert/public-key.ts'
import { reasonOf } from '../cert/text.ts'
import { ownerOf } from '../host/file-access.ts'
import { isGone, pathsMatching, readBoundedBytes, readBoundedFile, SMALL_FILE_BYTES } from '../host/files.ts'
import { type PrivateHalf, readPrivateHalf } from '../host/key-pairs.ts'
import { includePatterns, isNone } from '../host/sshd-directives.ts'
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
  /** Files of it, and those of its `HostCertificate` lines, which sshd may read and enroll cannot: what is in them is not known. */
  readonly unreadable: readonly { readonly path: string; readonly why: string }[]
  /** What `HostCertificate` lines name, those below `Match` too, by path; without what sshd could not load. */
  readonly certificates: ReadonlyMap<string, Buffer>
  /** The keys in what `TrustedUserCAKeys` lines name, by path; none in a missing file; null when they are not known. */
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
    new Set(sshd.written.filter((line) => line.keyword === wanted && !isNone(line)).map(({ value }) => value))
  const files = new Map<string, ConfigurationFile>()
  const unreadable: { path: string; why: string }[] = []
  for (const file of new Set([sshd.file, ...(await includedBy(sshd))])) {
    const read = await readConfigurationFile(file).catch(() => null)
    const why = read === null ? await whyUnreadable(file, LIMIT_BYTES) : null
    if (read !== null) files.set(file, read)
    if (why !== null) unreadable.push({ path: file, why })
  }
  const certificates = new Map<string, Buffer>()
  for (const path of valuesOf('hostcertificate')) {
    const blob = await readCertificate(path)
    const why = blob === null ? await whyUnreadable(path, SMALL_FILE_BYTES) : null
    if (blob !== null) certificates.set(path, blob)
    if (why !== null) unreadable.push({ path, why })
  }
  const userCas = new Map<string, readonly Buffer[] | null>()
  for (const path of valuesOf('trustedusercakeys')) userCas.set(path, await readKeys(path))
  const paths = [...sshd.loaded.map(({ path }) => path), ...valuesOf('hostkey'), ...DEFAULT_HOST_KEYS]
  const hostKeys: HostKeyPair[] = []
  for (const path of new Set(paths)) {
    const loaded = sshd.loaded.find((key) => key.path === path)
    hostKeys.push(await pairOf(path, loaded?.half ?? (await readPrivateHalf(path, signal))))
  }
  return { sshd, files, unreadable, certificates, userCas, hostKeys }
}

async function includedBy({ written }: SshdFacts): Promise<readonly string[]> {
  const patterns = written.flatMap((line) =>
    line.keyword === 'include' ? includePatterns(line.arguments) : [],
  )
  return (await Promise.all([...new Set(patterns)].map(pathsMatching))).flat()
}

/** @returns null when it can be read, and when nothing is in it for sshd either: it is gone, a folder, /dev/null */
async function whyUnreadable(path: string, limit: number): Promise<string | null> {
  try {
    if ((await stat(path)).isFile()) await readBoundedBytes(path, limit)
    return null
  } catch (error) {
    return isGone(error) ? null : reasonOf(error)
  }
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
  } catch (error) {
    return isGone(error) ? [] : null
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
