import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { makeTlsCertificate } from '../support/local-issuer/tls-certificate.ts'
import { NEVER, requestFor, startRawServer } from './harness.ts'
import { failureOf, setUp, type Setup } from './local-setup.ts'

let setup: Setup

beforeAll(async () => {
  setup = await setUp({ https: true })
})
afterAll(() => setup[Symbol.asyncDispose]())

test.each(['127.0.0.1', 'localhost'])('ca_file makes %s trusted', async (name) => {
  const url = `https://${name}:${setup.server.port}`
  const { issuer } = setup.subject({ url, caFile: setup.server.tlsCaFile })
  expect(await issuer.issue(requestFor(setup.publicKey), NEVER)).toMatchObject({ ok: true })
})

test('without it: no request, and a message that names the cause and the way out', async () => {
  const before = setup.server.requests.length
  const failure = failureOf(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER))
  expect(failure).toMatchObject({ code: 'ISSUER_UNREACHABLE', next: 'issuer-backoff' })
  expect(failure.message).toBe(
    `cannot reach 127.0.0.1:${setup.server.port}: self-signed certificate; no root CA above it is in the system's store or in issuer.ca_file`,
  )
  expect(setup.server.requests).toHaveLength(before)
})

test('the environment cannot turn the check off', async () => {
  vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0')
  try {
    expect(failureOf(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER)).code).toBe(
      'ISSUER_UNREACHABLE',
    )
  } finally {
    vi.unstubAllEnvs()
  }
})

test('a certificate for another name', async () => {
  const url = `https://127.0.0.2:${setup.server.port}`
  const elsewhere = setup.subject({ url, caFile: setup.server.tlsCaFile })
  const failure = failureOf(await elsewhere.issuer.issue(requestFor(setup.publicKey), NEVER))
  expect(failure.code).toBe('ISSUER_UNREACHABLE')
})

test('https to a server that speaks http', async () => {
  await using server = await startRawServer((_, response) => response.end())
  const url = `https://127.0.0.1:${server.port}`
  const failure = failureOf(await setup.subject({ url }).issuer.issue(requestFor(setup.publicKey), NEVER))
  expect(failure).toMatchObject({
    code: 'ISSUER_UNREACHABLE',
    message: `cannot reach 127.0.0.1:${server.port}: TLS failed: the server does not use TLS on this port (wrong version number)`,
  })
})

test('ca_file is read anew when it changes', async () => {
  const caFile = join(setup.folder, 'changing.pem')
  await writeFile(caFile, makeTlsCertificate().certificate)
  const { issuer } = setup.subject({ caFile })
  expect(failureOf(await issuer.issue(requestFor(setup.publicKey), NEVER)).code).toBe('ISSUER_UNREACHABLE')
  await rename(setup.server.tlsCaFile, caFile)
  try {
    expect(await issuer.issue(requestFor(setup.publicKey), NEVER)).toMatchObject({ ok: true })
  } finally {
    await rename(caFile, setup.server.tlsCaFile)
  }
  expect(failureOf(await issuer.issue(requestFor(setup.publicKey), NEVER))).toMatchObject({
    code: 'CONFIG_INVALID',
  })
})

describe('a bad ca_file', () => {
  const damaged = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
  test.each([
    {
      name: 'missing',
      content: null,
      words: 'cannot read issuer.ca_file FILE: no such file or directory (ENOENT)',
    },
    { name: 'not PEM', content: 'hello', words: 'issuer.ca_file FILE holds no certificate in PEM form' },
    {
      name: 'damaged',
      content: makeTlsCertificate().certificate + damaged,
      words: 'certificate 2 in issuer.ca_file FILE is damaged',
    },
  ])('$name', async ({ name, content, words }) => {
    const caFile = join(setup.folder, `bad ${name}.pem`)
    if (content !== null) await writeFile(caFile, content)
    const { issuer } = setup.subject({ caFile })
    const failure = failureOf(await issuer.issue(requestFor(setup.publicKey), NEVER))
    expect(failure).toMatchObject({
      code: 'CONFIG_INVALID',
      next: 'local',
      message: words.replace('FILE', caFile),
    })
  })
})
