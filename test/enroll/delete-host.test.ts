import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { ErrorCode } from '../../agent/cert/errors.ts'
import { type DeleteTools, ownHost, readDeletion, refuseCopy } from '../../agent/enroll/delete-host.ts'
import type { ExchangeClient } from '../../agent/issuer/exchange-client.ts'
import { ManualClock } from '../fakes/manual-clock.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { enrolled } from './enroll-host.ts'

const ID = '8c1efcfc-434c-4c43-80e3-53c9eae6672a'
const OTHER_ID = '0c1efcfc-434c-4c43-80e3-53c9eae6672a'
const URL = 'https://issuer.example.com'
const NEVER = new AbortController().signal
const REGISTERED = [
  {
    isFinished: true,
    changes: [{ kind: 'registration', step: 'register', hostId: ID, hostname: 'web1.example.com' } as const],
  },
] as const

test('this machine’s host counts only at the issuer that it is configured for', async () => {
  const own = { url: URL, hostId: ID }
  for (const url of [URL, null]) expect(await ownHost(url, { url: URL, sshHostId: ID }, [])).toEqual(own)
  await expect(ownHost(URL, { url: 'https://other.example.com', sshHostId: ID }, [])).rejects.toThrow(
    `name the host: --host-id ID; this machine is configured for https://other.example.com, not ${URL}`,
  )
})

test('without a configuration it is the one that was enrolled; a damaged record is none', async () => {
  await using folder = await makeTemporaryFolder()
  const file = join(folder.path, 'enrollment.json')
  await expect(ownHost(URL, null, [], file)).rejects.toThrow(/^name the host: --host-id ID$/)
  await writeFile(file, '{')
  await expect(ownHost(URL, null, REGISTERED, file)).rejects.toThrow(
    /enrollment\.json is damaged: .*; name the host: --host-id ID$/,
  )
})

test('when all was taken back, the journal names what this machine registered, which a copy of it may have done', async () => {
  await using folder = await makeTemporaryFolder()
  const file = join(folder.path, 'enrollment.json')
  const at = (url: string) => ({ url, projectId: OTHER_ID, project: 'servers' })
  const registered = (hostId: string, url: string) => ({ ...REGISTERED[0].changes[0], hostId, at: at(url) })
  const changes = [registered(ID, URL), registered(OTHER_ID, 'https://other.example.com')]
  const runs = [{ isFinished: true, changes }]
  await expect(ownHost(null, null, runs, file)).rejects.toThrow(
    `this machine registered the host ${OTHER_ID}, but nothing else says that it is its own still; to delete it, add --url https://other.example.com --host-id ${OTHER_ID}`,
  )
  await expect(ownHost(URL, null, runs, file)).rejects.toThrow(`add --url ${URL} --host-id ${ID}`)
  await expect(ownHost(null, null, REGISTERED, file)).rejects.toThrow(`add --url URL --host-id ${ID}`)
  // It is not taken back yet.
  const enrolledId = ID.toUpperCase()
  await writeFile(file, enrolled({ host_id: enrolledId }))
  expect(await ownHost(null, null, runs, file)).toEqual({ url: URL, hostId: enrolledId })
  await expect(ownHost(null, null, REGISTERED, file)).rejects.toThrow(
    `name the issuer of the host ${enrolledId}: --url URL`,
  )
  await expect(ownHost('https://other.example.com', null, runs, file)).rejects.toThrow(
    `the host ${enrolledId} was registered at ${URL}, not https://other.example.com`,
  )
  await rm(file)
  await expect(ownHost(null, null, [], file)).rejects.toThrow(
    'name the issuer and the host: --url URL --host-id ID',
  )
})

test('on a copy of the enrolled machine the configured host is not its own', async () => {
  await using folder = await makeTemporaryFolder()
  const at = (...parts: readonly string[]): string => join(folder.path, ...parts)
  await mkdir(at('etc'))
  await mkdir(at('var/lib/hostcertd-enroll'), { recursive: true })
  await refuseCopy(folder.path)
  const machine = { machine_id: 'a'.repeat(32), instance_id: { cloud_init: null, board_asset_tag: null } }
  const host = { version: 1, host_id: ID, hostname: 'web1.example.com', host_keys: [], ephemeral: false }
  const how = { enrolled_at: '2026-11-27T12:00:00Z', enrolled_by: 'root', hostcertd: '1' }
  await writeFile(
    at('var/lib/hostcertd-enroll/enrollment.json'),
    JSON.stringify({ ...host, ...machine, ...how }),
  )
  await writeFile(at('etc/machine-id'), `${machine.machine_id}\n`)
  await refuseCopy(folder.path)
  await writeFile(at('etc/machine-id'), `${'b'.repeat(32)}\n`)
  await expect(refuseCopy(folder.path)).rejects.toMatchObject({
    code: 'MACHINE_COPIED',
    message: expect.stringContaining('name it by --host-id ID') as string,
  })
  await writeFile(at('var/lib/hostcertd-enroll/enrollment.json'), '{')
  await expect(refuseCopy(folder.path)).rejects.toMatchObject({ code: 'STORE_FAILED' })
})

test('a host is gone when the issuer says so, not when a proxy has nothing at that address', async () => {
  const isThere = async (code: ErrorCode, requestId: string | null): Promise<boolean> => {
    const failure = {
      code,
      message: 'no',
      next: 'administrator',
      retryAfterSeconds: null,
      requestId,
    } as const
    const exchange: Pick<ExchangeClient, 'findHost' | 'end'> = {
      findHost: async () => ({ kind: 'failed', failure }),
      end: () => {},
    }
    const deletion = await readDeletion(
      {
        url: `${URL}/`,
        hostId: ID,
        method: 'token',
        login: { token_file: '-' },
        adminTokenFile: null,
        caFile: null,
      },
      [],
      {
        clock: new ManualClock(0),
        environment: {},
        openExchange: () => exchange as ExchangeClient,
        person: {
          isThere: false,
          print: () => {},
          show: () => {},
          agrees: async () => false,
          secret: async () => '',
          input: async () => 'a-token',
        },
      },
      NEVER,
    )
    expect(deletion.url).toBe(URL)
    return deletion.isThere(NEVER)
  }
  expect(await isThere('ISSUER_NOT_FOUND', 'req-1')).toBe(false)
  expect(await isThere('ISSUER_NOT_FOUND', null)).toBe(true)
  expect(await isThere('ISSUER_FORBIDDEN', 'req-1')).toBe(true)
})

test('a host that only the journal names needs a login by the options', async () => {
  const options = { url: URL, hostId: ID, method: null, login: {}, adminTokenFile: null, caFile: null }
  const tools = { clock: new ManualClock(0), environment: {} } as unknown as DeleteTools
  await expect(readDeletion(options, [], tools, NEVER)).rejects.toThrow(
    `say how to log in at ${URL} to delete the host ${ID}: --auth METHOD or --admin-token-file FILE`,
  )
})
