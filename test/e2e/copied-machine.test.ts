import { execFile } from 'node:child_process'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { hostKeyName, isServed, requestsTo, untilReady } from '../support/looks.ts'
import { needsRoot } from '../support/skip.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { makeWorld, type World } from '../support/world.ts'

const PROGRAM = join(import.meta.dirname, '../../dist/hostcertd.js')
const run = promisify(execFile)

/** A folder for /var/lib and a file for /etc/machine-id, which the daemon alone sees, in a mount namespace of its own. */
async function makeMachine() {
  const folder = await makeTemporaryFolder()
  const [varLib, machineIdFile] = [join(folder.path, 'lib'), join(folder.path, 'machine-id')]
  const enrollment = join(varLib, 'hostcertd-enroll/enrollment.json')
  await mkdir(join(varLib, 'hostcertd-enroll'), { recursive: true })
  const mounts = 'mount --bind "$1" /var/lib && mount --bind "$2" /etc/machine-id && shift 2 && exec "$@"'
  const become = async (letter: string): Promise<void> => writeFile(machineIdFile, `${letter.repeat(32)}\n`)
  await become('a')
  return {
    launch: [
      'unshare',
      '--mount',
      'sh',
      '-c',
      mounts,
      'sh',
      varLib,
      machineIdFile,
      process.execPath,
      PROGRAM,
    ],
    /** Have this machine-id. */
    become,
    enroll: async (letter: string): Promise<void> => writeFile(enrollment, enrollmentOf(letter.repeat(32))),
    /** Write what is no enrollment. */
    damage: async (): Promise<void> => writeFile(enrollment, '{"version":1}'),
    [Symbol.asyncDispose]: async () => folder.remove(),
  }
}

test('on_copy: warn, the default', needsRoot, async () => {
  await using machine = await makeMachine()
  await using world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'] }, launch: machine.launch })
  const { agent, issuer } = world
  await machine.enroll('a')
  await agent.start()
  await untilReady(world)
  expect(await agent.status()).toMatchObject({ enrolled: true, machine: { copied: false } })
  expect(await metric(world)).toBe('hostcertd_machine_copied 0')

  await machine.become('b')
  await look(world, true)
  expect(await readyz(world)).toMatchObject([200, { status: 'warn', reason: 'machine-copied' }])
  expect(await metric(world)).toBe('hostcertd_machine_copied 1')
  await look(world, true)
  expect(copiedLines(world)).toEqual([
    'warn this machine was copied after it was enrolled: its machine-id differs',
  ])
  const status = await agent.verb('status')
  expect(status.stdout).toContain('this machine was copied after it was enrolled\n    -> ')
  expect(await agent.verb('check')).toMatchObject({
    status: 0,
    stdout: expect.stringContaining('\nthis machine was copied after it was enrolled -> '),
  })
  const doctor = await inside(world, ['doctor'])
  expect(doctor.stdout).toMatch(/^warning +configuration +MACHINE_COPIED: this machine was copied/m)
  const signed = requestsTo(issuer, 'issue')
  expect(await inside(world, ['renew', '--force'])).toMatchObject({ status: 0 })
  expect(requestsTo(issuer, 'issue')).toBe(signed + 1)

  await machine.damage()
  await look(world, null)
  expect(await metric(world)).toBe('')
  await agent.waitForLog(/enrollment\.json is damaged: .*; whether this machine was copied is unknown$/)
  expect(await agent.stop()).toBe(0)
})

