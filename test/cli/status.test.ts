import { expect, test } from 'vitest'
import { CLOCKS_DIFFER, SSHD_DOWN } from '../../agent/cert/errors.ts'
import manifest from '../../package.json' with { type: 'json' }
import { closedPort } from '../issuer/harness.ts'
import { ED25519, makeBareHost } from './bare-host.ts'
import {
  type FakeAnswer,
  HANGS,
  LIVE,
  makeHostWithDaemon,
  startFakeDaemon,
  statusAnswer,
} from './fake-daemon.ts'

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
    waits: [],
    notes: [],
    sshd: { state: null, since: null },
    machine: { copied: null },
    login: { method: 'token' },
  })
  expect(Object.keys(document).join()).toBe(
    'version,enrolled,issuer,certificates,waits,notes,sshd,machine,login',
  )
  expect(Object.keys(document.issuer).join()).toBe('url,reachable,last_success,clock_skew_seconds')
  expect(Object.keys(document.certificates[0] ?? {}).join()).toBe(CERTIFICATE_KEYS)
  expect(await host.files()).toEqual(before)
})

test('for people: a line with a bar, without colour in a pipe', async () => {
  await using host = await makeBareHost()
  await host.certify(ED25519)
  const { status, stdout, stderr } = await host.verb(['status'])
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  expect(stdout).toMatch(
    /^ssh_host_ed25519_key {2}valid {7}\[=+>-*!-*\] (59m.*|1h) left, renewal in \d+m.*\n$/,
  )
})

test('a failed attempt is told with its last error', async () => {
  await using host = await makeBareHost()
  await host.verb(['renew'])
  const { status, stdout } = await host.verb(['status'])
  expect(status).toBe(0)
  // On a busy machine the wait may be over by then.
  const told =
    /^ssh_host_ed25519_key {2}absent\n {4}ISSUER_UNREACHABLE: .*\n {4}-> Try `curl -v` .*\n(?:next request to the issuer in \d+s \(ISSUER_UNREACHABLE\)\n)?$/
  expect(stdout).toMatch(told)
})

test.each([
  { name: 'another program', body: '{"hello":1}', fromDaemon: false },
  { name: 'no JSON', body: '<html>', fromDaemon: false },
  { name: 'nothing seen yet', body: 'null', fromDaemon: false },
  {
    name: 'a daemon of a version that does not say how it logs in',
    body: '{"version":"0.1.0","enrolled":true,"issuer":{},"certificates":[],"waits":[],"sshd":{}}',
    fromDaemon: false,
  },
  { name: 'a daemon', ...statusAnswer([]), fromDaemon: true },
  {
    name: 'a daemon of a version that says less of sshd',
    body: '{"version":"0.1.0","enrolled":true,"issuer":{},"certificates":[]}',
    fromDaemon: false,
  },
])('what answers on the health port: $name', async ({ body, fromDaemon }) => {
  await using host = await makeHostWithDaemon({ body })
  const { status, stdout } = await host.verb(['status', '--json'])
  expect(status).toBe(0)
  expect((JSON.parse(stdout) as Document).certificates).toHaveLength(fromDaemon ? 0 : 1)
})

const STARTING: FakeAnswer = { status: 503, body: '{"error":"starting"}' }
const stranger =
  /\nanother program is listening on 127.*, not the daemon; .*\n {4}-> `ss -ltnp` shows which program it is: stop it, or /

test.each<{
  name: string
  answers: Readonly<Record<string, FakeAnswer | null>> | null
  says: RegExp
}>([
  {
    name: 'down',
    answers: null,
    says: /\nthe daemon does not respond; these results .*\n {4}-> `systemctl enable --now hostcertd`;/,
  },
  {
    name: 'hangs',
    answers: { '/status': statusAnswer([]), '/livez': HANGS },
    says: /\nthe daemon hangs: .* since 2026-11-23T13:00:00Z; these results .*\n {4}-> `systemctl restart hostcertd`;/,
  },
  {
    name: 'hangs since it was started',
    answers: { '/status': STARTING, '/livez': { status: 503, body: '{"status":"fail","last_turn":null}' } },
    says: /\nthe daemon hangs: no pass completed yet; /,
  },
  {
    name: 'stopped, or another program that says nothing',
    answers: { '/status': null },
    says: /\nthe program listening on 127.* does not respond; .*\n {4}-> `ss -ltnp` shows which program it is: if it is hostcertd, /,
  },
  { name: 'another program on its port', answers: { '/': LIVE }, says: stranger },
  {
    name: 'a program of another sort',
    answers: { '/status': { status: 500, body: '<html>' } },
    says: stranger,
  },
  { name: 'starting', answers: { '/status': STARTING, '/livez': LIVE }, says: /^.*\n$/ },
])('the daemon is $name: told below what can be seen without it', async ({ answers, says }) => {
  await using daemon = await startFakeDaemon(answers ?? {})
  const listen = answers === null ? `127.0.0.1:${await closedPort()}` : daemon.listen
  await using host = await makeBareHost({ health: { listen } })
  await host.certify(ED25519)
  const { status, stdout } = await host.verb(['status'])
  expect(status).toBe(0)
  expect(stdout).toMatch(/^ssh_host_ed25519_key {2}valid /)
  expect(stdout).toMatch(says)
})

test('an issuer that does not answer, and clocks that differ, are told below', async () => {
  const answer = statusAnswer([], { reachable: false, clock_skew_seconds: -90 })
  await using host = await makeHostWithDaemon(answer)
  const { stdout } = await host.verb(['status'])
  expect(stdout).toBe(`no host keys found
the issuer https://issuer did not respond to the last request
    -> \`hostcertd doctor\` shows where the connection to it fails
the issuer's clock and this host's differ by 90 s
    -> ${CLOCKS_DIFFER.remedy}
`)
})

test('an sshd that is down, and what the root helper reported, are told below', async () => {
  const notes = ['left out ssh_host_rsa_key: its public half is empty', 'a\u001B[2Jb']
  const changes = { notes, sshd: { state: 'down', since: '2026-11-23T13:00:00Z' } } as const
  await using host = await makeHostWithDaemon(statusAnswer([], {}, changes))
  const { stdout } = await host.verb(['status'])
  expect(stdout).toBe(`no host keys found
sshd has been down since 2026-11-23T13:00:00Z
    -> ${SSHD_DOWN.remedy}
the root helper reported: left out ssh_host_rsa_key: its public half is empty
the root helper reported: a\\u001b[2Jb
`)
})

test('a daemon that was not restarted after an upgrade is no stranger', async () => {
  const body = '{"version":"0.1.0","enrolled":true,"issuer":{},"certificates":[]}'
  await using host = await makeHostWithDaemon({ body })
  await host.certify(ED25519)
  const { stdout } = await host.verb(['status'])
  expect(stdout).toMatch(/^ssh_host_ed25519_key {2}valid .*\n$/)
})
