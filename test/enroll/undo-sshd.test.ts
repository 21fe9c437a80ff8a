import { spawn } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { needsRoot } from '../support/skip.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

/** What `undone-in-place.ts` is given. */
export interface Undoing {
  /** Which lock of sshd's configuration another process holds, from 1; 0: none. */
  readonly busyAt: number
  readonly isByHand: boolean
  /** Whether the drop-in was written after sshd_config, as by a second enroll. */
  readonly isDropInNewest: boolean
}

interface Call {
  readonly told: readonly string[]
  /** What there was of the user CAs at each reload. */
  readonly reloads: readonly string[]
  /** The same in the end: `old, 41, keys`. */
  readonly after: string
}

export interface UndoneInPlace {
  readonly first: Call
  readonly second: Call
}

const ENTER = 'mount --bind "$0/etc" /etc && mount --bind "$0/lib" /var/lib && exec "$@"'
const PROGRAM = fileURLToPath(new URL('undone-in-place.ts', import.meta.url))
const KEYS = '/etc/ssh/hostcertd/user-ca.pub'
const DROP_IN = '/etc/ssh/sshd_config.d/41-hostcertd-user-ca.conf'
const MAIN = '/etc/ssh/sshd_config'

async function undone(wish: Partial<Undoing>): Promise<UndoneInPlace> {
  await using folder = await makeTemporaryFolder()
  for (const name of ['etc/ssh', 'lib']) await mkdir(join(folder.path, name), { recursive: true })
  const argv = ['-m', 'sh', '-c', ENTER, folder.path, process.execPath, PROGRAM]
  const program = spawn('/usr/bin/unshare', argv, { stdio: ['pipe', 'pipe', 'inherit'] })
  program.stdin.end(JSON.stringify({ busyAt: 0, isByHand: false, isDropInNewest: false, ...wish }))
  return JSON.parse(await text(program.stdout)) as UndoneInPlace
}

const BUSY = 'another process holds it'
const after = (what: string): string => `this is to be undone first: ${what}`

test.each<{ name: string; wish: Partial<Undoing>; left: Record<string, string>; found: string }>([
  {
    name: 'sshd_config',
    wish: { busyAt: 1 },
    left: { [MAIN]: BUSY, [DROP_IN]: after(MAIN), sshd: after(MAIN), [KEYS]: after(MAIN) },
    found: '41, keys',
  },
  {
    name: 'sshd_config, of which a part is as before',
    wish: { busyAt: 2 },
    left: { [MAIN]: BUSY, [DROP_IN]: after(MAIN), sshd: after(MAIN), [KEYS]: after(MAIN) },
    found: 'old, 41, keys',
  },
  {
    name: 'sshd_config, which was changed before the drop-in',
    wish: { busyAt: 1, isDropInNewest: true },
    left: { [MAIN]: BUSY, [DROP_IN]: after(MAIN), sshd: after(MAIN), [KEYS]: after(MAIN) },
    found: '41, keys',
  },
  {
    name: 'the drop-in',
    wish: { busyAt: 3 },
    left: { [DROP_IN]: BUSY, sshd: after(DROP_IN), [KEYS]: after(DROP_IN) },
    found: 'old, 41, keys',
  },
])(
  'when $name cannot be undone, sshd is not reloaded, and there is a user CA for it; the next call goes on',
  needsRoot,
  async ({ wish, left, found }) => {
    const { first, second } = await undone(wish)
    expect(first.told.filter((line) => line.startsWith('not undone: '))).toEqual(
      Object.entries(left).map(([path, why]) => `not undone: ${path}: ${why}`),
    )
    expect({ ...first, told: [] }).toEqual({ told: [], reloads: [], after: found })
    expect(second.told).toEqual([expect.stringMatching(/^undone: it \(.*reload sshd/)])
    expect({ ...second, told: [] }).toEqual({ told: [], reloads: ['old, keys'], after: 'old' })
  },
)

test(
  'when only the file of the user CAs cannot be undone, sshd has been reloaded without it',
  needsRoot,
  async () => {
    const { first, second } = await undone({ busyAt: 4 })
    expect(first.told.at(-1)).toBe(`not undone: ${KEYS}: ${BUSY}`)
    expect({ ...first, told: [] }).toEqual({ told: [], reloads: ['old, keys'], after: 'old, keys' })
    expect(second).toEqual({ told: [`undone: it (write ${KEYS})`], reloads: [], after: 'old' })
  },
)

test(
  'sshd.reload: never: the file of the user CAs stays until the next call, and what is to be done is said',
  needsRoot,
  async () => {
    const { first, second } = await undone({ isByHand: true })
    expect(first).toEqual({
      told: [
        `undone: it (write ${MAIN}, write ${MAIN}, write ${DROP_IN})`,
        `not undone: ${KEYS}: sshd reads it at each login until it is reloaded: reload sshd first, for the next enroll or unenroll removes it`,
        'note: sshd.reload is never: reload sshd by hand; until then it keeps the configuration that was undone',
      ],
      reloads: ['old, keys'],
      after: 'old, keys',
    })
    expect(second).toEqual({ told: [`undone: it (write ${KEYS})`], reloads: [], after: 'old' })
  },
)
