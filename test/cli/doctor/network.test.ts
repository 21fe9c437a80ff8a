import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { closedPort, startRawServer } from '../../adapters/issuer/harness.ts'
import { makeTlsCertificate } from '../../support/local-issuer/tls-certificate.ts'
import { hostcertd } from '../hostcertd.ts'
import { isInstalled } from '../typed.ts'
import { testBroken } from './broken.ts'
import { findingsIn, of, troubles } from './findings.ts'
import { makeWard } from './ward.ts'

const run = promisify(execFile)
const HAS_OPENSSL = await isInstalled('openssl')

testBroken([
  {
    name: 'a name that nobody knows',
    breakIt: async (ward) =>
      ward.configure({ issuer: { url: 'https://issuer.invalid', ssh_host_id: ward.hostId } }),
    troubles: ['name failure'],
    message: /cannot resolve issuer\.invalid/,
    remedy: /getent hosts issuer\.invalid/,
  },
  {
    name: 'nobody listens',
    breakIt: async ({ issuer }) => issuer.stop(),
    troubles: ['tcp failure'],
    message: /cannot connect to 127\.0\.0\.1:\d+: connection refused/,
    remedy: /nobody listens there/,
  },
  {
    name: 'a TLS CA that nobody here trusts',
    options: { https: true },
    breakIt: async (ward) => ward.configure({ issuer: { url: ward.issuer.url, ssh_host_id: ward.hostId } }),
    troubles: ['tls failure'],
    message: /its CA is trusted by nobody here \(DEPTH_ZERO_SELF_SIGNED_CERT\)/,
    remedy: /put its certificate \(PEM\) in a file and set issuer\.ca_file/,
  },
  {
    name: 'a ca_file without a certificate',
    options: { https: true },
    breakIt: async ({ issuer }) => writeFile(issuer.tlsCaFile, 'not PEM\n'),
    troubles: ['tls failure'],
    message: /issuer\.ca_file .* holds no certificate/,
    remedy: /put the PEM certificates of the TLS CA there/,
  },
  {
    name: 'https to a server that speaks http',
    breakIt: async (ward) => {
      const url = ward.issuer.url.replace('http', 'https')
      await ward.configure({ issuer: { url, ssh_host_id: ward.hostId } })
    },
    troubles: ['tls failure'],
    message: /no TLS with 127\.0\.0\.1:\d+: wrong version number/,
    remedy: /speak https\? correct issuer\.url/,
  },
])

test('a TLS certificate for another name', async () => {
  const tls = makeTlsCertificate('127.0.0.9')
  await using server = await startRawServer((_request, response) => response.end(), tls)
  await using ward = await makeWard()
  const caFile = join(ward.host.folder, 'tls-ca.pem')
  await writeFile(caFile, tls.certificate)
  await ward.configure({ issuer: { url: server.url, ssh_host_id: ward.hostId, ca_file: caFile } })
  const { findings } = await ward.diagnose()
  expect(troubles(findings)).toEqual(['tls failure'])
  expect(of('tls', findings)[0]?.message).toMatch(/it is not for 127\.0\.0\.1$/)
  expect(of('tls', findings)[0]?.remedy).toBe('set issuer.url to a name that the certificate is for')
  expect(server.seen).toEqual([])
})

test.skipIf(!HAS_OPENSSL)('a TLS certificate that soon ends (skipped without openssl)', async () => {
  await using ward = await makeWard()
  const key = join(ward.host.folder, 'tls.key')
  const certificate = join(ward.host.folder, 'tls.pem')
  const subject = ['-subj', '/CN=short', '-addext', 'subjectAltName=IP:127.0.0.1']
  const made = ['-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '3', '-keyout', key, '-out', certificate]
  await run('openssl', ['req', ...made, ...subject])
  const tls = { key: await readFile(key, 'utf8'), certificate: await readFile(certificate, 'utf8') }
  await using server = await startRawServer((_request, response) => response.writeHead(503).end(), tls)
  await ward.configure({ issuer: { url: server.url, ssh_host_id: ward.hostId, ca_file: certificate } })
  const { findings } = await ward.diagnose()
  expect(of('tls', findings)[0]).toMatchObject({
    status: 'warning',
    message: expect.stringMatching(/"short", signed by "short", good until .*: it ends in 2d 23h$/) as string,
    remedy: 'have the TLS certificate of 127.0.0.1 renewed',
  })
})

test("behind a proxy, name, connection and TLS are the proxy's", async () => {
  await using ward = await makeWard({ https: true })
  const proxy = `http://user:hidden@127.0.0.1:${await closedPort()}`
  const diagnose = async (environment: Readonly<Record<string, string>>) =>
    hostcertd(['doctor', '--json', '--config', ward.host.configPath], { environment })
  const { stdout } = await diagnose({ HTTPS_PROXY: proxy })
  const findings = findingsIn(stdout)
  expect(of('tcp', findings)[0]).toMatchObject({ status: 'skipped' })
  expect(of('tcp', findings)[0]?.message).toContain('through the proxy 127.0.0.1:')
  expect(of('issuer', findings)[0]).toMatchObject({ status: 'failure' })
  expect(stdout).not.toContain('hidden')

  const exempt = await diagnose({ HTTPS_PROXY: proxy, NO_PROXY: 'example.com, 127.0.0.1' })
  expect(of('tcp', findingsIn(exempt.stdout))[0]).toMatchObject({ status: 'ok' })
})
