import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createAttemptRecords } from '../../agent/host/storage.ts'
import { EMPTY_RECORD, recordOf, type AttemptRecord } from '../../agent/renewal/record.ts'
import { RecordingLog } from '../fakes/recording-log.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

let folder: TemporaryFolder
let file: string
let log: RecordingLog
beforeEach(async () => {
  folder = await makeTemporaryFolder()
  file = join(folder.path, 'attempts.json')
  log = new RecordingLog()
})
afterEach(() => folder.remove())

const RECORD: AttemptRecord = {
  version: 1,
  issuer: { failures: 2, until: 1_800_000_000.25, code: 'ISSUER_BUSY', isLater: true },
  login: null,
  administrator: { failures: 4, until: 1_800_000_020, code: 'ISSUER_FORBIDDEN' },
  install: { failures: 3, until: 1_800_000_030, code: 'SSHD_CONFIG_INVALID' },
  reload: { failures: 1, until: 1_800_000_060, code: 'SSHD_RELOAD_FAILED' },
  reloadOwed: false,
  stoppedAt: 1_799_999_900,
  restartedAt: 1_799_999_000,
  formerCas: [],
  issuerCas: ['ssh-ed25519 AAAA'],
  sshd: {
    state: 'down',
    since: 1_799_999_500,
    askedAt: 1_799_999_900,
    listen: ['[::]:2222'],
    notes: ['not installed: x'],
    helperAt: 1_799_999_000,
  },
  hostKeys: {
    ssh_host_ed25519_key: {
      ...recordOf(EMPTY_RECORD, { name: 'ssh_host_ed25519_key', fingerprint: 'SHA256:abc' }),
      wait: { failures: 1, until: 1_800_000_005, code: 'CERT_KEY_MISMATCH' },
      refusals: 1,
      lastAttempt: 1_800_000_000,
      failures: 1,
      lastError: {
        code: 'CERT_KEY_MISMATCH',
        message: 'it certifies another key',
        at: 1_800_000_000,
        scope: 'key',
      },
      issued: { serial: '5699169736243703393', at: 1_799_999_000 },
      repairs: [1_799_999_000],
      evidence: {
        kind: 'certificate',
        at: 1_799_999_100,
        digest: 'ab'.repeat(32),
        serial: '5699169736243703393',
        validBefore: '18446744073709551615',
      },
      unknown: { reason: 'connection refused', since: 1_799_999_500 },
    },
  },
}

test('none is an empty record, and no complaint', async () => {
  expect(await createAttemptRecords({ stateDirectory: folder.path, log }).load()).toEqual(EMPTY_RECORD)
  expect(log.lines).toEqual([])
})

test('what was saved is loaded, by another process too, and is nobody else’s to read', async () => {
  await createAttemptRecords({ stateDirectory: folder.path, log }).save(RECORD)
  expect(await createAttemptRecords({ stateDirectory: folder.path, log }).load()).toEqual(RECORD)
  expect((await fs.stat(file)).mode & 0o777).toBe(0o600)
  expect(await fs.readdir(folder.path)).toEqual(['attempts.json'])
})

test.each<{ name: string; content: string }>([
  { name: 'cut short', content: JSON.stringify(RECORD).slice(0, 100) },
  { name: 'empty', content: '' },
  { name: 'another document', content: '[]' },
  { name: 'another version', content: JSON.stringify({ ...RECORD, version: 2 }) },
  {
    name: 'a code that is no text',
    content: JSON.stringify({ ...RECORD, issuer: { ...RECORD.issuer, code: 7 } }),
  },
  { name: 'a time without end', content: JSON.stringify(RECORD).replace('1800000000.25', '1e999') },
  { name: 'a key without fields', content: JSON.stringify({ ...RECORD, hostKeys: { a: {} } }) },
])('$name: an empty record and a warning that names the file', async ({ content }) => {
  await fs.writeFile(file, content)
  const records = createAttemptRecords({ stateDirectory: folder.path, log })
  expect(await records.load()).toBeNull()
  expect(log.messages('warn')).toEqual([expect.stringContaining(file)])
  await records.save(RECORD)
  expect(await records.load()).toEqual(RECORD)
})

test('a state directory that is none: a warning, and saving fails', async () => {
  await fs.writeFile(file, '')
  const records = createAttemptRecords({ stateDirectory: file, log })
  expect(await records.load()).toBeNull()
  expect(log.messages('warn')).toHaveLength(1)
  await expect(records.save(RECORD)).rejects.toMatchObject({ code: 'STORE_FAILED' })
  const missing = createAttemptRecords({ stateDirectory: join(folder.path, 'missing'), log })
  await expect(missing.save(RECORD)).rejects.toThrow(join(folder.path, 'missing', 'attempts.json'))
})

