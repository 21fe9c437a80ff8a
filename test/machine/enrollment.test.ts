import { execFileSync } from 'node:child_process'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  createEnrolledMachine,
  type Enrollment,
  enrollmentText,
  judgeCopied,
  type MachineIdentity,
  readEnrollment,
  readMachineIdentity,
} from '../../agent/host/enrollment.ts'
import { RecordingLog } from '../fakes/recording-log.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

const MACHINE = 'a'.repeat(32)
const OTHER = 'b'.repeat(32)
const ENROLLMENT_FOLDER = 'var/lib/hostcertd-enroll'
const MACHINE_ID = 'etc/machine-id'
const CLOUD_INIT = 'var/lib/cloud/data/instance-id'
const BOARD = 'sys/class/dmi/id/board_asset_tag'

function identity(
  machine: string | null,
  cloudInit: string | null = null,
  board: string | null = null,
): MachineIdentity {
  return { machine_id: machine, instance_id: { cloud_init: cloudInit, board_asset_tag: board } }
}

function enrollmentOf(machine: MachineIdentity): Enrollment {
  return {
    version: 1,
    ...machine,
    host_keys: ['SHA256:abc'],
    enrolled_at: '2026-11-23T12:00:00Z',
    enrolled_by: 'first boot',
    hostcertd: '0.2.0',
    host_id: '8c1efcfc-434c-4c43-80e3-53c9eae6672a',
    hostname: 'web1.example.com',
    ephemeral: false,
  }
}

describe('the judgement', () => {
  test.each<{
    name: string
    recorded: MachineIdentity
    now: MachineIdentity
    want: string | false | null
  }>([
    { name: 'the same machine-id', recorded: identity(MACHINE), now: identity(MACHINE), want: false },
    {
      name: 'another machine-id',
      recorded: identity(MACHINE),
      now: identity(OTHER),
      want: 'its machine-id differs',
    },
    { name: 'none now', recorded: identity(MACHINE, 'i-1'), now: identity(null), want: null },
    { name: 'none then', recorded: identity(null), now: identity(OTHER, 'i-1'), want: null },
    {
      name: 'the same machine-id, no instance id now',
      recorded: identity(MACHINE, 'i-1'),
      now: identity(MACHINE),
      want: false,
    },
    {
      name: 'the same machine-id, another instance id',
      recorded: identity(MACHINE, 'i-1'),
      now: identity(MACHINE, 'i-2'),
      want: "the platform's instance id differs",
    },
    {
      name: 'another machine-id, the same instance id',
      recorded: identity(MACHINE, 'i-1'),
      now: identity(OTHER, 'i-1'),
      want: 'its machine-id differs',
    },
    {
      name: 'no machine-id, another instance id in DMI alone',
      recorded: identity(null, 'i-1', 'i-1'),
      now: identity(null, 'i-1', 'i-2'),
      want: "the platform's instance id differs",
    },
    {
      name: 'all differ',
      recorded: identity(MACHINE, 'i-1', 'i-1'),
      now: identity(OTHER, 'i-2', 'i-2'),
      want: "its machine-id and the platform's instance id differ",
    },
    {
      name: 'instance ids from two sources are not compared',
      recorded: identity(null, 'i-1', null),
      now: identity(null, null, 'i-2'),
      want: null,
    },
  ])('$name', ({ recorded, now, want }) => {
    const message = `this machine was copied after it was enrolled: ${want}`
    expect(judgeCopied(recorded, now)).toEqual(
      typeof want === 'string' ? { code: 'MACHINE_COPIED', message } : want,
    )
  })
})

