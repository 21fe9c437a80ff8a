import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { AgentError } from '../../agent/cert/errors.ts'
import type { Access, FileState } from '../../agent/enroll/change.ts'
import { readFileState } from '../../agent/enroll/files.ts'
import { type Journal, openJournal, readJournal } from '../../agent/enroll/journal.ts'
import { openFinishedJournal } from '../../agent/enroll/tools.ts'
import type { Undone } from '../../agent/enroll/undo-entries.ts'
import { needsRoot, runsIf } from '../support/skip.ts'
import { type Fault, faultyOperations } from './faulty-operations.ts'
import {
  enroll,
  fileChange,
  fileState,
  isNotedFirst,
  makeSmallHost,
  type SmallHost,
  SSHD_CONFIG,
} from './small-host.ts'

const JOURNAL = new URL('../../agent/enroll/journal.ts', import.meta.url).href

const PYTHON = '/usr/bin/python3'

/** Hundreds of runs, each with a lock by a program. */
const SLOW = { timeout: 240_000 }

let host: SmallHost
let config: string
beforeEach(async () => {
  host = await makeSmallHost()
  config = join(host.etc, 'ssh', 'sshd_config')
})
afterEach(() => host[Symbol.asyncDispose]())

/** How many steps enroll has, or unenroll after it. @param kind of the faults that are to come */
async function stepsOf(what: 'enroll' | 'unenroll', kind: string): Promise<number> {
  await using one = await makeSmallHost()
  const faulty = faultyOperations({ kind, at: 0, isDone: false })
  await using journal = await one.open(faulty)
  await enroll(one, journal)
  const before = faulty.steps()
  await journal.undoAll()
  return what === 'enroll' ? before : faulty.steps() - before
}

/** Each fault with `HOSTCERTD_FAULTS=all`; every third one without. */
const STRIDE = process.env['HOSTCERTD_FAULTS'] === 'all' ? 1 : 3
const isTried = (_: Fault, index: number): boolean => index % STRIDE === 0

/** A stop behind each of so many steps; before the next one is the same. */
function stops(steps: number): readonly Fault[] {
  return Array.from({ length: steps }, (_, index) => ({ kind: 'stop', at: index + 1, isDone: true })).filter(
    isTried,
  )
}

const CODES = ['ENOSPC', 'EROFS', 'EIO', 'EACCES'] as const

/** An error at each of so many steps; at every other one once more, done but reported failed. */
function errors(steps: number): readonly Fault[] {
  return Array.from({ length: steps }, (_, index) =>
    (index % 2 === 0 ? [false] : [false, true]).map((isDone) => ({
      kind: CODES[(index + Number(isDone)) % CODES.length] ?? 'EIO',
      at: index + 1,
      isDone,
    })),
  )
    .flat()
    .filter(isTried)
}

async function unenroll(one: SmallHost): Promise<Undone> {
  await using journal = await one.open()
  return journal.undoAll()
}

async function expectAsBefore(one: SmallHost, before: Record<string, unknown>, when: unknown): Promise<void> {
  const service = { isEnabled: one.service.isEnabled, isActive: one.service.isActive }
  expect({ when, files: await one.snapshot(), service }).toEqual({
    when,
    files: before,
    service: { isEnabled: false, isActive: false },
  })
  expect((await fs.readdir(one.state)).filter((name) => name !== 'lock')).toEqual([])
}

test('unenroll takes back everything, byte for byte, with mode and owner, and the journal is gone', async () => {
  const before = await host.snapshot()
  {
    await using journal = await host.open()
    await enroll(host, journal)
    expect(journal.runs.map(({ isFinished }) => isFinished)).toEqual([true])
    expect((await journal.undoUnfinished()).changes).toEqual([])
  }
  expect((await fs.stat(host.journal)).mode & 0o777).toBe(0o600)
  expect((await fs.stat(host.state)).mode & 0o777).toBe(0o755)
  expect((await fs.stat(join(host.etc, 'hostcertd'))).mode & 0o777).toBe(0o755)
  expect((await fs.stat(join(host.etc, 'hostcertd', 'credentials'))).mode & 0o777).toBe(0o700)
  const [run] = await readJournal(host.state)
  expect(run?.changes).toEqual((await readJournal(host.state))[0]?.changes)
  const undone = await unenroll(host)
  expect(undone.left).toEqual([])
  expect(undone.changes).toHaveLength(8)
  expect(undone.changes[0]?.kind).toBe('service')
  await expectAsBefore(host, before, 'at the end')
  expect(await unenroll(host)).toEqual({ changes: [], left: [], isReloadedByHand: false })
})

test('a run that ends at any instant is undone by the next call', SLOW, async () => {
  for (const fault of stops(await stepsOf('enroll', 'stop'))) {
    await using one = await makeSmallHost()
    const before = await one.snapshot()
    const faulty = faultyOperations(fault)
    {
      await using journal = await one.open(faulty)
      await Promise.race([faulty.stopped, enroll(one, journal)])
      await faulty.stopped
    }
    {
      await using journal = await one.open()
      expect({ fault, left: (await journal.undoUnfinished()).left }).toEqual({ fault, left: [] })
    }
    if ((await readJournal(one.state)).length > 0) await unenroll(one)
    await expectAsBefore(one, before, fault)
  }
})

test(
  'an undoing that ends at any instant is finished by the next call, with edits of others too',
  SLOW,
  async () => {
    const edit = async (one: SmallHost): Promise<void> => {
      const file = join(one.etc, 'ssh', 'sshd_config')
      await fs.writeFile(
        file,
        `# mine\n${await fs.readFile(file, 'latin1')}Include ${join(one.etc, 'hostcertd.conf')}\n`,
      )
      await fs.chmod(file, 0o640)
    }
    const kinds = [
      { isEdited: false, wasActive: true },
      { isEdited: true, wasActive: false },
    ]
    let edited: Record<string, unknown> | null = null
    for (const { isEdited, wasActive } of kinds) {
      for (const fault of [null, ...stops((await stepsOf('unenroll', 'stop')) + (isEdited ? 4 : 0))]) {
        await using one = await makeSmallHost()
        one.service.isEnabled = one.service.isActive = wasActive
        const before = await stateOf(one)
        {
          await using journal = await one.open()
          await enroll(one, journal)
        }
        if (isEdited) await edit(one)
        const enrolled = await stateOf(one)
        if (fault !== null) {
          const faulty = faultyOperations(fault)
          await using journal = await one.open(faulty)
          await Promise.race([faulty.stopped, journal.undoAll()])
        }
        const runs = await readJournal(one.state)
        const isSeen = runs.some(({ isFinished }) => !isFinished)
        // Nobody would finish it.
        const whole = isSeen || runs.length === 0 ? enrolled : await stateOf(one)
        expect({ fault, wasActive, ...whole }).toEqual({ fault, wasActive, ...enrolled })
        {
          await using journal = await one.open()
          const { left } = await (isSeen ? journal.undoUnfinished() : journal.undoAll())
          expect({ fault, left }).toEqual({ fault, left: [] })
        }
        const now = await stateOf(one)
        if (isEdited) edited ??= now.files
        expect({ fault, wasActive, ...now }).toEqual({
          fault,
          wasActive,
          service: before.service,
          files: isEdited ? edited : before.files,
        })
        expect(await readJournal(one.state)).toEqual([])
      }
    }
    expect(edited?.['ssh/sshd_config']).toMatchObject({
      content: `# mine\n${SSHD_CONFIG}Include ETC/hostcertd.conf\n`,
      mode: 0o100640,
    })
  },
)