test.each([
  { name: 'not done', want: EMPTY_RECORD },
  { name: 'done but reported failed', want: RECORD },
])('a rename $name leaves a whole record', async ({ name, want }) => {
  const options = { stateDirectory: folder.path, log }
  await createAttemptRecords(options).save(EMPTY_RECORD)
  const rename: typeof fs.rename = async (from, to) => {
    if (name !== 'not done') await fs.rename(from, to)
    throw new Error('the disk is gone')
  }
  const records = createAttemptRecords({ ...options, operations: { ...fs, rename } })
  await expect(records.save(RECORD)).rejects.toMatchObject({ code: 'STORE_FAILED' })
  expect(await records.load()).toEqual(want)
  expect(await fs.readdir(folder.path)).toEqual(['attempts.json'])
})

/** `attempts.json` as version 0.1 wrote it. */
function oldRecord(key: object): string {
  const { sshd: _, hostKeys: __, ...rest } = RECORD
  const hostKey = {
    fingerprint: 'SHA256:abc',
    wait: null,
    lastAttempt: 1_800_000_000,
    lastSuccess: 1_799_999_000,
    failures: 1,
    lastError: { code: 'ISSUER_BUSY', message: 'm', at: 1_800_000_000 },
    issued: null,
    repairs: [],
    confirmedSerial: null,
    notOffered: null,
    ...key,
  }
  return JSON.stringify({ ...rest, hostKeys: { a: hostKey } })
}

test.each([
  {
    name: 'a serial that was seen to be served',
    key: { confirmedSerial: '7' },
    evidence: { kind: 'certificate', at: 1_799_999_000, digest: null, serial: '7', validBefore: null },
  },
  {
    name: 'a key that sshd did not offer',
    key: { notOffered: { why: 'sshd does not offer it', pairVersion: '1:2' } },
    evidence: {
      kind: 'not-offered',
      at: 1_799_999_000,
      why: 'sshd does not offer it',
      pairVersion: '1:2',
      isSettled: true,
    },
  },
  { name: 'nothing seen', key: {}, evidence: null },
])('the record of version 0.1 is read: $name', async ({ key, evidence }) => {
  await fs.writeFile(file, oldRecord(key))
  const record = await createAttemptRecords({ stateDirectory: folder.path, log }).load()
  expect(log.lines).toEqual([])
  expect(record?.hostKeys['a']).toMatchObject({ evidence, unknown: null, lastError: { scope: 'issuer' } })
  expect(record?.sshd).toEqual(EMPTY_RECORD.sshd)
})

test.each([
  { kind: 'administrator', slots: { issuer: null, administrator: { failures: 2, code: 'ISSUER_BUSY' } } },
  { kind: 'backoff', slots: { issuer: { failures: 2, code: 'ISSUER_BUSY' }, administrator: null } },
])('a wait that version 0.1 noted as $kind counts as such', async ({ kind, slots }) => {
  const document = {
    ...JSON.parse(oldRecord({})),
    issuer: { ...RECORD.issuer, kind },
    administrator: undefined,
  }
  await fs.writeFile(file, JSON.stringify(document))
  expect(await createAttemptRecords({ stateDirectory: folder.path, log }).load()).toMatchObject(slots)
})

test('what version 0.1 needs of a record, after a downgrade, is in it', async () => {
  await createAttemptRecords({ stateDirectory: folder.path, log }).save(RECORD)
  const { hostKeys } = JSON.parse(await fs.readFile(file, 'utf8'))
  expect(hostKeys.ssh_host_ed25519_key).toMatchObject({
    confirmedSerial: '5699169736243703393',
    notOffered: null,
  })
})

test('a code that only a later version knows costs no more than its own words', async () => {
  const options = { stateDirectory: folder.path, log }
  await createAttemptRecords(options).save(RECORD)
  const text = await fs.readFile(file, 'utf8')
  expect(text).toContain('CERT_KEY_MISMATCH')
  await fs.writeFile(file, text.replaceAll('CERT_KEY_MISMATCH', 'CERT_OF_THE_FUTURE'))
  const record = await createAttemptRecords(options).load()
  expect(log.lines).toEqual([])
  const key = RECORD.hostKeys['ssh_host_ed25519_key']
  expect(record?.hostKeys['ssh_host_ed25519_key']).toEqual({
    ...key,
    lastError: null,
    wait: { ...key?.wait, code: 'ISSUER_UNREACHABLE' },
  })
})
