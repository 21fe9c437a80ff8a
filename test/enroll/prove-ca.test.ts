import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ErrorCode } from '../../agent/cert/errors.ts'
import { parseCaKeys } from '../../agent/cert/public-key.ts'
import { Patience } from '../../agent/enroll/patience.ts'
import { proveCa } from '../../agent/enroll/prove-ca.ts'
import type { ExchangeClient } from '../../agent/issuer/exchange-client.ts'
import { ManualClock } from '../fakes/manual-clock.ts'
import { generateKey, signCertificate } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

const NAME = 'web1.example.com'
const NOW = Date.parse('2026-06-01T00:00:00Z') / 1000

let folder: TemporaryFolder
let hostKey: string
let ca: string
let other: string
let signedKey: string
beforeAll(async () => {
  folder = await makeTemporaryFolder()
  const path = (name: string): string => join(folder.path, name)
  hostKey = await generateKey(path('host'), 'ed25519')
  ca = await generateKey(path('ca'), 'ed25519')
  other = await generateKey(path('other'), 'ed25519')
  const validity = '20260101000000:20270101000000'
  signedKey = await signCertificate({ ca: path('ca'), publicKey: hostKey, principals: [NAME], validity })
})
afterAll(() => folder.remove())

type HostCa = Awaited<ReturnType<ExchangeClient['hostCa']>>

function names(line: string): HostCa {
  return { ok: true, keys: parseCaKeys(line) }
}

function failed(code: ErrorCode, noSuchRoute = false): HostCa {
  const next = code === 'ISSUER_BUSY' ? 'issuer-backoff' : 'administrator'
  return {
    ok: false,
    failure: { code, message: `the issuer says ${code}`, next, retryAfterSeconds: null, requestId: null },
    noSuchRoute,
  }
}

/** A first certificate, and an issuer that answers so about its CA, the last again and again. */
async function prove(answers: readonly HostCa[], caFingerprints: readonly string[] = [], pins = '') {
  const clock = new ManualClock(NOW)
  const said: string[] = []
  let asked = 0
  const [key] = parseCaKeys(hostKey)
  if (key === undefined) throw new Error('no key')
  const own = { name: 'ssh_host_ed25519_key', key, comment: 'root@web1' }
  const exchange: Pick<ExchangeClient, 'issue' | 'hostCa'> = {
    issue: async () => ({ ok: true, signedKey, serialNumber: null, requestId: null }),
    hostCa: async () => answers[Math.min(asked++, answers.length - 1)] ?? failed('ISSUER_BUSY'),
  }
  const print = (text: string): void => void said.push(text)
  const person = {
    isThere: false,
    print,
    show: () => {},
    agrees: async () => false,
    secret: async () => '',
    input: async () => '',
  }
  const state = { isOver: false }
  const proof = proveCa(
    { caFingerprints, mode: 'yes' },
    parseCaKeys(pins),
    own,
    [NAME],
    exchange,
    { clock, person, patience: new Patience(clock, print) },
    new AbortController().signal,
  )
    .then(
      (cas) => ({ cas: cas.map(({ blob }) => blob.toString('base64')), error: null }),
      (error: Error) => ({ cas: null, error: error.message }),
    )
    .finally(() => (state.isOver = true))
  while (!state.isOver) await clock.advance(1)
  return { ...(await proof), said: said.join('\n'), asked }
}

const blobOf = (line: string): string => line.split(' ')[1] ?? ''

test('the CA that signs is compared with the one that the issuer publishes, which is asked again when it is busy', async () => {
  expect(await prove([failed('ISSUER_BUSY'), failed('ISSUER_BUSY'), names(ca)])).toMatchObject({
    cas: [blobOf(ca)],
    asked: 3,
  })
  expect(await prove([failed('ISSUER_BUSY'), names(other)])).toMatchObject({
    error: expect.stringMatching(
      /^the certificate is signed by the CA SHA256:.*the issuer names another one$/,
    ),
  })
})

test('an issuer that does not say which CA it publishes confirms none, and a fingerprint does', async () => {
  for (const code of ['ISSUER_FORBIDDEN', 'ISSUER_UNAUTHORIZED', 'ISSUER_BUSY'] as const) {
    const { error, cas } = await prove([failed(code)])
    expect(cas).toBeNull()
    expect(error).toMatch(
      new RegExp(`^cannot compare the CA .*: the issuer says ${code}; .*add --ca-fingerprint SHA256:`),
    )
  }
  const fingerprint = parseCaKeys(ca)[0]?.fingerprint ?? ''
  expect(await prove([failed('ISSUER_FORBIDDEN')], [fingerprint])).toMatchObject({
    cas: [blobOf(ca)],
    asked: 0,
  })
})

test('an issuer without that route is known, and said', async () => {
  const { cas, said } = await prove([failed('ISSUER_NOT_FOUND', true)])
  expect(cas).toEqual([blobOf(ca)])
  expect(said).toContain('has no route that names its host CA')
})

test('another CA is pinned before it signs, by its fingerprint, when the issuer names it', async () => {
  const next = parseCaKeys(other)[0]?.fingerprint ?? ''
  const both = names(`${ca}\n${other}`)
  expect(await prove([both], [next], ca)).toMatchObject({ cas: [blobOf(ca), blobOf(other)], error: null })
  expect(await prove([names(ca)], [next], ca)).toMatchObject({
    error: expect.stringMatching(
      /are not signed by SHA256:\S+, and the issuer does not name that CA either$/,
    ),
  })
  // One that is not pinned signs, and nobody named it.
  expect(await prove([both], [next])).toMatchObject({ error: expect.stringMatching(/, not by SHA256:/) })
  expect(await prove([names(ca)], [next], `${ca}\n${other}`)).toMatchObject({
    cas: [blobOf(ca), blobOf(other)],
    asked: 0,
  })
})