async function stateOf(one: SmallHost) {
  const service = { isEnabled: one.service.isEnabled, isActive: one.service.isActive }
  return { files: normalized(await one.snapshot(), one), service }
}

function normalized(files: Record<string, unknown>, { etc }: SmallHost): Record<string, unknown> {
  return JSON.parse(JSON.stringify(files).replaceAll(etc, 'ETC')) as Record<string, unknown>
}

test('an error at any step of enroll is named, and undone', SLOW, async () => {
  let failed = 0
  for (const fault of errors(await stepsOf('enroll', 'EIO'))) {
    await using one = await makeSmallHost()
    const before = await one.snapshot()
    await using journal = await one.open(faultyOperations(fault))
    const failure: unknown = await enroll(one, journal).then(
      () => null,
      (error: unknown) => error,
    )
    expect(failure).toMatchObject({
      code: 'STORE_FAILED',
      message: expect.stringContaining(`(${fault.kind})`),
    })
    expect(String(failure)).toMatch(/cannot (?:write|change|start) (?:\/|hostcertd.service)/)
    failed += 1
    expect((await journal.undoUnfinished()).left).toEqual([])
    await expectAsBefore(one, before, fault)
  }
  expect(failed).toBeGreaterThan(50 / STRIDE)
})

test(
  'an error at any step of unenroll is named, keeps nothing else from being undone, and the next call ends it',
  SLOW,
  async () => {
    let unbegun = 0
    for (const fault of errors(await stepsOf('unenroll', 'EIO'))) {
      await using one = await makeSmallHost()
      const before = await one.snapshot()
      {
        await using journal = await one.open()
        await enroll(one, journal)
      }
      {
        await using journal = await one.open(faultyOperations(fault))
        const enrolled = await stateOf(one)
        const undone = await journal.undoAll().catch((error: unknown) => error as AgentError)
        if (undone instanceof AgentError) unbegun += 1
        // If it could not be written that it begins, nothing is undone. A file that was changed twice is one of them: what
        // is older waits for what failed.
        const judged =
          undone instanceof AgentError
            ? [
                undone.message.startsWith(`cannot write ${one.journal}: `),
                isDeepStrictEqual(await stateOf(one), enrolled),
              ]
            : [undone.changes.length >= 5, undone.left.length <= 1]
        expect({ fault, judged }).toEqual({ fault, judged: [true, true] })
      }
      expect((await unenroll(one)).left).toEqual([])
      await expectAsBefore(one, before, fault)
    }
    expect(unbegun).toBeGreaterThan(5 / STRIDE)
  },
)

test('a journal that cannot be written keeps enroll from changing anything', async () => {
  const before = await host.snapshot()
  const faulty = faultyOperations({ kind: 'ENOSPC', at: 1, isDone: false })
  await using journal = await host.open(faulty)
  const run = journal.begin()
  const made = run.make(fileChange(config, await readFileState(config), fileState('x\n')))
  await expect(made).rejects.toThrow(`cannot write ${host.journal}`)
  expect(await host.snapshot()).toEqual(before)
})

test('before anything is changed, the journal and each folder that leads to it are on the disk', async () => {
  const order: string[] = []
  const operations = {
    ...fs,
    open: (async (path: string, ...args: [string, number]) => {
      const handle = await fs.open(path, ...args)
      const sync = handle.sync.bind(handle)
      handle.sync = async () => {
        order.push(`sync ${path.replace(/\.hostcertd-.*/, '')}`)
        return sync()
      }
      return handle
    }) as typeof fs.open,
    rename: (async (from: string, to: string) => {
      order.push(`rename ${to}`)
      return fs.rename(from, to)
    }) as typeof fs.rename,
  }
  const [lib, state] = [join(host.etc, 'lib'), join(host.etc, 'lib', 'enroll')]
  const made = join(host.etc, 'a', 'b', 'file')
  await using journal = await openJournal({
    folder: state,
    performers: {},
    operations,
  })
  // As if the lock were elsewhere.
  await fs.rm(lib, { recursive: true })
  await journal.begin().make(fileChange(made, null, fileState('x')))
  const at = (step: string): number => order.indexOf(step)
  const entry = [
    `sync ${join(state, '.journal.json')}`,
    `rename ${join(state, 'journal.json')}`,
    `sync ${state}`,
  ]
  expect(order.filter((step) => entry.includes(step)).slice(0, 3)).toEqual(entry)
  for (const folder of [host.etc, lib]) expect(at(`sync ${folder}`)).toBeGreaterThan(-1)
  expect(at(`sync ${lib}`)).toBeLessThan(at(entry[1]!))
  expect(at(`rename ${made}`)).toBeGreaterThan(at(`sync ${state}`))
  expect(at(`sync ${join(host.etc, 'a')}`)).toBeGreaterThan(at(`sync ${state}`))
  await journal.undoUnfinished()
})

