import { createHash } from 'node:crypto'
import * as v from 'valibot'
import { AgentError } from '../cert/errors.ts'
import { quote, reasonOf } from '../cert/text.ts'
import type { Change, FileState, ServiceChange } from './change.ts'
import { readFileState, SharedFolder } from './files.ts'

/** A change of a run, with what its undoing needs besides. */
export interface Entry {
  change: Change
  /** Folders that were missing before, the deepest first. */
  folders: readonly string[]
  /**
   * Set before a file that others edited is taken back: only the file tells whether that was done, and lines must not be
   * taken out twice.
   */
  merge: { readonly from: FileState; readonly target: FileState | null } | null
  /**
   * Of a service, what it was when the undoing of a finished run began: what an administrator changed since enroll stays.
   * Left out: that is not known, or it was enroll that was interrupted, which may have stopped it.
   */
  readonly found?: ServiceChange['before']
}

export interface Run {
  /** False: it was interrupted, or its undoing was. */
  isFinished: boolean
  entries: Entry[]
}

export const LARGEST_JOURNAL_BYTES = 16 * 1024 * 1024
const VERSION = 1

const id = v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(2 ** 32 - 2))
const absolutePath = v.pipe(v.string(), v.regex(/^\/[^\0]*$/))
/** Below a folder, and nowhere else. */
const relativePath = v.pipe(v.string(), v.regex(/^(?!\.\.?(?:\/|$))[^/\0][^\0]*$/))
const access = {
  mode: v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(0o7777)),
  uid: id,
  gid: id,
}
const fileState = v.strictObject({
  content: v.pipe(
    v.string(),
    v.check((text) => Buffer.from(text, 'base64').toString('base64') === text, 'not base64'),
    v.transform((text) => Buffer.from(text, 'base64')),
  ),
  ...access,
})
const maybeState = v.nullable(fileState)
const unitState = v.strictObject({ isEnabled: v.boolean(), isActive: v.boolean() })
const change = v.variant('kind', [
  v.strictObject({
    kind: v.literal('file'),
    step: v.string(),
    path: absolutePath,
    before: maybeState,
    after: maybeState,
    isSecret: v.boolean(),
    isCredential: v.exactOptional(v.boolean()),
    isOwn: v.exactOptional(v.boolean()),
    isForgotten: v.exactOptional(v.boolean()),
  }),
  v.strictObject({
    kind: v.literal('folder'),
    step: v.string(),
    path: absolutePath,
    before: v.strictObject(access),
    after: v.strictObject(access),
  }),
  v.strictObject({
    kind: v.literal('service'),
    step: v.string(),
    unit: v.pipe(v.string(), v.regex(/^[A-Za-z0-9@_.:][A-Za-z0-9@_.:\\-]*$/)),
    before: unitState,
    replaced: v.exactOptional(
      v.strictObject({
        folder: absolutePath,
        files: v.array(v.strictObject({ path: relativePath, text: v.string() })),
      }),
    ),
  }),
  v.strictObject({
    kind: v.literal('copies'),
    step: v.string(),
    paths: v.array(absolutePath),
    before: v.array(v.strictObject({ path: absolutePath, state: maybeState })),
    state: v.nullable(v.strictObject({ folder: absolutePath, before: v.array(relativePath) })),
  }),
  v.strictObject({
    kind: v.literal('registration'),
    step: v.string(),
    hostId: v.nullable(v.string()),
    hostname: v.string(),
  }),
  v.strictObject({ kind: v.literal('sshd'), step: v.string() }),
])
/**
 * `registeredAt` belongs to a registration, but stands beside it: hostcertd 0.1 refuses a change with a member that it does
 * not know, and leaves out such a member of an entry.
 */
const entry = v.pipe(
  v.object({
    change,
    folders: v.array(absolutePath),
    merge: v.nullable(v.strictObject({ from: fileState, target: maybeState })),
    found: v.exactOptional(unitState),
    registeredAt: v.exactOptional(v.object({ url: v.string(), projectId: v.string(), project: v.string() })),
  }),
  v.transform(({ registeredAt: at, ...rest }) =>
    at === undefined || rest.change.kind !== 'registration'
      ? rest
      : { ...rest, change: { ...rest.change, at } },
  ),
)
const runs = v.array(v.object({ isFinished: v.boolean(), entries: v.array(entry) }))
const document = v.object({ version: v.number(), sha256: v.string(), runs: v.unknown() })

/**
 * Read all runs, the oldest first.
 *
 * @returns none when there is no such file
 * @throws AgentError STORE_FAILED when it is there and cannot be used
 */
export async function loadRuns(path: string): Promise<Run[]> {
  try {
    const state = await readFileState(path, LARGEST_JOURNAL_BYTES)
    if (state === null) return []
    const isOurs = state.uid === 0 || state.uid === process.geteuid?.()
    if (!isOurs || (state.mode & 0o022) !== 0) throw new Error('others may write to it')
    return runsOf(state.content.toString('utf8'))
  } catch (error) {
    const advice =
      error instanceof SharedFolder
        ? ': look at what is in it, then run `chown root:root` and `chmod 755` on it'
        : '; enroll, unenroll and ca refresh change nothing until it is restored, or removed to forget what enroll did'
    const why = `${reasonOf(error)}${advice}`
    throw new AgentError('STORE_FAILED', `cannot use the journal ${path}: ${why}`, { cause: error })
  }
}

function runsOf(text: string): Run[] {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    throw new Error('it is damaged')
  }
  const outer = v.safeParse(document, parsed)
  if (!outer.success) throw new Error('it is damaged')
  const { version, sha256, runs: written } = outer.output
  if (version !== VERSION) throw new Error(`its version is ${version}, and this hostcertd knows ${VERSION}`)
  if (sha256 !== digestOf(JSON.stringify(written))) throw new Error('it is damaged')
  const inner = v.safeParse(runs, written)
  if (inner.success) return inner.output
  const [issue] = inner.issues
  throw new Error(`it is damaged at ${quote(v.getDotPath(issue) ?? '')}`)
}

/** The text of the file that {@link loadRuns} reads. */
export function textOfRuns(all: readonly Run[]): string {
  const written = JSON.stringify(
    all.map(({ isFinished, entries }) => ({
      isFinished,
      entries: entries.map((one) => ({
        change: documentOf(one.change),
        folders: one.folders,
        merge: one.merge && { from: stateDocument(one.merge.from), target: stateDocument(one.merge.target) },
        found: one.found,
        // JSON leaves it out where there is none.
        registeredAt: one.change.kind === 'registration' ? one.change.at : undefined,
      })),
    })),
  )
  return `{"version":${VERSION},"sha256":"${digestOf(written)}","runs":${written}}\n`
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

function documentOf(written: Change): unknown {
  switch (written.kind) {
    case 'file':
      return { ...written, before: stateDocument(written.before), after: stateDocument(written.after) }
    case 'copies': {
      const before = written.before.map(({ path, state }) => ({ path, state: stateDocument(state) }))
      return { ...written, before }
    }
    case 'registration':
      return { ...written, at: undefined }
    case 'folder':
    case 'service':
    case 'sshd':
      return written
  }
}

function stateDocument(state: FileState | null): unknown {
  return state && { ...state, content: state.content.toString('base64') }
}
