import { AgentError, messageOf } from '../cert/errors.ts'
import { publicKeyText, type PublicKey } from '../cert/public-key.ts'
import { PROXY_VARIABLES } from '../config/config.ts'
import type { Access, FileChange, FileState, FolderChange } from './change.ts'
import type { Pinned } from './current.ts'
import { withVariables } from './environment-file.ts'
import { isSameState } from './files.ts'
import { DEFAULTS_FILE, type EnrollTools, HOST_CA_FILE } from './wanted.ts'

/** Modes of files that root owns. */
export const PUBLIC = 0o644
export const SECRET = 0o600
const ROOT = { uid: 0, gid: 0 } as const

interface WantedFile {
  readonly step: string
  readonly path: string
  readonly content: string | Buffer
  readonly mode: number
  readonly isSecret?: boolean
}

/**
 * A change to a file, whether it differs in content, mode or owner; null when it is as it is to be. Owner is root.
 *
 * @param before what is there; null: nothing
 */
export function fileChange(
  { step, path, content, mode, isSecret = false }: WantedFile,
  before: FileState | null,
  owner: Pick<Access, 'uid' | 'gid'> = ROOT,
): FileChange | null {
  const after = { content: Buffer.from(content), mode, uid: owner.uid, gid: owner.gid }
  const isNothing = before === null && after.content.length === 0
  return isNothing || isSameState(before, after)
    ? null
    : { kind: 'file', step, path, before, after, isSecret }
}

/** A change to owner and mode of a folder that is there; null when both are right. */
export function folderChange(path: string, mode: number, before: Access): FolderChange | null {
  const after = { mode, ...ROOT }
  const isRight = before.mode === mode && before.uid === ROOT.uid && before.gid === ROOT.gid
  return isRight
    ? null
    : { kind: 'folder', step: `correct the owner and mode of ${path}`, path, before, after }
}

/** A line for each CA; those that are there stay as they are. A file of an administrator keeps owner and mode. */
export function pinsChange(
  { path, text, keys }: Pinned,
  cas: readonly PublicKey[],
  before: FileState | null,
): FileChange | null {
  const added = cas.filter(({ blob }) => !keys.some((one) => one.blob.equals(blob)))
  const lines = added.map((ca) => `${publicKeyText(ca)}\n`)
  const old = text ?? ''
  const gap = lines.length === 0 || old === '' || old.endsWith('\n') ? '' : '\n'
  const content = old + gap + lines.join('')
  const kept = path === HOST_CA_FILE ? null : before
  return fileChange(
    { step: 'pin the host CA', path, content, mode: kept?.mode ?? PUBLIC },
    before,
    kept ?? undefined,
  )
}

const WITH_PASSWORD = /:\/\/[^\s/]*@/

/**
 * The proxy by which enroll reaches the issuer is the service's too. A file of an administrator may be less readable than
 * 0644, which systemd does not mind, and one with the password of a proxy is.
 *
 * @param before {@link DEFAULTS_FILE}
 * @throws AgentError CONFIG_INVALID
 */
export function proxyChange(
  environment: EnrollTools['environment'],
  before: FileState | null,
): FileChange | null {
  const wanted = new Map<string, string>()
  for (const name of PROXY_VARIABLES) {
    const given = environment[name.toLowerCase()] ?? environment[name] ?? ''
    if (/\p{Cc}/u.test(given))
      throw new AgentError('CONFIG_INVALID', `${name} in the environment contains control characters`)
    if (given !== '') wanted.set(name, given)
  }
  const content = wanted.size === 0 ? (before?.content ?? Buffer.alloc(0)) : withProxies(before, wanted)
  const isSecret = [before?.content, content].some((text) =>
    WITH_PASSWORD.test(text?.toString('latin1') ?? ''),
  )
  const readable = before === null ? PUBLIC : (before.mode & PUBLIC) | SECRET
  return fileChange(
    { step: 'use the proxy', path: DEFAULTS_FILE, content, mode: isSecret ? SECRET : readable, isSecret },
    before,
  )
}

function withProxies(before: FileState | null, wanted: ReadonlyMap<string, string>): Buffer {
  const text = before?.content.toString() ?? ''
  try {
    if (text.includes('\uFFFD')) throw new Error('it is not UTF-8 text')
    return Buffer.from(withVariables(text, wanted))
  } catch (error) {
    throw new AgentError('CONFIG_INVALID', `${DEFAULTS_FILE}: ${messageOf(error)}`, { cause: error })
  }
}