/** A process that enrolls, in small, and kills itself at a step. @returns whether it came that far */
async function killedAt(one: SmallHost, at: number): Promise<boolean> {
  const path = join(one.etc, 'ssh', 'sshd_config')
  const fresh = join(one.etc, 'hostcertd', 'credentials', 'secret')
  const program = `
    import * as fs from 'node:fs/promises'
    import { openJournal } from ${JSON.stringify(JOURNAL)}
    let count = 0
    const step = (perform) => async (...args) => {
      if (++count === ${at}) process.kill(process.pid, 'SIGKILL')
      return perform(...args)
    }
    const operations = {}
    for (const name of ['rename', 'mkdir', 'chmod', 'unlink', 'rmdir']) operations[name] = step(fs[name])
    operations.open = step(async (...args) => {
      const handle = await fs.open(...args)
      for (const name of ['writeFile', 'chmod', 'chown']) handle[name] = step(handle[name].bind(handle))
      handle.sync = step(async () => {})
      return handle
    })
    const performers = { systemctl: async () => ({ status: 0 }) }
    const journal = await openJournal({ folder: ${JSON.stringify(one.state)}, performers, operations })
    const run = journal.begin()
    const state = (text, mode) => ({ content: Buffer.from(text), mode, uid: process.geteuid(), gid: process.getegid() })
    const before = state(${JSON.stringify(SSHD_CONFIG)}, 0o600)
    const file = { kind: 'file', step: 's', isSecret: true }
    await run.make({ ...file, path: ${JSON.stringify(path)}, before, after: state('Port 23\\n', 0o640) })
    await run.make({ ...file, path: ${JSON.stringify(fresh)}, before: null, after: state('hunter2', 0o600) })
    process.exit(0)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null]
  expect(signal === 'SIGKILL' || code === 0).toBe(true)
  return signal === 'SIGKILL'
}

test(
  'a process that is killed at any step leaves what the next call undoes',
  { timeout: 180_000 },
  async () => {
    let at = 1
    for (let isKilled = true; isKilled; at += STRIDE) {
      await using one = await makeSmallHost()
      const before = await one.snapshot()
      isKilled = await killedAt(one, at)
      await using journal = await one.open()
      expect((await journal.undoUnfinished()).left).toEqual([])
      await expectAsBefore(one, before, at)
    }
    expect(at).toBeGreaterThan(25)
  },
)

/** Enroll changes one file, others edit it, and it is undone. */
async function undoneAfter(
  before: FileState | null,
  after: FileState | null,
  edit: (path: string) => Promise<unknown>,
): Promise<Undone & { readonly now: FileState | null; readonly isKept: boolean }> {
  await using journal = await host.open()
  await fs.rm(config)
  if (before !== null) {
    await fs.writeFile(config, before.content)
    await fs.chmod(config, before.mode)
  }
  const run = journal.begin()
  await run.make(fileChange(config, before, after))
  await run.finish()
  await edit(config)
  const undone = await journal.undoAll()
  const now =
    (await fs.lstat(config).catch(() => null))?.isFile() === true ? await readFileState(config) : null
  return { ...undone, now, isKept: journal.runs.length > 0 }
}

const OLD = fileState('a\nold\nb\n', 0o600)
const NEW = fileState('a\nX\nb\n', 0o644)

test.each<{
  name: string
  before?: FileState | null
  after?: FileState | null
  edit: (path: string) => Promise<unknown>
  want: FileState | null
  why?: string
}>([
  { name: 'nothing', edit: async () => {}, want: OLD },
  {
    name: 'a line added',
    edit: (path) => fs.appendFile(path, '# mine\n'),
    want: fileState('a\nold\nb\n# mine\n', 0o600),
  },
  {
    name: 'our line edited',
    edit: (path) => fs.writeFile(path, 'a\nY\nb\n'),
    want: fileState('a\nY\nb\n', 0o600),
    why: 'the line "X" was changed or removed since; enroll removed the line "old", which is not put back',
  },
  {
    name: 'a line in the place of one that enroll removed',
    after: fileState('a\nb\n', 0o644),
    edit: (path) => fs.writeFile(path, 'a\n# mine\nb\n'),
    want: fileState('a\n# mine\nb\n', 0o600),
    why: 'the lines around them changed; enroll removed the line "old", which is not put back',
  },
  { name: 'the mode only', edit: (path) => fs.chmod(path, 0o640), want: { ...OLD, mode: 0o640 } },
  { name: 'taken back by hand', edit: (path) => fs.writeFile(path, OLD.content), want: OLD },
  { name: 'deleted', edit: (path) => fs.rm(path), want: null, why: 'it was removed since' },
  { name: 'a new file deleted', before: null, edit: (path) => fs.rm(path), want: null },
  { name: 'the mode of a new file', before: null, edit: (path) => fs.chmod(path, 0o600), want: null },
  {
    name: 'a line added to a new file',
    before: null,
    edit: (path) => fs.appendFile(path, '# mine\n'),
    want: fileState('# mine\n', 0o644),
    why: 'it has lines that were added since',
  },
  {
    name: 'a removed file made anew',
    after: null,
    edit: (path) => fs.writeFile(path, 'theirs\n', { mode: 0o644 }),
    want: fileState('theirs\n', 0o644),
    why: 'somebody has made another one since; enroll removed the line "a", which is not put back; enroll removed the line "old"',
  },
])('edited later: $name', async ({ before = OLD, after = NEW, edit, want, why }) => {
  const { left, now, isKept } = await undoneAfter(before, after, edit)
  expect([...new Set(left.map(({ path }) => path))]).toEqual(why === undefined ? [] : [config])
  expect(left.map((one) => one.why).join('; ')).toContain(why ?? '')
  expect({ now, isKept }).toEqual({ now: want, isKept: false })
})

test('no line of a secret file is named', async () => {
  await using journal = await host.open()
  await fs.writeFile(config, OLD.content)
  const run = journal.begin()
  await run.make({ ...fileChange(config, await readFileState(config), NEW), isSecret: true })
  await run.finish()
  await fs.writeFile(config, 'theirs\n')
  const { left } = await journal.undoAll()
  expect(left).toEqual([{ path: config, why: 'a line was changed or removed since' }])
})

test('edited later: a large file in its place', async () => {
  const large = Buffer.alloc(1024 * 1024 + 1)
  await using journal = await host.open()
  const run = journal.begin()
  await run.make(fileChange(config, await readFileState(config), NEW))
  await fs.writeFile(config, large)
  const { left } = await journal.undoUnfinished()
  expect(left).toEqual([{ path: config, why: 'it is larger than 1024 KiB' }])
  expect((await fs.readFile(config)).equals(large)).toBe(true)
  expect(() => journal.begin()).toThrow('is not undone yet')
})

test('edited later: the owner only', needsRoot, async () => {
  const { left, now } = await undoneAfter(OLD, { ...NEW, uid: 7 }, (path) => fs.chown(path, 7, 9))
  expect(left).toEqual([])
  expect(now).toEqual({ ...OLD, gid: 9 })
})

test('an owner is given, and given back', needsRoot, async () => {
  await using journal = await host.open()
  const before = await readFileState(config)
  const run = journal.begin()
  await run.make(fileChange(config, before, { ...NEW, uid: 7, gid: 9, mode: 0o4750 }))
  expect(await readFileState(config)).toEqual({ ...NEW, uid: 7, gid: 9, mode: 0o4750 })
  await journal.undoUnfinished()
  expect(await readFileState(config)).toEqual(before)
})

describe('an ACL and other extended attributes', () => {
  const python = (program: string, ...args: readonly string[]): string =>
    execFileSync(
      'python3',
      ['-c', `import os, struct, sys\npath = sys.argv[1]\n${program}`, config, ...args],
      {
        encoding: 'utf8',
      },
    )
  // user::rw- user:1234:r-- group::r-- mask::r-- other::---
  const set = `
entries = [(1, 6, 2**32 - 1), (2, 4, 1234), (4, 4, 2**32 - 1), (16, 4, 2**32 - 1), (32, 0, 2**32 - 1)]
acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *entry) for entry in entries)
os.setxattr(path, 'system.posix_acl_access', acl)
os.setxattr(path, 'user.note', b'mine')`
  const attributes = (): string =>
    python('print([(name, os.getxattr(path, name)) for name in sorted(os.listxattr(path))])')

  test.each([
    { name: 'stay with mode and owner', mode: 0o640, isKept: true },
    { name: 'go with the mode', mode: 0o600, isKept: false },
  ])(
    '$name, also when that is undone',
    runsIf(existsSync(PYTHON), `${PYTHON} is missing`),
    async ({ mode, isKept }) => {
      python(set)
      const before = attributes()
      expect(before).toContain('user.note')
      await using journal = await host.open()
      const old = await readFileState(config)
      expect(old?.mode).toBe(0o640)
      await journal.begin().make(fileChange(config, old, fileState('new\n', mode)))
      expect(attributes()).toBe(isKept ? before : '[]\n')
      expect(await readFileState(config)).toEqual(fileState('new\n', mode))
      expect((await fs.stat(config)).mtimeMs).toBeGreaterThan(Date.now() - 60_000)
      await journal.undoUnfinished()
      expect(await readFileState(config)).toEqual(old)
      expect(attributes()).toBe(isKept ? before : '[]\n')
    },
  )
})

describe('an ACL and other extended attributes that cannot be copied', () => {
  afterEach(() => vi.unstubAllEnvs())

  test.each([
    { name: 'cp fails', script: 'exit 1', why: 'cp ended with status 1' },
    {
      name: 'cp cannot set one',
      script: 'echo "cp: setting attributes: No" >&2',
      why: 'cp: setting attributes: No',
    },
  ])('are named, and nothing fails: $name', async ({ script, why }) => {
    const bin = join(host.state, 'bin')
    await fs.mkdir(bin, { recursive: true })
    await fs.writeFile(join(bin, 'cp'), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    vi.stubEnv('PATH', `${bin}:${process.env['PATH'] ?? ''}`)
    const notes: string[] = []
    const performers = { note: (text: string) => void notes.push(text) }
    await using journal = await openJournal({ folder: host.state, performers })
    const old = await readFileState(config)
    await journal.begin().make(fileChange(config, old, fileState('new\n', old?.mode)))
    const note = `note: ${config} may have lost its ACL and other extended attributes: ${why}`
    expect(notes).toEqual([note])
    expect(await journal.undoUnfinished()).toMatchObject({ left: [] })
    expect(notes).toEqual([note, note])
    expect(await readFileState(config)).toEqual(old)
  })
})

describe('the owner and mode of a folder', () => {
  const accessOf = async (path: string): Promise<Access> => {
    const { mode, uid, gid } = await fs.stat(path)
    return { mode: mode & 0o7777, uid, gid }
  }
  const ROOT = { mode: 0o700, uid: 0, gid: 0 }

  test('are set, and set back by a later call', needsRoot, async () => {
    const path = join(host.etc, 'ssh')
    await fs.chown(path, 7, 9)
    const before = await accessOf(path)
    {
      await using journal = await host.open()
      const run = journal.begin()
      await run.make({ kind: 'folder', step: 'correct', path, before, after: ROOT })
      await run.finish()
      expect(await accessOf(path)).toEqual(ROOT)
    }
    await using again = await host.open()
    expect(await again.undoAll()).toMatchObject({ left: [], changes: [{ kind: 'folder', path }] })
    expect(await accessOf(path)).toEqual(before)
    expect(again.runs).toEqual([])
  })

  test('stay as somebody else set them since', needsRoot, async () => {
    const path = join(host.etc, 'ssh')
    const before = await accessOf(path)
    await using journal = await host.open()
    await journal.begin().make({ kind: 'folder', step: 'correct', path, before, after: ROOT })
    await fs.chmod(path, 0o750)
    await fs.chown(path, 7, 0)
    await journal.undoUnfinished()
    expect(await accessOf(path)).toEqual({ mode: 0o750, uid: 7, gid: before.gid })
  })

  test('are forgotten with a folder that is gone', async () => {
    const path = join(host.etc, 'gone')
    await fs.mkdir(path)
    const before = await accessOf(path)
    await using journal = await host.open()
    await journal
      .begin()
      .make({ kind: 'folder', step: 'correct', path, before, after: { ...before, mode: 0o700 } })
    await fs.rmdir(path)
    expect(await journal.undoUnfinished()).toMatchObject({ left: [] })
    expect(journal.runs).toEqual([])
  })
})

test.each<{ name: string; put: (path: string) => unknown; why: string }>([
  {
    name: 'a symbolic link',
    put: (path) => fs.symlink(join(host.etc, 'ssh', 'leftover'), path),
    why: 'symbolic link',
  },
  { name: 'a FIFO', put: (path) => execFileSync('mkfifo', [path]), why: 'a FIFO' },
  { name: 'a folder', put: (path) => fs.mkdir(path), why: 'a folder' },
])(
  '$name in its place is neither followed nor replaced, and is named until it is gone',
  async ({ put, why }) => {
    const leftover = join(host.etc, 'ssh', 'leftover')
    const { left, isKept } = await undoneAfter(OLD, NEW, async (path) => {
      await fs.rm(path)
      await put(path)
    })
    expect({ left, isKept }).toEqual({
      left: [{ path: config, why: expect.stringContaining(why) }],
      isKept: true,
    })
    expect((await fs.lstat(config)).isFile()).toBe(false)
    expect(await fs.readFile(leftover, 'utf8')).toBe('TrustedUserCAKeys /old\n')
    await using journal = await host.open()
    expect(() => journal.begin()).toThrow('is not undone yet')
    await fs.rm(config, { recursive: true })
    await fs.writeFile(config, NEW.content)
    await fs.chmod(config, NEW.mode)
    expect((await journal.undoAll()).left).toEqual([])
    expect(await readFileState(config)).toEqual(OLD)
    expect(journal.runs).toEqual([])
    await fs.rm(config)
    await put(config)
    const made = journal.begin().make(fileChange(config, null, NEW))
    await expect(made).rejects.toThrow(
      `cannot change ${config}: it is ${why.replace(/^a? ?/, 'a')}`.slice(0, 20),
    )
  },
)

test('a folder that other users may write to for a moment costs no line: the next call takes back the rest', async () => {
  const folder = join(host.etc, 'ssh')
  const before = await host.snapshot()
  {
    await using journal = await host.open()
    await enroll(host, journal)
  }
  await fs.chmod(folder, 0o777)
  const { left } = await unenroll(host)
  const why = `other users than root may write to ${folder}`
  expect(left).toEqual([
    { path: join(folder, 'leftover'), why },
    { path: config, why },
  ])
  await fs.chmod(folder, 0o755)
  expect((await unenroll(host)).left).toEqual([])
  await expectAsBefore(host, before, 'at the end')
})

test('nothing is written where other users may write, nor over what changed since it was read', async () => {
  await using journal = await host.open()
  const run = journal.begin()
  await expect(run.make(fileChange(config, OLD, NEW))).rejects.toThrow('somebody changed it just now')
  await fs.chmod(join(host.etc, 'ssh'), 0o777)
  const made = run.make(fileChange(config, fileState(SSHD_CONFIG, 0o600), NEW))
  await expect(made).rejects.toThrow('other users than root may write')
  expect(await fs.readFile(config, 'utf8')).toBe(SSHD_CONFIG)
})

test('another process that has the journal open is named, and a failed undoing keeps a new run from beginning', async () => {
  await using journal = await host.open()
  await expect(host.open()).rejects.toThrow('another process holds')
  journal.begin()
  expect(() => journal.begin()).toThrow('is not undone yet')
  await journal.undoUnfinished()
  journal.begin()
})

const ODD_JOURNALS: readonly { name: string; put: (path: string) => unknown; why: string }[] = [
  { name: 'a symbolic link', put: (path) => fs.symlink('/etc/passwd', path), why: 'symbolic link' },
  { name: 'a FIFO', put: (path) => execFileSync('mkfifo', [path]), why: 'a FIFO' },
  { name: 'a folder', put: (path) => fs.mkdir(path), why: 'a folder' },
  { name: 'empty', put: (path) => fs.writeFile(path, ''), why: 'damaged' },
  { name: 'no object', put: (path) => fs.writeFile(path, '[]'), why: 'damaged' },
  {
    name: 'of a later version',
    put: (path) => fs.writeFile(path, '{"version":2,"sha256":"","runs":[]}'),
    why: 'its version is 2, and this hostcertd knows 1',
  },
  {
    name: 'with a wrong checksum',
    put: (path) => fs.writeFile(path, '{"version":1,"sha256":"","runs":[]}'),
    why: 'damaged',
  },
  { name: 'huge', put: (path) => fs.writeFile(path, Buffer.alloc(16 * 1024 * 1024 + 1)), why: 'larger than' },
  {
    name: 'writable for others',
    put: async (path) => {
      await fs.writeFile(path, '{}')
      await fs.chmod(path, 0o666)
    },
    why: 'others may write to it',
  },
]

test.each(ODD_JOURNALS)('a journal that is $name is refused, and not touched', async ({ put, why }) => {
  await fs.mkdir(host.state, { recursive: true })
  await put(host.journal)
  await expect(host.open()).rejects.toMatchObject({ code: 'STORE_FAILED' })
  await expect(host.open()).rejects.toThrow(`cannot use the journal ${host.journal}: `)
  await expect(readJournal(host.state)).rejects.toThrow(why)
  await fs.lstat(host.journal)
})

test('no truncated journal and none with a changed byte is taken for a whole one', SLOW, async () => {
  {
    await using journal = await host.open()
    await enroll(host, journal)
  }
  const whole = await fs.readFile(host.journal)
  const runs = await readJournal(host.state)
  const read = async (content: Buffer): Promise<unknown> => {
    await fs.writeFile(host.journal, content)
    return readJournal(host.state).catch((error: unknown) => error)
  }
  // The last byte is a line feed.
  for (let length = 0; length < whole.length - 1; length += 37)
    expect(await read(whole.subarray(0, length))).toMatchObject({ code: 'STORE_FAILED' })
  for (let at = 0; at < whole.length; at += 11) {
    const damaged = Buffer.from(whole)
    damaged[at] = (damaged[at] ?? 0) ^ 0x11
    const result = await read(damaged)
    const isRefused = result instanceof AgentError && result.code === 'STORE_FAILED'
    expect({ at, isKnown: isRefused || isDeepStrictEqual(result, runs) }).toEqual({ at, isKnown: true })
  }
})

test('copies that were there before stay, renewed or not, and others of that name are removed', async () => {
  const folder = join(host.etc, 'ssh', 'hostcertd')
  await fs.mkdir(folder)
  const [old, added, other] = ['a-cert.pub', 'b-cert.pub', 'user-ca.pub'].map((name) =>
    join(folder, name),
  ) as [string, string, string]
  await fs.writeFile(old, 'before\n')
  await fs.writeFile(other, 'theirs\n')
  const before = await host.snapshot()
  await using journal = await host.open()
  const run = journal.begin()
  await run.make({
    kind: 'copies',
    step: 'copies',
    paths: [join(folder, '*-cert.pub')],
    before: [{ path: old, state: await readFileState(old) }],
    state: null,
  })
  await fs.writeFile(old, 'after\n')
  await fs.writeFile(added, 'after\n')
  await fs.symlink(other, join(folder, 'c-cert.pub'))
  await run.finish()
  const link = join(folder, 'c-cert.pub')
  const { left } = await journal.undoAll()
  expect(left).toEqual([
    { path: join(folder, '*-cert.pub'), why: expect.stringContaining(`${link}: it is a symbolic link`) },
  ])
  expect(await fs.readdir(folder)).toEqual(['a-cert.pub', 'c-cert.pub', 'user-ca.pub'])
  await fs.rm(link)
  expect((await journal.undoAll()).left).toEqual([])
  expect(journal.runs).toEqual([])
  expect(await fs.readFile(old, 'utf8')).toBe('after\n')
  await fs.writeFile(old, 'before\n')
  expect(await host.snapshot()).toEqual(before)
})

test('what a service makes by itself, before it is told to, is undone: it is stopped first', async () => {
  const before = await host.snapshot()
  const changes = await host.changes()
  {
    await using journal = await host.open()
    const run = journal.begin()
    await run.note(changes.filter(isNotedFirst))
    await run.make(changes[0]!)
    expect(host.service.calls).toEqual([])
  }
  // A power cut, and the next boot.
  host.service.isActive = true
  const copies = join(host.etc, 'ssh', 'hostcertd')
  await fs.mkdir(copies)
  await fs.writeFile(join(copies, 'ssh_host_ed25519_key-cert.pub'), 'certificate\n')
  await fs.writeFile(join(host.etc, 'ssh', 'sshd_config.d', '40-hostcertd.conf'), 'HostCertificate x\n')
  await host.readBySshd()
  await fs.writeFile(join(host.kept, 'attempts.json'), 'new\n')
  await using journal = await host.open()
  expect((await journal.undoUnfinished()).left).toEqual([])
  expect(host.service.calls[0]).toBe('stop hostcertd.service')
  await expectAsBefore(host, before, 'at the end')
})

test('a change that is noted is made once, and is in the journal once', async () => {
  await using journal = await host.open()
  const change = (await host.changes()).find(({ kind }) => kind === 'service')
  const run = journal.begin()
  await run.note([change!])
  await run.make(change!)
  expect(journal.runs.flatMap(({ changes }) => changes)).toEqual([change])
  expect(host.service.calls).toEqual(['enable --now hostcertd.service'])
})

test('a timer is not waited for: it may start after a time server that never answers', async () => {
  await using journal = await host.open()
  const before = { isEnabled: false, isActive: false }
  await journal.begin().make({ kind: 'service', step: 's', unit: 'u.timer', before })
  expect(host.service.calls).toEqual(['enable --now --no-block u.timer'])
})

test('a root helper that is still running is ended before its copies are removed', async () => {
  const folder = join(host.etc, 'ssh', 'hostcertd')
  const copy = join(folder, 'a-cert.pub')
  const before = await host.snapshot()
  let failure: string | null = 'systemctl did not answer'
  const performers = {
    systemctl: async (args: readonly string[]) => {
      expect(args).toEqual(['stop', 'hostcertd-reload@*.service'])
      // It was about to.
      if (failure === null) await fs.writeFile(copy, 'late\n')
      return { status: failure === null ? 0 : 1, failure, stderr: '' }
    },
  }
  await using journal = await openJournal({ folder: host.state, performers })
  const run = journal.begin()
  const paths = [join(folder, '*-cert.pub')]
  await run.make({ kind: 'copies', step: 'copies', paths, before: [], state: null })
  await fs.mkdir(folder)
  expect((await journal.undoUnfinished()).left).toEqual([{ path: paths[0], why: failure }])
  failure = null
  expect((await journal.undoUnfinished()).left).toEqual([])
  expect(await host.snapshot()).toEqual(before)
})

test('what a killed root helper left is removed, and nothing else that has such a name', async () => {
  const [copies, dropIns] = ['hostcertd', 'sshd_config.d'].map((name) => join(host.etc, 'ssh', name)) as [
    string,
    string,
  ]
  const copy = join(copies, 'a-cert.pub')
  await fs.mkdir(join(copies, '.install.theirs', 'kept'), { recursive: true })
  await fs.mkdir(join(copies, '.install.tHeir5'))
  await fs.writeFile(copy, 'before\n')
  await fs.writeFile(join(copies, '.install.tHeir5', 'mine'), 'mine\n')
  await fs.writeFile(join(copies, '.install.ABCDEF'), 'a file\n')
  await fs.symlink(dropIns, join(copies, '.install.abcdef'))
  await fs.writeFile(join(dropIns, '.41-other.conf.before'), 'mine\n')
  const before = await host.snapshot()
  await using journal = await host.open()
  const run = journal.begin()
  const paths = [join(copies, '*-cert.pub'), join(dropIns, '40-hostcertd.conf')]
  const states = [{ path: copy, state: await readFileState(copy) }]
  await run.make({ kind: 'copies', step: 'copies', paths, before: states, state: null })
  await run.finish()
  const helper = await fs.readFile(new URL('../../systemd/reload-helper', import.meta.url), 'utf8')
  const inWork = new Set([...helper.matchAll(/\$work\/([\w.-]+)/g)].map(([, name = '']) => name))
  expect(inWork.size).toBeGreaterThan(2)
  expect(helper).toContain('mktemp -d "$copies/.install.XXXXXX"')
  expect(helper).toContain('kept=/etc/ssh/sshd_config.d/.40-hostcertd.conf.before')
  await fs.mkdir(join(copies, '.install.aB3dE9'))
  for (const name of inWork) await fs.writeFile(join(copies, '.install.aB3dE9', name), 'x\n')
  await fs.writeFile(join(copies, '.install.tHeir5', 'public'), 'x\n')
  await fs.writeFile(join(copies, '.a-cert.pub.hostcertd-0123456789ab.tmp'), 'x\n')
  await fs.writeFile(join(dropIns, '.40-hostcertd.conf.before'), '')
  expect((await journal.undoAll()).left).toEqual([])
  expect(await host.snapshot()).toEqual(before)
})

test.each([
  { isEnabled: false, isActive: false, made: ['enable --now U'], undone: ['disable --now U'] },
  { isEnabled: true, isActive: false, made: ['enable --now U'], undone: ['stop U'] },
  { isEnabled: true, isActive: true, made: ['reload-or-restart U'], undone: ['reload-or-restart U'] },
  {
    isEnabled: false,
    isActive: true,
    made: ['enable U', 'reload-or-restart U'],
    undone: ['disable U', 'reload-or-restart U'],
  },
])('a service: enabled $isEnabled, active $isActive', async ({ made, undone, ...before }) => {
  const order: string[] = []
  const performers = {
    systemctl: async (args: readonly string[]) => {
      const isRestored = (await fs.readFile(config, 'utf8')) === SSHD_CONFIG
      order.push(`${args.join(' ')}${isRestored ? '' : ' *'}`)
      return { status: 0, failure: null, stderr: '' }
    },
  }
  await using journal = await openJournal({ folder: host.state, performers })
  const run = journal.begin()
  await run.make({ kind: 'service', step: 's', unit: 'U', before })
  await run.make(fileChange(config, await readFileState(config), NEW))
  // Later runs see the service active; it is as before the first that counts.
  await run.make({ kind: 'service', step: 's', unit: 'U', before: { isEnabled: true, isActive: true } })
  const { left } = await journal.undoUnfinished()
  // A service is stopped before its files go, and reloaded when they are restored.
  const ends = before.isActive ? undone : undone.map((call) => `${call} *`)
  expect(order).toEqual([...made, 'reload-or-restart U *', 'stop U *', ...ends])
  expect(left).toEqual([])
})

const ENROLLED = { ActiveState: 'active', UnitFileState: 'enabled' }

test.each([
  { was: 'off', now: ENROLLED, undone: ['stop U', 'disable --now U'] },
  { was: 'off', now: { ...ENROLLED, UnitFileState: 'disabled' }, undone: ['stop U', 'stop U'] },
  { was: 'off', now: { ActiveState: 'inactive', UnitFileState: 'masked' }, undone: ['stop U', 'stop U'] },
  { was: 'on', now: ENROLLED, undone: ['stop U', 'reload-or-restart U'] },
  { was: 'on', now: { ...ENROLLED, ActiveState: 'failed' }, undone: ['stop U', 'reload-or-restart U'] },
  { was: 'on', now: { ...ENROLLED, ActiveState: 'inactive' }, undone: ['stop U'] },
  { was: 'on', now: { ActiveState: 'inactive', UnitFileState: 'masked' }, undone: ['stop U'] },
  // Not known, as with a unit that is not there.
  {
    was: 'on',
    now: { ActiveState: 'inactive', UnitFileState: '' },
    undone: ['stop U', 'reload-or-restart U'],
  },
])('a service that was $was, and is now $now', async ({ was, now, undone }) => {
  const isOn = was === 'on'
  let calls: string[] = []
  let isKilled = true
  const performers = {
    systemctl: async (args: readonly string[]) => {
      const stdout = Object.entries(now).map((property) => `${property.join('=')}\n`)
      if (args[0] === 'show') return { status: 0, failure: null, stderr: '', stdout: stdout.join('') }
      calls.push(args.join(' '))
      if (isKilled && args[0] === 'stop') now = { ...now, ActiveState: 'inactive' }
      return { status: isKilled && calls.length > 1 ? 1 : 0, failure: null, stderr: '' }
    },
  }
  {
    await using journal = await openJournal({ folder: host.state, performers })
    const run = journal.begin()
    await run.make({
      kind: 'service',
      step: 's',
      unit: 'U',
      before: { isEnabled: isOn, isActive: isOn },
    })
    await run.finish()
    calls = []
    await journal.undoAll()
  }
  // What the interrupted call stopped, nobody else did.
  expect(calls).toEqual(undone)
  isKilled = false
  calls = []
  await using journal = await openJournal({ folder: host.state, performers })
  const isLeft = journal.runs.length > 0
  expect((await journal.undoUnfinished()).left).toEqual([])
  expect(calls).toEqual(isLeft ? undone : [])
  expect(isLeft).toBe(undone.length > 1)
})

test('sshd is reloaded once, after all files are as before, and again by the next call if that failed', async () => {
  const seen: boolean[] = []
  let problem: string | null = 'sshd -t fails'
  const performers = {
    reloadSshd: async () => {
      seen.push((await fs.readFile(config, 'utf8')) === SSHD_CONFIG)
      return problem
    },
  }
  const sshd = { kind: 'sshd', step: 'reload sshd' } as const
  {
    await using journal = await openJournal({ folder: host.state, performers })
    for (const content of ['one', 'two']) {
      const run = journal.begin()
      await run.make(sshd)
      await run.make(fileChange(config, await readFileState(config), fileState(content, 0o600)))
      await run.finish()
    }
    expect((await journal.undoAll()).left).toEqual([{ path: 'sshd', why: problem }])
  }
  problem = null
  await using journal = await openJournal({ folder: host.state, performers })
  expect((await journal.undoAll()).left).toEqual([])
  expect(seen).toEqual([true, true])
  expect(journal.runs).toEqual([])
})

test('copies are removed under the lock of sshd, or by the next call when that is busy', async () => {
  const copies = join(host.etc, 'ssh', 'hostcertd')
  const copy = join(copies, 'ssh_host_ed25519_key-cert.pub')
  const isThere = (): boolean => existsSync(copy)
  const seen: (boolean | string)[] = []
  let busy: string | null = 'another process holds it'
  const performers = {
    systemctl: async () => ({ status: 0, failure: null, stderr: '' }),
    lockSshd: async () => {
      if (busy !== null) throw new Error(busy)
      seen.push('locked', isThere())
      return async () => void seen.push('released', isThere())
    },
  }
  await using journal = await openJournal({ folder: host.state, performers })
  const run = journal.begin()
  const paths = [join(copies, '*-cert.pub')]
  await run.make({ kind: 'copies', step: 'copies', paths, before: [], state: null })
  await fs.mkdir(copies)
  await fs.writeFile(copy, 'certificate\n')
  await run.finish()
  expect((await journal.undoAll()).left).toEqual([{ path: paths[0], why: busy }])
  expect(isThere()).toBe(true)
  busy = null
  expect((await journal.undoAll()).left).toEqual([])
  expect(seen).toEqual(['locked', true, 'released', false])
})

test('a signal ends the wait for the lock of sshd, but for that of an undoing', async () => {
  const ending = new AbortController()
  const waits: string[] = []
  const lockSshd = async (signal: AbortSignal | null) => {
    waits.push(signal === null ? 'to its end' : 'until the signal')
    if (signal === null) return async () => {}
    ending.abort(new Error('ended by SIGTERM'))
    signal.throwIfAborted()
    throw new Error('it is busy')
  }
  await using journal = await openJournal({
    folder: host.state,
    performers: { lockSshd },
    signal: ending.signal,
  })
  // It is never written, and could not be.
  const made = journal.begin().make(fileChange('/etc/ssh/no-such-folder/hostcertd-test', null, NEW))
  await expect(made).rejects.toThrow(/^ended by SIGTERM$/)
  expect((await journal.undoUnfinished()).left).toEqual([])
  expect(waits).toEqual(['until the signal', 'to its end'])
})

test('a service that does not start is an error with what systemctl said', async () => {
  const systemctl = () => Promise.resolve({ status: 1, failure: null, stderr: 'Job failed\n' })
  const performers = { systemctl }
  await using journal = await openJournal({ folder: host.state, performers })
  const before = { isEnabled: false, isActive: false }
  const made = journal.begin().make({ kind: 'service', step: 's', unit: 'U', before })
  await expect(made).rejects.toThrow(
    'cannot start U: systemctl enable --now U ended with status 1: Job failed',
  )
  expect((await journal.undoUnfinished()).left).toEqual([
    { path: 'U', why: 'systemctl disable --now U ended with status 1: Job failed' },
  ])
})

test('a journal that another user owns is refused', needsRoot, async () => {
  {
    await using journal = await host.open()
    await enroll(host, journal)
  }
  await fs.chown(host.journal, 7, 0)
  await expect(host.open()).rejects.toThrow('others may write to it')
  await fs.chown(host.journal, 0, 0)
  expect((await unenroll(host)).left).toEqual([])
})

test('what is to be kept stays in the journal, and is undone when it is no longer', async () => {
  const before = await host.snapshot()
  await using journal = await host.open()
  await enroll(host, journal)
  const isSecret = (change: { readonly kind: string; readonly isSecret?: boolean }): boolean =>
    change.isSecret === true
  await journal.undoAll(isSecret)
  expect(journal.runs.flatMap(({ changes }) => changes.map(({ step }) => step))).toHaveLength(1)
  expect(await fs.readFile(join(host.etc, 'hostcertd', 'credentials', 'secret'), 'utf8')).toBe('hunter2')
  await journal.undoAll()
  await expectAsBefore(host, before, 'at the end')
})

test('what is to be kept of an interrupted run stays as well, whatever the next call undoes', async () => {
  {
    await using journal = await host.open()
    const run = journal.begin()
    await run.make(fileChange(config, await readFileState(config), NEW))
    const path = join(host.etc, 'kept')
    await run.make({ ...fileChange(path, null, fileState('kept', 0o600)), isSecret: true })
  }
  await using journal = await host.open()
  await journal.undoAll((change) => change.kind === 'file' && change.isSecret)
  expect(journal.runs.map(({ isFinished, changes }) => [isFinished, changes.length])).toEqual([[true, 1]])
  expect((await journal.undoUnfinished()).changes).toEqual([])
  expect(await fs.readFile(join(host.etc, 'kept'), 'utf8')).toBe('kept')
  expect(await fs.readFile(config, 'utf8')).toBe(SSHD_CONFIG)
})

test('ca refresh does not run while an interrupted call is not undone', async () => {
  const opened = async () => openFinishedJournal(new AbortController().signal, host.state)
  {
    await using journal = await host.open()
    const run = journal.begin()
    await run.make(fileChange(config, await readFileState(config), NEW))
  }
  await expect(opened()).rejects.toThrow('an enroll or unenroll is not finished')
  {
    await using journal = await host.open()
    await journal.undoUnfinished()
  }
  await using journal = await opened()
  expect(journal.runs).toEqual([])
})

test('of a credential only a digest is kept once the run is finished, and it is taken back nevertheless', async () => {
  const path = join(host.etc, 'hostcertd', 'credentials', 'secret')
  const before = await host.snapshot()
  const write = async (journal: Journal, text: string): Promise<void> => {
    const change = fileChange(path, await readFileState(path), fileState(text, 0o600))
    const run = journal.begin()
    await run.make({ ...change, isSecret: true, isCredential: true })
    expect(await journalText()).toContain(base64Of(text))
    await run.finish()
  }
  const journalText = () => fs.readFile(host.journal, 'utf8')
  {
    await using journal = await host.open()
    for (const secret of ['first secret', 'second secret', 'third secret']) await write(journal, secret)
    expect(await journalText()).not.toMatch(
      new RegExp(['first', 'second', 'third'].map((word) => base64Of(`${word} secret`)).join('|')),
    )
    // By hand, so that it is not enroll's.
    await fs.writeFile(path, 'by hand')
    await write(journal, 'fourth secret')
    expect(await journalText()).toContain(base64Of('by hand'))
    expect(await journalText()).not.toContain(base64Of('fourth secret'))
  }
  {
    await using journal = await host.open()
    const { left } = await journal.undoAll()
    expect(left).toEqual([{ path, why: 'it was replaced since' }])
  }
  expect(await fs.readFile(path, 'utf8')).toBe('by hand')
  await fs.rm(join(host.etc, 'hostcertd'), { recursive: true })
  await using journal = await host.open()
  await write(journal, 'first secret')
  await write(journal, 'second secret')
  expect((await journal.undoAll()).left).toEqual([])
  await expectAsBefore(host, before, 'at the end')
})

test('only credentials need a folder that nobody else may read', async () => {
  const modeOf = async (folder: string): Promise<number> => (await fs.stat(folder)).mode & 0o7777
  const path = join(host.etc, 'default', 'hostcertd')
  await using journal = await host.open()
  const change = { ...fileChange(path, null, fileState('HTTPS_PROXY=x', 0o600)), isSecret: true }
  await journal.begin().make(change)
  expect(await modeOf(join(host.etc, 'default'))).toBe(0o755)
  await journal.undoUnfinished()
  const credential = { ...change, path: join(host.etc, 'credentials', 'token'), isCredential: true }
  await journal.begin().make(credential)
  expect(await modeOf(join(host.etc, 'credentials'))).toBe(0o700)
})

function base64Of(text: string): string {
  return Buffer.from(text).toString('base64')
}

test('a credential that was there before enroll is put back, whatever enroll stored since', async () => {
  const path = join(host.etc, 'ssh', 'secret')
  await fs.writeFile(path, 'theirs', { mode: 0o600 })
  const before = await host.snapshot()
  await using journal = await host.open()
  for (const text of ['one', 'two']) {
    const run = journal.begin()
    const change = fileChange(path, await readFileState(path), fileState(text, 0o600))
    await run.make({ ...change, isSecret: true, isCredential: true })
    await run.finish()
  }
  expect(journal.runs).toHaveLength(1)
  expect((await journal.undoAll()).left).toEqual([])
  expect(await host.snapshot()).toEqual(before)
})

const lines = fc.array(fc.constantFrom('', 'a', 'b', 'Match all', 'é'), { maxLength: 6 })
const content = fc.option(
  lines.map((texts) => texts.map((text) => `${text}\n`).join('')),
  { nil: null },
)

test(
  'random runs, interruptions and later edits: no line of others is lost, and without edits all is as before',
  SLOW,
  async () => {
    const names = ['one', 'two']
    const property = fc.asyncProperty(
      fc.array(fc.array(fc.record({ name: fc.constantFrom(...names), to: content }), { maxLength: 4 }), {
        maxLength: 3,
      }),
      fc.array(fc.record({ name: fc.constantFrom(...names), at: fc.nat(8), mine: fc.nat(1) }), {
        maxLength: 2,
      }),
      fc.nat(60),
      async (runs, later, stopAt) => {
        await using one = await makeSmallHost()
        const at = (name: string): string => join(one.etc, 'ssh', name)
        await fs.writeFile(at('one'), 'a\nb\n')
        const before = await one.snapshot()
        {
          await using journal = await one.open()
          for (const changes of runs) {
            const run = journal.begin()
            for (const { name, to } of changes) {
              const now = await readFileState(at(name))
              const after = to === null ? null : fileState(to)
              await run.make(fileChange(at(name), now, after))
            }
            await run.finish()
          }
        }
        const mine: { name: string; line: string }[] = []
        for (const [index, edit] of later.entries()) {
          const line = `# mine ${index}`
          const text = await fs.readFile(at(edit.name), 'utf8').catch(() => '')
          const texts = text.split('\n')
          texts.splice(edit.at % texts.length, edit.mine, line)
          await fs.writeFile(at(edit.name), `${texts.join('\n')}\n`)
          mine.push({ name: edit.name, line })
        }
        const faulty = faultyOperations({ kind: 'stop', at: stopAt, isDone: true })
        {
          await using journal = await one.open(faulty)
          await Promise.race([faulty.stopped, journal.undoAll()])
        }
        const { left } = await unenroll(one)
        for (const { name, line } of mine) {
          // An edit may have replaced the line of the edit before it.
          if (later.length > 1 && line === '# mine 0') continue
          expect((await fs.readFile(at(name), 'utf8')).split('\n')).toContain(line)
        }
        const isUndone = left.length === 0 && isDeepStrictEqual(await one.snapshot(), before)
        expect(isUndone || later.length > 0).toBe(true)
      },
    )
    await fc.assert(property, { numRuns: 40 })
  },
)

test('what the service keeps for another host is removed while it is stopped, and put back when that is undone', async () => {
  const unit = 'hostcertd.service'
  const kept = join(host.kept, 'certs', 'old')
  const change = {
    kind: 'service',
    step: 'replace',
    unit,
    before: { isEnabled: true, isActive: true },
    replaced: { folder: host.kept, files: [{ path: 'certs/old', text: 'old\n' }] },
  } as const
  {
    await using journal = await host.open()
    await journal.begin().make(change)
    expect(await fs.readdir(join(host.kept, 'certs'))).toEqual([])
    expect(host.service.calls).toEqual([`stop ${unit}`, `start ${unit}`, `reload-or-restart ${unit}`])
    await fs.writeFile(kept, 'new\n')
  }
  host.service.calls.length = 0
  await using journal = await host.open()
  expect((await journal.undoUnfinished()).left).toEqual([])
  expect(await fs.readFile(kept, 'utf8')).toBe('old\n')
  expect(host.service.calls).toEqual([`stop ${unit}`, `reload-or-restart ${unit}`])
})
