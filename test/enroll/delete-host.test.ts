import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { ErrorCode } from '../../agent/cert/errors.ts'
import { ownHostId, readDeletion, refuseCopy } from '../../agent/enroll/delete-host.ts'
import type { ExchangeClient } from '../../agent/issuer/exchange-client.ts'
import { ManualClock } from '../fakes/manual-clock.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

const ID = '8c1efcfc-434c-4c43-80e3-53c9eae6672a'
const URL = 'https://issuer.example.com'
const NEVER = new AbortController().signal
const REGISTERED = [
  {
    isFinished: true,
    changes: [{ kind: 'registration', step: 'register', hostId: ID, hostname: 'web1.example.com' } as const],
  },
]

test('the id of this machine’s host counts only at the issuer that it is configured for', async () => {
  expect(await ownHostId(URL, { url: URL, sshHostId: ID }, [])).toBe(ID)
  await expect(ownHostId(URL, { url: 'https://other.example.com', sshHostId: ID }, [])).rejects.toThrow(
    `name the host: --host-id ID; this machine is configured for https://other.example.com, not ${URL}`,
  )
})

test('without a configuration it is the one that was enrolled, or registered last; a damaged record is neither', async () => {
  await using folder = await makeTemporaryFolder()
  const file = join(folder.path, 'enrollment.json')
  expect(await ownHostId(URL, null, REGISTERED, file)).toBe(ID)
  await expect(ownHostId(URL, null, [], file)).rejects.toThrow(/^name the host: --host-id ID$/)
  await writeFile(file, '{')
  await expect(ownHostId(URL, null, REGISTERED, file)).rejects.toThrow(
    /enrollment\.json is damaged: .*; name the host: --host-id ID$/,
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
