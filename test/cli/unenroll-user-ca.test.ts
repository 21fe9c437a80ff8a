import { existsSync } from 'node:fs'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Change, FileChange } from '../../agent/enroll/change.ts'
import { textOfRuns } from '../../agent/enroll/journal-format.ts'
import { userCaDropIn } from '../../agent/enroll/user-ca-files.ts'
import { USER_CA_PLACES } from '../../agent/enroll/user-ca-in-place.ts'
import { userCaText } from '../../agent/enroll/user-ca.ts'
import { canRun, endOf, makeMachine } from './enroll-machine.ts'

const says = (line: string): string => expect.stringContaining(line) as string
const DROP_IN = userCaDropIn(USER_CA_PLACES)
/** Of one CA or the other: only who wrote it matters here. */
const keysOf = (cas: string): string => `${userCaText([])}# ${cas}\n`
const stateOf = (content: string, mode = 0o644) => ({ content: Buffer.from(content), mode, uid: 0, gid: 0 })
type State = ReturnType<typeof stateOf> | null

/** Of a file that a run of the journal has. */
function changed(path: string, before: State, after: State): FileChange {
  const change = { kind: 'file', step: 'as enroll does', path, before, after, isSecret: false } as const
  return path === USER_CA_PLACES.dropIn ? change : { ...change, isOwn: true }
}

/** The three files of the user CAs on a machine whose sshd nobody reloads; null: it is not there. */
async function withUserCa(
  files: { readonly keys: string | null; readonly dropIn: string | null },
  journal: readonly Change[] = [],
) {
  const machine = await makeMachine()
  await writeFile(machine.path('etc/hostcertd/conf.d/reload.yaml'), 'sshd: {reload: never}\n')
  const inFile = { [PATHS.keys]: files.keys, [PATHS.dropIn]: files.dropIn, [PATHS.status]: 'any\n' }
  for (const [name, text] of Object.entries(inFile)) {
    await mkdir(dirname(machine.path(name)), { recursive: true })
    if (text !== null) await writeFile(machine.path(name), text)
  }
  if (journal.length > 0) {
    const entries = journal.map((change) => ({ change, folders: [], merge: null }))
    const text = textOfRuns([{ isFinished: true, entries }])
    await writeFile(machine.path('lib/hostcertd-enroll/journal.json'), text, { mode: 0o600 })
  }
  return {
    machine,
    unenroll: async (...options: readonly string[]) => endOf(machine.run('unenroll', ...options)),
    there: () => Object.keys(inFile).filter((name) => existsSync(machine.path(name))),
    [Symbol.asyncDispose]: async () => machine[Symbol.asyncDispose](),
  }
}

const PATHS = {
  keys: 'etc/ssh/hostcertd/user-ca.pub',
  dropIn: 'etc/ssh/sshd_config.d/41-hostcertd-user-ca.conf',
  status: 'lib/hostcertd-enroll/ca-status.json',
} as const

