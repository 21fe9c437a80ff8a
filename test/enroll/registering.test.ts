import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ErrorCode } from '../../agent/cert/errors.ts'
import type { Change } from '../../agent/enroll/change.ts'
import { type Journal, readJournal } from '../../agent/enroll/journal.ts'
import {
  forgetHost,
  forgetUnanswered,
  isUnanswered,
  recordRegistrations,
  registeredAs,
  registeredIn,
} from '../../agent/enroll/registering.ts'
import type { Mode } from '../../agent/enroll/show.ts'
import { unenroll } from '../../agent/enroll/unenroll.ts'
import type { EnrollTools } from '../../agent/enroll/wanted.ts'
import type { ExchangeClient } from '../../agent/issuer/exchange-client.ts'
import { faultyOperations } from './faulty-operations.ts'
import { enroll, makeSmallHost, type SmallHost } from './small-host.ts'

const HOSTNAME = 'web1.example.com'
const PROJECT = '41ea2756-88ac-43bf-8929-42b71ec7742e'
const HOST = {
  id: '8c1efcfc-434c-4c43-80e3-53c9eae6672a',
  projectId: PROJECT,
  hostname: HOSTNAME,
  alias: null,
  hostCertTtl: null,
}
const URL = 'https://issuer.example.com'
const QUESTION = { project: PROJECT, hostname: HOSTNAME, alias: null, ttl: null }
const TAKEN = { kind: 'taken', what: 'hostname', host: HOST } as const
const REGISTERED = { kind: 'registered', host: HOST } as const

type Answer = Awaited<ReturnType<ExchangeClient['registerHost']>>

function failed(code: ErrorCode, mayBeRegistered: boolean): Answer {
  const failure = { code, message: 'no', next: 'local', retryAfterSeconds: null, requestId: null } as const
  return { kind: 'failed', failure, mayBeRegistered }
}
const LOST = failed('ISSUER_TIMEOUT', true)
const REFUSED = failed('ISSUER_FORBIDDEN', false)

let host: SmallHost
beforeEach(async () => {
  host = await makeSmallHost()
})
afterEach(() => host[Symbol.asyncDispose]())

/** @param answer null: it never comes, for the call is ended */
async function register(
  journal: Journal,
  answer: Answer | null,
  hostname = HOSTNAME,
  project = PROJECT,
): Promise<void> {
  const exchange = {
    findHost: () => Promise.reject(new Error('nobody asks')),
    registerHost: async () => {
      // Whenever it is killed from here on.
      expect((await readJournal(host.state)).flatMap(({ changes }) => changes)).toContainEqual(
        expect.objectContaining({ kind: 'registration', hostId: null, hostname }),
      )
      if (answer === null) throw new Error('ended')
      return answer
    },
  }
  const { signal } = new AbortController()
  const registered = await recordRegistrations(exchange, journal, URL)
    .registerHost({ ...QUESTION, hostname, project }, signal)
    .catch(() => null)
  expect(registered).toBe(answer)
}

const changesOf = ({ runs }: Journal): readonly Change[] => runs.flatMap(({ changes }) => changes)

test.each([
  { name: 'no answer', answers: [null], want: true },
  { name: 'a failure that leaves open what became of it', answers: [LOST], want: true },
  { name: 'a limit of the rate', answers: [failed('ISSUER_BUSY', false)], want: false },
  { name: 'no connection', answers: [failed('ISSUER_UNREACHABLE', false)], want: false },
  { name: 'a refusal', answers: [REFUSED], want: false },
  { name: 'a name that was taken before', answers: [TAKEN], want: false },
  { name: 'a name that is taken after a lost answer', answers: [LOST, TAKEN], want: true },
  { name: 'a refusal after a lost answer', answers: [null, REFUSED], want: true },
  { name: 'a registration after a lost answer', answers: [LOST, REGISTERED], want: false },
])('$name: a host of that name may be its own: $want', async ({ answers, want }) => {
  {
    await using journal = await host.open()
    for (const answer of answers) await register(journal, answer)
  }
  await using journal = await host.open()
  expect((await journal.undoUnfinished()).changes).toEqual([])
  expect(isUnanswered(journal, HOSTNAME)).toBe(want)
  expect(isUnanswered(journal, 'web2.example.com')).toBe(false)
})

test('a signal that fires before the issuer is asked leaves no record', async () => {
  await using journal = await host.open()
  const stop = new AbortController()
  const exchange = {
    findHost: () => Promise.reject(new Error('nobody asks')),
    registerHost: () => Promise.reject(new Error('nobody asks this either')),
  }
  const asked = recordRegistrations(exchange, journal, URL).registerHost(QUESTION, stop.signal)
  stop.abort(new Error('enough'))
  await expect(asked).rejects.toThrow('enough')
  expect(journal.runs).toEqual([])
  expect(await readJournal(host.state)).toEqual([])
})

test('the id is added to the record, which is the only one, and stays', async () => {
  await using journal = await host.open()
  await register(journal, LOST)
  await register(journal, REGISTERED)
  const at = { url: URL, projectId: PROJECT, project: PROJECT }
  const record = {
    kind: 'registration',
    step: `register ${HOSTNAME}`,
    hostId: HOST.id,
    hostname: HOSTNAME,
    at,
  }
  expect(changesOf(journal)).toEqual([record])
  expect(registeredIn(journal.runs)).toEqual([HOST.id])
  expect((await journal.undoAll()).changes).toEqual([])
  expect(await forgetUnanswered(journal)).toEqual([])
  expect(changesOf(journal)).toEqual([record])
  await forgetHost(journal, HOST.id)
  expect(await readJournal(host.state)).toEqual([])
})

