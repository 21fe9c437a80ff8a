import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { expect, test } from 'vitest'
import manifest from '../../package.json' with { type: 'json' }
import { ED25519, makeBareHost } from './bare-host.ts'

const CERTIFICATE_KEYS =
  'host_key,key_type,certificate,state,reason,serial,key_id,principals,ca_fingerprint,valid_after,' +
  'valid_before,renewal_due,served,last_attempt,last_success,failures,last_error'

interface Document {
  readonly issuer: object
  readonly certificates: readonly object[]
}

test('from the disk: every key of the interface, in its order', async () => {
  await using host = await makeBareHost()
  await host.certify(ED25519, { keyId: 'web1-key' })
  const before = await host.files()
  const { status, stdout, stderr } = await host.verb(['status', '--json'])
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  const document = JSON.parse(stdout) as Document
  expect(document).toEqual({
    version: manifest.version,
    enrolled: true,
    issuer: { url: 'http://127.0.0.1:1', reachable: null, last_success: null, clock_skew_seconds: null },
    certificates: [
      {
        host_key: ED25519,
        key_type: 'ssh-ed25519',
        certificate: host.certificatePath(ED25519),
        state: 'valid',
        reason: null,
        serial: '7',
        key_id: 'web1-key',
        principals: ['web1'],
        ca_fingerprint: expect.stringMatching(/^SHA256:/) as string,
        valid_after: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/) as string,
        valid_before: expect.stringMatching(/Z$/) as string,
        renewal_due: expect.stringMatching(/Z$/) as string,
        served: null,
        last_attempt: null,
        last_success: null,
        failures: 0,
        last_error: null,
      },
    ],
  })
  expect(Object.keys(document).join()).toBe('version,enrolled,issuer,certificates')
  expect(Object.keys(document.issuer).join()).toBe('url,reachable,last_success,clock_skew_seconds')
  expect(Object.keys(document.certificates[0] ?? {}).join()).toBe(CERTIFICATE_KEYS)
  expect(await host.files()).toEqual(before)
})

test('for people: a line, not as wide as a terminal, without colour in a pipe', async () => {
  await using host = await makeBareHost()
  await host.certify(ED25519)
  const { status, stdout, stderr } = await host.verb(['status'])
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  expect(stdout).toMatch(/^ssh_host_ed25519_key {2}valid {7}59m.* left, renewal in \d+m.*\n$/)
})

test('a failed attempt is told with its last error', async () => {
  await using host = await makeBareHost()
  await host.verb(['renew'])
  const { status, stdout } = await host.verb(['status'])
  expect(status).toBe(0)
  expect(stdout).toMatch(/^ssh_host_ed25519_key {2}absent\n {4}ISSUER_UNREACHABLE: .*\n$/)
})

test.each([
  { name: 'another program', body: '{"hello":1}', fromDaemon: false },
  { name: 'no JSON', body: '<html>', fromDaemon: false },
  { name: 'nothing seen yet', body: 'null', fromDaemon: false },
  {
    name: 'a daemon',
    body: JSON.stringify({ version: '9', enrolled: true, issuer: {}, certificates: [] }),
    fromDaemon: true,
  },
])('what answers on the health port: $name', async ({ body, fromDaemon }) => {
  const server = createServer((_request, response) => response.end(body)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    const { port } = server.address() as AddressInfo
    await using host = await makeBareHost({ health: { listen: `127.0.0.1:${port}` } })
    const { status, stdout } = await host.verb(['status', '--json'])
    expect(status).toBe(0)
    expect((JSON.parse(stdout) as Document).certificates).toHaveLength(fromDaemon ? 0 : 1)
  } finally {
    server.close()
  }
})
