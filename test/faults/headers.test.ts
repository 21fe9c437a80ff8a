import { readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { FailingRenewals, Port } from './failing-renewals.ts'
import { pointsOf } from './rows.ts'

const inSeconds = (seconds: number): string => new Date(Date.now() + seconds * 1000).toUTCString()
const FAR = 'Fri, 31 Dec 9999 23:59:59 GMT'

/** Seconds from the shortest to the longest wait. */
type Wait = readonly [shortest: number, longest: number]
/** What hostcertd waits after a first failure. */
const BACKOFF: Wait = [2, 3.1]
const AS_ASKED: Wait = [53, 62]
/** A tenth of the validity left, an hour at first, and half a minute of spread. */
const CAPPED: Wait = [300, 390]

/** The headers of a 503. */
const RETRY_AFTER: readonly (readonly [name: string, headers: () => readonly string[], wait: Wait])[] = [
  ['no Retry-After', () => [], BACKOFF],
  ['seconds', () => ['retry-after: 54'], AS_ASKED],
  ['0', () => ['retry-after: 0'], BACKOFF],
  ['empty', () => ['retry-after:'], BACKOFF],
  ['negative', () => ['retry-after: -1'], BACKOFF],
  ['a fraction', () => ['retry-after: 1.5'], BACKOFF],
  ['an exponent', () => ['retry-after: 1e9'], BACKOFF],
  ['a word', () => ['retry-after: soon'], BACKOFF],
  ['99 digits', () => [`retry-after: ${'9'.repeat(99)}`], CAPPED],
  ['8000 digits', () => [`retry-after: ${'9'.repeat(8000)}`], CAPPED],
  ['two, of which the first counts', () => ['retry-after: 54', 'retry-after: 9999'], AS_ASKED],
  ['a time', () => [`date: ${inSeconds(0)}`, `retry-after: ${inSeconds(55)}`], AS_ASKED],
  [
    'a time by a clock that is a year ahead',
    () => [`date: ${inSeconds(31_536_000)}`, `retry-after: ${inSeconds(31_536_055)}`],
    AS_ASKED,
  ],
  ['a time, without Date', () => [`retry-after: ${inSeconds(56)}`], [50, 62]],
  ['a time in the past', () => [`date: ${inSeconds(0)}`, `retry-after: ${inSeconds(-99)}`], BACKOFF],
  ['the year 9999', () => ['date: nonsense', `retry-after: ${FAR}`], CAPPED],
  ['a day that does not exist', () => ['retry-after: Sat, 99 Foo 2026 12:01:30 GMT'], BACKOFF],
  ['bytes that are not ASCII', () => ['retry-after: \xff\xfe54'], BACKOFF],
]

test('Retry-After in every form', async () => {
  await using renewals = await FailingRenewals.start()
  const record = join(renewals.world.agent.folder, 'state', 'attempts.json')
  for (const point of pointsOf(RETRY_AFTER.length, 9)) {
    const [name, headers, wait] = RETRY_AFTER[point - 1] ?? ['', () => [], BACKOFF]
    await using port = await Port.answering((socket) => {
      const lines = ['HTTP/1.1 503 x', ...headers(), 'content-length: 0', '', '']
      socket.end(Buffer.from(lines.join('\r\n'), 'latin1'))
    })
    await rm(record, { force: true })
    const url = `http://127.0.0.1:${port.number}`
    await renewals.attempt({ name, code: 'ISSUER_BUSY', config: { issuer: { url } } })
    const { issuer } = JSON.parse(await readFile(record, 'utf8')) as { issuer: { until: number } | null }
    const seconds = (issuer?.until ?? Number.NaN) - (await stat(record)).mtimeMs / 1000
    // The record is written a moment after the wait began.
    if (!(seconds >= wait[0] - 2 && seconds <= wait[1]))
      renewals.flaws.push(`${name}: waits ${seconds} s, not ${wait.join(' to ')}`)
  }
  await renewals.report('`Retry-After` in every form')
  expect(renewals.flaws).toEqual([])
})

/** Null: no header. */
const DATES: readonly (string | null)[] = [
  null,
  '',
  'yesterday',
  '0',
  '-1',
  'Thu, 01 Jan 1970 00:00:00 GMT',
  FAR,
  'Saturday, 01-Aug-26 12:01:30 GMT',
  'Sat Aug  1 12:01:30 2026',
  'Sat, 01 Aug 2026 12:01:30 +0200',
  'Sat, 99 Foo 2026 12:01:30 GMT',
  '9'.repeat(8000),
]

test('Date in every form: the certificate is installed', async () => {
  await using renewals = await FailingRenewals.start()
  const { issuer } = renewals.world
  for (const point of pointsOf(DATES.length, 5)) {
    const value = DATES[point - 1] ?? null
    issuer.heal()
    issuer.failAlways({ kind: 'date', value })
    await renewals.attempt({ name: value === null ? 'no Date' : value.slice(0, 40), code: null })
  }
  issuer.heal()
  await renewals.report('`Date` in every form, with a certificate')
  expect(renewals.flaws).toEqual([])
})
