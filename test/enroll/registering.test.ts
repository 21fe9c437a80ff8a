import { mkdir, rm } from 'node:fs/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { ErrorCode } from '../../agent/cert/errors.ts'
import type { Journal } from '../../agent/enroll/journal.ts'
import { mayHaveRegistered, noted, settle } from '../../agent/enroll/registering.ts'
import type { ExchangeClient } from '../../agent/issuer/exchange-client.ts'
import { makeSmallHost, type SmallHost } from './small-host.ts'

const HOSTNAME = 'web1.example.com'
const PROJECT = '41ea2756-88ac-43bf-8929-42b71ec7742e'
const HOST = {
  id: '8c1efcfc-434c-4c43-80e3-53c9eae6672a',
  projectId: PROJECT,
  hostname: HOSTNAME,
  alias: null,
  hostCertTtl: null,
}
const QUESTION = { project: PROJECT, hostname: HOSTNAME, alias: null, ttl: null }
const TAKEN = { kind: 'taken', what: 'hostname', host: HOST } as const
const REGISTERED = { kind: 'registered', host: HOST } as const

type Answer = Awaited<ReturnType<ExchangeClient['registerHost']>>

function failed(code: ErrorCode): Answer {
  const failure = { code, message: 'no', next: 'local', retryAfterSeconds: null, requestId: null } as const
  return { kind: 'failed', failure }
}

let host: SmallHost
beforeEach(async () => {
  host = await makeSmallHost()
})
afterEach(() => host[Symbol.asyncDispose]())

/** @param answer null: it never comes, for the call is ended */
async function register(journal: Journal, answer: Answer | null): Promise<void> {
  const exchange = {
    findHost: () => Promise.reject(new Error('nobody asks')),
    registerHost: async () => {
      // Whenever it is killed from here on.
      expect(mayHaveRegistered(journal, HOSTNAME)).toBe(true)
      if (answer === null) throw new Error('ended')
      return answer
    },
  }
  const { signal } = new AbortController()
  const registered = await noted(exchange, journal)
    .registerHost(QUESTION, signal)
    .catch(() => null)
  expect(registered).toBe(answer)
}

test.each([
  { name: 'no answer', answers: [null], want: true },
  { name: 'an answer that came too late', answers: [failed('ISSUER_TIMEOUT')], want: true },
  { name: 'a fault of the server', answers: [failed('ISSUER_BUSY')], want: true },
  { name: 'a refusal', answers: [failed('ISSUER_FORBIDDEN')], want: false },
  { name: 'a name that was taken before', answers: [TAKEN], want: false },
  { name: 'a name that is taken after a lost answer', answers: [null, TAKEN], want: true },
  {
    name: 'a refusal after a lost answer',
    answers: [failed('ISSUER_TIMEOUT'), failed('ISSUER_FORBIDDEN')],
    want: true,
  },
])('$name: a host of that name may be its own: $want', async ({ answers, want }) => {
  {
    await using journal = await host.open()
    for (const answer of answers) await register(journal, answer)
  }
  await using journal = await host.open()
  await journal.undoUnfinished()
  expect(mayHaveRegistered(journal, HOSTNAME)).toBe(want)
  expect(mayHaveRegistered(journal, 'web2.example.com')).toBe(false)
})

test('it is forgotten once the host is known, and nothing else is', async () => {
  await using journal = await host.open()
  await register(journal, null)
  await register(journal, REGISTERED)
  const run = journal.begin()
  await run.make({ kind: 'registration', step: 'register', hostId: HOST.id, hostname: HOSTNAME })
  await run.finish()
  await settle(journal, HOSTNAME)
  expect(mayHaveRegistered(journal, HOSTNAME)).toBe(false)
  expect(journal.runs.flatMap(({ changes }) => changes)).toMatchObject([{ hostId: HOST.id }])
})

test('a question that the journal cannot forget is an error that names the file', async () => {
  await using journal = await host.open()
  await register(journal, null)
  // Nothing can be put in the place of a folder.
  await rm(host.journal)
  await mkdir(host.journal)
  await expect(settle(journal, HOSTNAME)).rejects.toMatchObject({
    code: 'STORE_FAILED',
    message: expect.stringContaining(host.journal) as string,
  })
})