describe('on a machine', () => {
  let folder: TemporaryFolder
  let log: RecordingLog
  beforeEach(async () => {
    folder = await makeTemporaryFolder()
    log = new RecordingLog()
  })
  afterEach(() => folder.remove())

  async function write(path: string, text: string): Promise<void> {
    const file = join(folder.path, path)
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, text)
  }
  const enroll = async (machine: MachineIdentity): Promise<void> =>
    write(join(ENROLLMENT_FOLDER, 'enrollment.json'), enrollmentText(enrollmentOf(machine)))
  const enrolledMachine = () => createEnrolledMachine({ log, root: folder.path })

  test.each<{ path: string; text: string; want: string | null }>([
    { path: MACHINE_ID, text: `${MACHINE}\n`, want: MACHINE },
    { path: MACHINE_ID, text: `${MACHINE.toUpperCase()}\n`, want: MACHINE },
    { path: MACHINE_ID, text: 'uninitialized\n', want: null },
    { path: MACHINE_ID, text: '', want: null },
    { path: MACHINE_ID, text: `${'0'.repeat(32)}\n`, want: null },
    { path: MACHINE_ID, text: `${MACHINE}0\n`, want: null },
    { path: MACHINE_ID, text: `${MACHINE}\n`.repeat(4000), want: null },
    { path: CLOUD_INIT, text: 'i-0abc\n', want: 'i-0abc' },
    {
      path: CLOUD_INIT,
      text: 'EC2A1B3C-0000-4000-8000-000000000001\n',
      want: 'ec2a1b3c-0000-4000-8000-000000000001',
    },
    { path: CLOUD_INIT, text: 'iid-datasource-none\n', want: null },
    { path: CLOUD_INIT, text: 'iid-dsconfigdrive\n', want: null },
    { path: CLOUD_INIT, text: 'nocloud\n', want: null },
    { path: CLOUD_INIT, text: 'None\n', want: null },
    { path: CLOUD_INIT, text: '\n', want: null },
    { path: CLOUD_INIT, text: '00000000-0000-0000-0000-000000000000\n', want: null },
    { path: CLOUD_INIT, text: 'i-1\ni-2\n', want: null },
    { path: CLOUD_INIT, text: `i-1\u001B[31m\n`, want: null },
    { path: CLOUD_INIT, text: 'x'.repeat(257), want: null },
    { path: BOARD, text: 'i-0123456789abcdef0\n', want: 'i-0123456789abcdef0' },
    { path: BOARD, text: 'Not Specified\n', want: null },
    { path: BOARD, text: 'To be filled by O.E.M.\n', want: null },
    { path: BOARD, text: 'inventory 4711\n', want: null },
  ])('$path with $text: $want', async ({ path, text, want }) => {
    await write(path, text)
    const { machine_id, instance_id } = await readMachineIdentity(folder.path)
    const { cloud_init, board_asset_tag } = instance_id
    const at = new Map([
      [MACHINE_ID, machine_id],
      [CLOUD_INIT, cloud_init],
      [BOARD, board_asset_tag],
    ])
    expect(at.get(path)).toBe(want)
    expect([machine_id, ...Object.values(instance_id)].filter((one) => one !== null)).toHaveLength(
      want === null ? 0 : 1,
    )
  })

  test('without files there is no identity, and a FIFO is not waited for', async () => {
    await mkdir(join(folder.path, 'etc'))
    execFileSync('mkfifo', [join(folder.path, MACHINE_ID)])
    expect(await readMachineIdentity(folder.path)).toEqual(identity(null))
  })

  test('what is written is read again', async () => {
    const enrollment = enrollmentOf(identity(MACHINE, 'i-1'))
    const path = join(folder.path, ENROLLMENT_FOLDER, 'enrollment.json')
    await enroll(enrollment)
    expect(await readEnrollment(path)).toEqual(enrollment)
    expect(await readFile(path, 'utf8')).toBe(enrollmentText(enrollment))
  })

  test('a copy is noticed, accepted, and becomes a copy again, each at the next look', async () => {
    const machine = enrolledMachine()
    await write(MACHINE_ID, `${MACHINE}\n`)
    expect(await machine.copied()).toBeNull()
    await enroll(await readMachineIdentity(folder.path))
    expect(await machine.copied()).toBe(false)
    await write(MACHINE_ID, `${OTHER}\n`)
    expect(await machine.copied()).toMatchObject({ code: 'MACHINE_COPIED' })
    await enroll(await readMachineIdentity(folder.path))
    expect(await machine.copied()).toBe(false)
    await write(CLOUD_INIT, 'i-new\n')
    expect(await machine.copied()).toBe(false)
    await rm(join(folder.path, MACHINE_ID))
    expect(await machine.copied()).toBeNull()
    expect(log.lines).toEqual([])
  })

  test.each<{ name: string; text: string; says: string }>([
    { name: 'no JSON', text: '{', says: 'the JSON is not valid' },
    { name: 'empty', text: '', says: 'the JSON is not valid' },
    { name: 'not an object', text: 'null', says: 'the document is not valid' },
    {
      name: 'of another version',
      text: enrollmentText(enrollmentOf(identity(MACHINE))).replace('"version": 1', '"version": 2'),
      says: 'version is not valid',
    },
    {
      name: 'with another type',
      text: enrollmentText(enrollmentOf(identity(MACHINE))).replace(`"${MACHINE}"`, '7'),
      says: 'machine_id is not valid',
    },
    {
      name: 'with a control character',
      text: enrollmentText(enrollmentOf(identity(MACHINE))).replace('web1', String.raw`\u001b[2J`),
      says: 'hostname is not valid',
    },
    { name: 'large', text: ' '.repeat(70_000), says: 'larger than 64 KiB' },
  ])('a damaged file ($name) decides nothing, and is logged once', async ({ text, says }) => {
    await write(MACHINE_ID, `${OTHER}\n`)
    await write(join(ENROLLMENT_FOLDER, 'enrollment.json'), text)
    const machine = enrolledMachine()
    expect(await machine.copied()).toBeNull()
    expect(await machine.copied()).toBeNull()
    expect(log.lines.map(({ level, message }) => `${level} ${message}`)).toEqual([
      expect.stringMatching(
        new RegExp(`^warn .*enrollment\\.json.*${says}; whether this machine was copied is unknown$`),
      ),
    ])
    await enroll(identity(MACHINE))
    expect(await machine.copied()).toMatchObject({ code: 'MACHINE_COPIED' })
    await write(join(ENROLLMENT_FOLDER, 'enrollment.json'), text)
    await machine.copied()
    expect(log.lines).toHaveLength(2)
  })

  test('fields of a later version are ignored', async () => {
    await write(MACHINE_ID, `${MACHINE}\n`)
    const more = { ...enrollmentOf(identity(MACHINE)), later: true }
    await write(join(ENROLLMENT_FOLDER, 'enrollment.json'), JSON.stringify(more))
    expect(await enrolledMachine().copied()).toBe(false)
  })
})