describe('unenroll takes back a user CA that its journal does not know', () => {
  const { file, dropIn } = USER_CA_PLACES
  const older = changed(file, stateOf(keysOf('a CA that was revoked since')), stateOf(keysOf('both')))
  test.each<{ title: string; journal: readonly FileChange[] }>([
    { title: 'no run has it, as of ca refresh', journal: [] },
    { title: 'a later run knew the keys only as they were then', journal: [older] },
    {
      title: 'a later run corrected the mode of the drop-in',
      journal: [older, changed(dropIn, stateOf(DROP_IN, 0o600), stateOf(DROP_IN))],
    },
  ])('$title', canRun, async ({ journal }) => {
    await using host = await withUserCa({ keys: keysOf('both'), dropIn: DROP_IN }, journal)
    const kept = await host.unenroll('--yes', '--keep-user-ca')
    expect(kept).toMatchObject({ status: 0 })
    expect(await host.unenroll('--check')).toMatchObject({ status: 2 })
    expect(host.there()).toEqual([PATHS.keys, PATHS.dropIn, PATHS.status])
    const asked = expect.stringContaining('logins by user certificate end') as string
    expect(await host.unenroll('--yes')).toEqual({ status: 1, stderr: asked })
    expect(host.there()).toEqual([PATHS.keys])
    // sshd was reloaded by hand.
    expect(await host.unenroll('--yes')).toMatchObject({ status: 0 })
    expect(host.there()).toEqual([])
    expect(existsSync(host.machine.path('etc/ssh/hostcertd'))).toBe(false)
    expect(await host.machine.journal()).toEqual([])
    expect(await host.unenroll('--check')).toMatchObject({ status: 0 })
  })

  test('keys without a drop-in, of a refresh that was cut off', canRun, async () => {
    await using host = await withUserCa({ keys: keysOf('one'), dropIn: null })
    expect(await host.unenroll('--yes')).toMatchObject({ status: 0 })
    expect(host.there()).toEqual([])
    expect(await host.unenroll('--check')).toMatchObject({ status: 0 })
  })

  test('keys that a line of somebody else names stay, and the line is named', canRun, async () => {
    await using host = await withUserCa({ keys: keysOf('one'), dropIn: null })
    await writeFile(host.machine.path('etc/ssh/sshd_config'), `Match User x\nTrustedUserCAKeys ${file}\n`)
    const { status, stderr } = await host.unenroll('--yes')
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: expect.stringMatching(
        /^note: .*sshd_config.* was not written by hostcertd and stays: /,
      ) as string,
    })
    expect(host.there()).toEqual([PATHS.keys, PATHS.status])
  })

  test.each([
    { main: 'user_ca: {}\n', other: '', who: 'hostcertd-ca.timer, if it is enabled,' },
    { main: null, other: 'issuer: {ssh_host_id: x}\n', who: 'hostcertd-ca.timer, if it is enabled,' },
    { main: null, other: '', who: 'the next enroll' },
  ])('what puts it back is named: $who', canRun, async ({ main, other, who }) => {
    await using host = await withUserCa({ keys: keysOf('one'), dropIn: DROP_IN })
    await writeFile(
      host.machine.path('etc/hostcertd/conf.d/user-ca.yaml'),
      `user_ca: {install: true}\n${other}`,
    )
    if (main !== null) await writeFile(host.machine.path('etc/hostcertd/hostcertd.yaml'), main)
    const { stderr } = await host.unenroll('--yes')
    expect(stderr).toContain(
      `note: user_ca.install is still true in /etc/hostcertd/conf.d/user-ca.yaml: ${who} puts the user CA back\n`,
    )
  })

  test.each([
    { title: 'the drop-in is somebody’s own', keys: keysOf('one'), dropIn: `TrustedUserCAKeys ${file}\n` },
    { title: 'the keys are somebody’s own', keys: 'ssh-ed25519 AAAA\n', dropIn: null },
  ])('but nothing that others wrote: $title', canRun, async ({ keys, dropIn: text }) => {
    await using host = await withUserCa({ keys, dropIn: text })
    const before = host.there()
    expect(await host.unenroll('--check')).toMatchObject({ status: 0 })
    expect(await host.unenroll('--yes')).toMatchObject({ status: 0, stderr: says('nothing of enroll') })
    expect(host.there()).toEqual(before)
  })

  test('a drop-in that somebody took over since stays, and is named', canRun, async () => {
    const theirs = 'TrustedUserCAKeys /etc/ssh/ours.pub\n'
    await using host = await withUserCa({ keys: keysOf('one'), dropIn: theirs }, [
      changed(file, null, stateOf(keysOf('one'))),
      changed(dropIn, null, stateOf(DROP_IN)),
    ])
    const { status, stderr } = await host.unenroll('--yes')
    expect({ status, stderr }).toEqual({ status: 1, stderr: says(`not taken back: ${dropIn}: `) })
    expect(await readFile(host.machine.path(PATHS.dropIn), 'utf8')).toBe(theirs)
  })

  test('what cannot be read is named, and the rest is taken back', canRun, async () => {
    const other = changed('/etc/hostcertd/x', null, stateOf('x'))
    await using host = await withUserCa({ keys: keysOf('one'), dropIn: null }, [other])
    await writeFile(host.machine.path('etc/hostcertd/x'), 'x')
    await symlink('elsewhere', host.machine.path(PATHS.dropIn))
    expect(await host.unenroll('--yes')).toEqual({ status: 1, stderr: says(`not taken back: ${dropIn}: `) })
    expect(existsSync(host.machine.path('etc/hostcertd/x'))).toBe(false)
    expect(await host.unenroll('--check')).toEqual({ status: 1, stderr: says(`not taken back: ${dropIn}: `) })
    expect(host.there()).toEqual([PATHS.keys, PATHS.status])
  })
})

test('what --keep-user-ca left is taken back by a later call, which reloads sshd', canRun, async () => {
  const { file, dropIn } = USER_CA_PLACES
  const main = 'etc/ssh/sshd_config'
  const [old, now] = ['TrustedUserCAKeys /old\n', '# none\n']
  await using host = await withUserCa({ keys: keysOf('one'), dropIn: DROP_IN }, [
    { kind: 'sshd', step: 'reload sshd' },
    changed(file, null, stateOf(keysOf('one'))),
    changed(dropIn, null, stateOf(DROP_IN)),
    changed(`/${main}`, stateOf(old), stateOf(now)),
  ])
  await writeFile(host.machine.path(main), now)
  expect(await host.unenroll('--yes', '--keep-user-ca')).toMatchObject({ status: 0 })
  expect(await host.unenroll('--check', '--keep-user-ca')).toMatchObject({ status: 0 })
  expect(await readFile(host.machine.path(main), 'utf8')).toBe(now)
  // The keys stay until the running sshd no longer names them, and the old line is in force.
  expect(await host.unenroll('--yes')).toEqual({ status: 1, stderr: says('reload sshd by hand') })
  expect(await readFile(host.machine.path(main), 'utf8')).toBe(old)
  expect(host.there()).toEqual([PATHS.keys, PATHS.status])
  expect(await host.unenroll('--yes')).toMatchObject({ status: 0 })
  expect(host.there()).toEqual([PATHS.status])
  expect(await host.unenroll('--check')).toMatchObject({ status: 0 })
})