test('where a host was registered is known to the next call, and to no other wish', async () => {
  {
    await using journal = await host.open()
    await register(journal, REGISTERED, HOSTNAME, 'servers')
    await register(journal, null, 'web2.example.com', 'servers')
  }
  const runs = await readJournal(host.state)
  const wish = { url: URL, project: 'servers', hostname: HOSTNAME }
  expect(registeredAs(runs, wish)).toBe(HOST.id)
  expect(registeredAs(runs, { ...wish, project: PROJECT.toUpperCase() })).toBe(HOST.id)
  for (const other of [
    { url: 'https://other.example.com' },
    { project: 'SERVERS' },
    { project: null },
    { hostname: 'web2.example.com' },
    { hostname: 'web3.example.com' },
  ])
    expect(registeredAs(runs, { ...wish, ...other })).toBeNull()
  expect(registeredIn(runs, URL)).toEqual([HOST.id])
  expect(registeredIn(runs, 'https://other.example.com')).toEqual([])
})

test('hostcertd 0.1 and this version read the journals of each other', async () => {
  {
    await using journal = await host.open()
    await register(journal, REGISTERED)
  }
  const file = join(host.state, 'journal.json')
  const written = JSON.parse(await readFile(file, 'utf8')) as {
    runs: { entries: Record<string, unknown>[] }[]
  }
  // It refuses a change with a member that it does not know, and leaves out those of an entry.
  const change = { kind: 'registration', step: `register ${HOSTNAME}`, hostId: HOST.id, hostname: HOSTNAME }
  expect(written.runs).toEqual([
    {
      isFinished: true,
      entries: [
        {
          change,
          folders: [],
          merge: null,
          registeredAt: { url: URL, projectId: PROJECT, project: PROJECT },
        },
      ],
    },
  ])
  const older = JSON.stringify([{ isFinished: true, entries: [{ change, folders: [], merge: null }] }])
  const sha256 = createHash('sha256').update(older).digest('hex')
  await writeFile(file, `{"version":1,"sha256":"${sha256}","runs":${older}}\n`)
  const runs = await readJournal(host.state)
  expect(runs).toEqual([{ isFinished: true, changes: [change] }])
  expect(registeredAs(runs, { url: URL, project: PROJECT, hostname: HOSTNAME })).toBeNull()
  expect(registeredIn(runs, URL)).toEqual([HOST.id])
})

test('those without an answer are forgotten, and nothing else is', async () => {
  {
    await using journal = await host.open()
    await enroll(host, journal)
    await register(journal, REGISTERED)
    await register(journal, null, 'web2.example.com')
    const before = changesOf(journal)
    expect(await forgetUnanswered(journal)).toEqual(['web2.example.com'])
    expect(changesOf(journal)).toEqual(before.slice(0, -1))
  }
  await using journal = await host.open()
  expect(await forgetUnanswered(journal)).toEqual([])
  expect(registeredIn(journal.runs)).toEqual([HOST.id])
})

test('a record that cannot be written is an error before the issuer is asked', async () => {
  await using journal = await host.open(faultyOperations({ kind: 'ENOSPC', at: 1, isDone: false }))
  const exchange = {
    findHost: () => Promise.reject(new Error('nobody asks')),
    registerHost: () => Promise.reject(new Error('nobody asks this either')),
  }
  const asked = recordRegistrations(exchange, journal, URL).registerHost(
    QUESTION,
    new AbortController().signal,
  )
  await expect(asked).rejects.toMatchObject({ code: 'STORE_FAILED' })
})

describe('unenroll', () => {
  const said: string[] = []
  const person = { isThere: false, print: (text: string) => said.push(text), show: () => {} }
  const run = async (journal: Journal, mode: Mode) => {
    said.length = 0
    const tools = { journal, person } as unknown as EnrollTools
    return unenroll({ mode, deletion: null }, tools, new AbortController().signal)
  }

  test.each(['with all that enroll did', 'with nothing else'])(
    'forgets a registration without an answer, and says so: %s',
    async (what) => {
      const isEnrolled = what === 'with all that enroll did'
      await using journal = await host.open()
      await register(journal, REGISTERED)
      if (isEnrolled) await enroll(host, journal)
      await register(journal, null, 'web2.example.com')
      // It is nothing to undo.
      for (const mode of ['check', 'dry-run'] as const) {
        expect(await run(journal, mode)).toMatchObject({ changed: isEnrolled })
        expect(said).toEqual([])
        expect(isUnanswered(journal, 'web2.example.com')).toBe(true)
      }
      expect(await run(journal, 'yes')).toMatchObject({ changed: isEnrolled, isDone: true, left: [] })
      expect(said).toEqual([
        'this machine began to register web2.example.com and got no answer: if no other machine uses a host of that name, delete it at the issuer',
      ])
      expect(changesOf(journal)).toMatchObject([{ kind: 'registration', hostId: HOST.id }])
      expect(await run(journal, 'yes')).toMatchObject({ changed: false })
      expect(said).toEqual([])
    },
  )
})