test('on_copy: stop; accepted again; a damaged file', needsRoot, async () => {
  await using machine = await makeMachine()
  await using world = await makeWorld({
    sshd: { hostKeyTypes: ['ed25519'] },
    launch: machine.launch,
    config: { enrollment: { on_copy: 'stop' } },
  })
  const { agent, issuer, sshd } = world
  await machine.enroll('a')
  await agent.start()
  await untilReady(world)
  const asked = issuer.requests.length

  await machine.become('b')
  await look(world, true)
  expect(await readyz(world)).toMatchObject([
    503,
    { status: 'fail', reason: 'not-enrolled: this machine was copied' },
  ])
  expect(await agent.status()).toMatchObject({
    enrolled: false,
    certificates: [{ state: 'valid', last_error: { code: 'MACHINE_COPIED' } }],
  })
  expect(copiedLines(world)).toEqual([
    'error this machine was copied after it was enrolled: its machine-id differs; nothing is renewed here (enrollment.on_copy: stop)',
  ])
  expect(await isServed(world, 'ed25519')).toBe(true)
  expect(await agent.verb('check')).toMatchObject({
    status: 0,
    stdout: expect.stringContaining('\nnot enrolled: this machine was copied, and nothing is renewed here'),
  })
  for (const more of [[], ['--force'], ['--dry-run']])
    expect(await inside(world, ['renew', ...more])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('MACHINE_COPIED: this machine was copied'),
    })
  const waited = await agent.verb('wait', '--timeout', '1s')
  expect(waited.status).toBe(1)
  expect(waited.stderr).toContain('not enrolled: this machine was copied')
  const doctor = await inside(world, ['doctor'])
  expect(doctor.status).toBe(1)
  expect(doctor.stdout).toMatch(/^failure +configuration +MACHINE_COPIED: this machine was copied/m)
  expect(doctor.stdout).not.toContain('no configuration yet')
  const afterDoctor = issuer.requests.length

  // Without a certificate there is nothing to judge, and none is asked for; SIGHUP changes nothing.
  await rm(sshd.certificatePath('ed25519'))
  agent.signal('SIGHUP')
  await agent.waitFor('it has looked', async () =>
    (await agent.stateOf(hostKeyName('ed25519'))).startsWith('absent'),
  )
  await look(world, true)
  expect(issuer.requests).toHaveLength(afterDoctor)
  expect(requestsTo(issuer, 'issue')).toBe(1)
  expect(asked).toBeGreaterThan(0)
  expect(await agent.verb('check')).toMatchObject({ status: 2 })

  await machine.enroll('b')
  await look(world, false)
  await untilReady(world)
  expect(requestsTo(issuer, 'issue')).toBe(2)
  expect(await agent.stateOf(hostKeyName('ed25519'))).toBe('valid null')
  await agent.waitForLog('this machine is the one that was enrolled')

  await machine.become('c')
  await machine.damage()
  await look(world, null)
  expect(await readyz(world)).toMatchObject([200, { status: 'pass' }])
  expect(await agent.stop()).toBe(0)
})

/** Have the daemon look now, and wait for what it finds. */
async function look({ agent }: World, copied: boolean | null): Promise<void> {
  agent.signal('SIGUSR1')
  await agent.waitFor(`copied: ${copied}`, async () => (await agent.status())?.machine.copied === copied)
}

async function readyz({ agent }: World): Promise<readonly [number, unknown]> {
  const answer = await agent.health('/readyz')
  return [answer.status, await answer.json()]
}

async function metric({ agent }: World): Promise<string> {
  const text = await (await agent.health('/metrics')).text()
  return /^hostcertd_machine_copied .*$/m.exec(text)?.[0] ?? ''
}

function copiedLines({ agent }: World): readonly string[] {
  return agent.log.filter(({ code }) => code === 'MACHINE_COPIED').map(({ level, msg }) => `${level} ${msg}`)
}

/** Run a verb where the daemon is: on the same machine. */
async function inside({ agent }: World, args: readonly string[]) {
  const argv = [
    `--mount=/proc/${agent.pid}/ns/mnt`,
    process.execPath,
    PROGRAM,
    ...args,
    '--config',
    agent.configPath,
  ]
  try {
    return { status: 0, ...(await run('nsenter', argv, { timeout: 60_000 })) }
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string }
    return { status: code, stdout, stderr }
  }
}

function enrollmentOf(machineId: string): string {
  return JSON.stringify({
    version: 1,
    machine_id: machineId,
    instance_id: { cloud_init: null, board_asset_tag: null },
    host_keys: [],
    enrolled_at: '2026-11-23T12:00:00Z',
    enrolled_by: 'root',
    hostcertd: '0.2.0',
    host_id: '8c1efcfc-434c-4c43-80e3-53c9eae6672a',
    hostname: 'web1.example.com',
    ephemeral: false,
  })
}
