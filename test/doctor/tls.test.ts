import { appendFile, writeFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { createServer } from 'node:tls'
import { expect, test } from 'vitest'
import { shakeHands } from '../../agent/doctor/connections.ts'
import { tlsFinding } from '../../agent/doctor/tls.ts'
import { send } from '../../agent/issuer/http.ts'
import { TlsRoots } from '../../agent/issuer/tls-roots.ts'
import { listen, NEVER, startRawServer } from '../issuer/harness.ts'
import { issueTlsCertificate } from '../support/local-issuer/tls-certificate.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { of, troubles, type Finding } from './findings.ts'
import { makeWard } from './ward.ts'

const ROOT = issueTlsCertificate({ name: 'Example Root CA' })
const ISSUING = issueTlsCertificate({ name: 'Example Issuing CA', issuer: ROOT })
const OWN = issueTlsCertificate({ name: 'web', issuer: ISSUING, isCa: false })
const DIRECT = issueTlsCertificate({ name: 'web', issuer: ROOT, isCa: false })
const SELF_SIGNED = issueTlsCertificate({ name: 'web', isCa: false })
const OTHER_ROOT = issueTlsCertificate({ name: 'Another Root CA' })
const NAMESAKE = issueTlsCertificate({ name: 'Example Root CA' })
const ENDED = issueTlsCertificate({
  name: 'web',
  issuer: ROOT,
  isCa: false,
  startsInDays: -9,
  endsInDays: -1,
})
const EARLY = issueTlsCertificate({ name: 'web', issuer: ROOT, isCa: false, startsInDays: 9 })
const ELSEWHERE = issueTlsCertificate({ name: 'web', issuer: ROOT, isCa: false, address: '127.0.0.9' })
const PAST = { startsInDays: -9, endsInDays: -1 }
const ENDED_ISSUING = issueTlsCertificate({ name: 'Old Issuing CA', issuer: ROOT, ...PAST })
const BELOW_ENDED = issueTlsCertificate({ name: 'web', issuer: ENDED_ISSUING, isCa: false })
const ENDED_ROOT = issueTlsCertificate({ name: 'Old Root CA', ...PAST })
const BELOW_ENDED_ROOT = issueTlsCertificate({ name: 'web', issuer: ENDED_ROOT, isCa: false })

type Issued = Pick<typeof ROOT, 'certificate' | 'key'>

/** What the server sends, its own first, and what `ca_file` holds. */
interface Given {
  readonly sent: readonly [Issued, ...Issued[]]
  readonly caFile: readonly Issued[] | null
}

interface Row extends Given {
  readonly name: string
  readonly message: RegExp
  readonly remedy: RegExp
  /** What the remedy makes of it. */
  readonly fixes: readonly Partial<Given>[]
}

const ROWS: readonly Row[] = [
  {
    name: 'an intermediate that the server does not send',
    sent: [OWN],
    caFile: [ROOT],
    message:
      /the server does not send the certificate of "Example Issuing CA", and it is not in the system's store or in .*tls-ca\.pem \(UNABLE_TO_VERIFY_LEAF_SIGNATURE\)$/,
    remedy:
      /^if "Example Issuing CA" is an intermediate CA, have the server send its certificate too .*, or add it to .*tls-ca\.pem in addition to the root CA's; if it is the root CA, add the certificate \(PEM\) of "Example Issuing CA" to /,
    fixes: [{ sent: [OWN, ISSUING] }, { caFile: [ROOT, ISSUING] }],
  },
  {
    name: 'a root CA that nobody told about',
    sent: [DIRECT],
    caFile: null,
    message:
      /the server does not send the certificate of "Example Root CA", and it is not in the system's store \(/,
    remedy:
      /if it is the root CA, write the certificate \(PEM\) of "Example Root CA" to a file and set issuer\.ca_file to its path; if you do not expect that CA, the connection is intercepted$/,
    fixes: [{ caFile: [ROOT] }],
  },
  {
    name: 'ca_file holds the intermediate, which the server sends too',
    sent: [OWN, ISSUING],
    caFile: [ISSUING],
    message:
      /tls-ca\.pem contains "Example Issuing CA", an intermediate CA, but not the root CA above it, "Example Root CA" \(UNABLE_TO_GET_ISSUER_CERT\)$/,
    remedy: /^add the certificate \(PEM\) of "Example Root CA" to \S+tls-ca\.pem$/,
    fixes: [{ caFile: [ISSUING, ROOT] }, { caFile: [ROOT] }],
  },
  {
    name: 'ca_file holds the intermediate, which the server does not send',
    sent: [OWN],
    caFile: [ISSUING],
    message: /tls-ca\.pem contains "Example Issuing CA", an intermediate CA, but not the root CA above it/,
    remedy:
      /^add the certificate \(PEM\) of "Example Root CA" to \S+, and keep "Example Issuing CA" there: the server does not send it$/,
    fixes: [{ caFile: [ISSUING, ROOT] }],
  },
  {
    name: 'ca_file holds the intermediate, and the server sends the root too',
    sent: [OWN, ISSUING, ROOT],
    caFile: [ISSUING],
    message:
      /its root CA "Example Root CA" is not in .* \(which contains "Example Issuing CA", an intermediate CA\) \(/,
    remedy: /^add the certificate \(PEM\) of "Example Root CA" to /,
    fixes: [{ caFile: [ISSUING, ROOT] }],
  },
  {
    name: "ca_file holds the server's own certificate",
    sent: [OWN, ISSUING],
    caFile: [OWN],
    message:
      /the CA above "Example Issuing CA", "Example Root CA", is not in .*; \S+ contains the server's own certificate, but the certificate of its CA is required \(/,
    remedy: /^add the certificate \(PEM\) of "Example Root CA" to /,
    fixes: [{ caFile: [OWN, ROOT] }],
  },
  {
    name: "ca_file holds the server's own certificate, and that is all that it sends",
    sent: [DIRECT],
    caFile: [DIRECT],
    message: /does not send the certificate of "Example Root CA".*contains the server's own certificate, but/,
    remedy: /if it is the root CA, add the certificate \(PEM\) of "Example Root CA" to /,
    fixes: [{ caFile: [DIRECT, ROOT] }],
  },
  {
    name: 'another root CA in ca_file, and the server sends its own',
    sent: [OWN, ISSUING, ROOT],
    caFile: [OTHER_ROOT],
    message: /its root CA "Example Root CA" is not in .* \(SELF_SIGNED_CERT_IN_CHAIN\)$/,
    remedy:
      /^add the certificate \(PEM\) of "Example Root CA" to .*; if you do not expect that CA, the connection is/,
    fixes: [{ caFile: [OTHER_ROOT, ROOT] }],
  },
  {
    name: 'a root CA of the same name and another key',
    sent: [OWN, ISSUING],
    caFile: [NAMESAKE],
    message: /the CA "Example Root CA" in \S+tls-ca\.pem has a different key from the one that signed it \(/,
    remedy:
      /^replace it in \S+tls-ca\.pem with the current certificate \(PEM\) of "Example Root CA"; if you do/,
    fixes: [{ caFile: [ROOT] }],
  },
  {
    name: 'self-signed',
    sent: [SELF_SIGNED],
    caFile: null,
    message: /it is self-signed and not in the system's store \(DEPTH_ZERO_SELF_SIGNED_CERT\)$/,
    remedy:
      /^if it is the issuer's own \(SHA-256 fingerprint (?:[0-9A-F]{2}:){31}[0-9A-F]{2}\), write that certificate \(PEM\) to a file and set issuer\.ca_file to its path; if not/,
    fixes: [{ caFile: [SELF_SIGNED] }],
  },
  {
    name: 'expired',
    sent: [ENDED],
    caFile: [ROOT],
    message: /: it has expired \(CERT_HAS_EXPIRED\)$/,
    remedy: /^have the TLS certificate of 127\.0\.0\.1 renewed; if `date` is wrong, set the clock/,
    fixes: [{ sent: [DIRECT] }],
  },
  {
    name: 'an expired intermediate',
    sent: [BELOW_ENDED, ENDED_ISSUING],
    caFile: [ROOT],
    message: /: that of the CA "Old Issuing CA" expired at \d{4}-.* \(CERT_HAS_EXPIRED\)$/,
    remedy: /^have the server send a current certificate of "Old Issuing CA"; if `date` is wrong/,
    fixes: [{ sent: [OWN, ISSUING] }],
  },
  {
    name: 'an expired root CA in ca_file',
    sent: [BELOW_ENDED_ROOT],
    caFile: [ENDED_ROOT],
    message: /: that of the CA "Old Root CA" expired at \d{4}-.* \(CERT_HAS_EXPIRED\)$/,
    remedy: /^add a current certificate of "Old Root CA" \(PEM\) to \S+tls-ca\.pem; if `date` is wrong/,
    fixes: [{ sent: [DIRECT], caFile: [ROOT] }],
  },
  {
    name: 'not valid yet',
    sent: [EARLY],
    caFile: [ROOT],
    message: /: it is not valid yet \(CERT_NOT_YET_VALID\)$/,
    remedy: /^set the clock of this host: `timedatectl set-ntp true`$/,
    fixes: [{ sent: [DIRECT] }],
  },
  {
    name: 'for another name',
    sent: [ELSEWHERE],
    caFile: [ROOT],
    message:
      /: it is for localhost, 127\.0\.0\.9, (?:0:0:0:0:0:0:0|:):1, not for 127\.0\.0\.1 \(ERR_TLS_CERT_ALTNAME_INVALID\)$/,
    remedy: /^set issuer\.url to a name that the certificate is for, or have one issued for 127\.0\.0\.1$/,
    fixes: [{ sent: [DIRECT] }],
  },
]

test.each(ROWS)('$name: the cause, and the remedy works', async ({ message, remedy, fixes, ...given }) => {
  await using folder = await makeTemporaryFolder()
  const before = await tryOut(given, folder.path)
  expect(before.finding).toMatchObject({
    status: 'failure',
    message: expect.stringMatching(message) as string,
    remedy: expect.stringMatching(remedy) as string,
  })
  expect(before.status).toBeNull()
  for (const fix of fixes)
    expect(await tryOut({ ...given, ...fix }, folder.path)).toMatchObject({
      finding: { status: 'ok' },
      status: 200,
    })
})

/** What doctor says of a server, and the status of a request to it; null when none gets through. */
async function tryOut(
  { sent, caFile }: Given,
  folder: string,
): Promise<{ readonly finding: Finding; readonly status: number | null }> {
  const [own] = sent
  const chain = { key: own.key, certificate: sent.map(({ certificate }) => certificate).join('') }
  await using server = await startRawServer((_request, response) => response.writeHead(200).end(), chain)
  const path = caFile === null ? null : join(folder, 'tls-ca.pem')
  if (path !== null) await writeFile(path, (caFile ?? []).map(({ certificate }) => certificate).join(''))
  const end = { host: '127.0.0.1', port: server.port }
  const shaken = await shakeHands(end, null, path, NEVER)
  if (!shaken.ok) throw new Error(shaken.why)
  const question = {
    setting: 'issuer.url' as const,
    host: end.host,
    caFile: path,
    proxyVariable: null,
    now: Date.now() / 1000,
  }
  const request = { url: new URL(server.url), method: 'GET', headers: {}, body: null } as const
  const reply = await send(request, new TlsRoots(path), NEVER).catch(() => null)
  return { finding: tlsFinding(shaken, question), status: reply?.status ?? null }
}

test('doctor names the missing root CA, and with it renew and doctor are content', async () => {
  await using ward = await makeWard()
  const chain = { key: OWN.key, cert: OWN.certificate + ISSUING.certificate }
  await using front = await startTlsFront(chain, ward.issuer.port)
  const caFile = join(ward.host.folder, 'tls-ca.pem')
  const issuer = { url: `https://127.0.0.1:${front.port}`, ssh_host_id: ward.hostId, ca_file: caFile }
  await ward.configure({ issuer })
  await writeFile(caFile, ISSUING.certificate)
  const { findings } = await ward.diagnose()
  expect(troubles(findings)).toEqual(['tls failure'])
  expect(of('tls', findings)[0]?.remedy).toBe(`add the certificate (PEM) of "Example Root CA" to ${caFile}`)
  expect(await ward.host.verb(['renew', '--force', '--dry-run'])).toMatchObject({ status: 1 })
  await appendFile(caFile, ROOT.certificate)
  expect(await ward.host.verb(['renew', '--force', '--dry-run'])).toMatchObject({ status: 0 })
  expect(troubles((await ward.diagnose()).findings)).toEqual([])
})

/** TLS in front of an issuer that speaks http. */
async function startTlsFront(
  chain: { readonly key: string; readonly cert: string },
  port: number,
): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createServer(chain, (client: Socket) => {
    const upstream = connect(port, '127.0.0.1')
    client.pipe(upstream).pipe(client)
    client.on('error', () => {}).on('close', () => upstream.destroy())
    upstream.on('error', () => {}).on('close', () => client.destroy())
  })
  server.on('tlsClientError', () => {})
  return listen(server)
}
