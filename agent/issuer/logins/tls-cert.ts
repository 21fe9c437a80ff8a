import { X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import { AgentError, type ErrorCode, messageOf } from '../../cert/errors.ts'
import { escapeControls, cutTo, oneLine } from '../../cert/text.ts'
import { formatTime } from '../../cert/time.ts'
import type { LoginBy } from '../../config/config.ts'
import type { MutualTls } from '../http-exchange.ts'
import { PEM_CERTIFICATE } from '../tls-roots.ts'
import { readCredential } from './credential-file.ts'
import { type LoginMethod, type LoginTools, valueOf } from './login.ts'
import { readPrivateKey } from './private-key.ts'

const LONGEST_SUBJECT = 100

/** A client certificate, shown by mutual TLS. */
export function tlsCert(settings: LoginBy<'tls-cert'>, tools: LoginTools): LoginMethod {
  return {
    route: 'tls-cert-auth',
    what: 'the client certificate',
    platform: null,
    hints: {
      400: 'most likely nothing in front of the issuer asked for a client certificate; is auth.login_url right?',
      401: 'check that the identity has the CA that signed the client certificate itself (the intermediate if there is one), and allows its common name',
    },
    async prove() {
      const { loginUrl: url, certificateFile, keyFile } = settings
      if (!url.startsWith('https://')) {
        throw failure('LOGIN_PLATFORM', `auth.login_url ${url} must be https: to show a client certificate`)
      }
      const identityId = await valueOf(settings.identityId, 'identity id', tools)
      const chain = await readChain(certificateFile, tools)
      const { pem: key, key: privateKey } = await readPrivateKey(
        keyFile,
        'key of the client certificate',
        tools,
      )
      const [own] = chain
      if (!own.checkPrivateKey(privateKey)) {
        const message = `the key in ${keyFile} does not belong to the client certificate in ${certificateFile}`
        throw failure('CREDENTIAL_UNREADABLE', message)
      }
      refuseOutOfDate(own, certificateFile, tools)
      const mutualTls = { url, certificate: chain.map(String).join(''), key }
      refuseUnusable(mutualTls, certificateFile)
      return { body: { identityId }, claims: claimsOfCertificate(own), mutualTls }
    },
  }
}

type Chain = readonly [own: X509Certificate, ...above: X509Certificate[]]

async function readChain(path: string, { readFile }: LoginTools): Promise<Chain> {
  const text = await readCredential(path, 'client certificate', readFile)
  try {
    const [own, ...above] = (text.match(PEM_CERTIFICATE) ?? []).map((pem) => new X509Certificate(pem))
    if (own !== undefined) return [own, ...above]
  } catch (error) {
    const message = `a certificate in ${path} is damaged: ${oneLine(messageOf(error))}`
    throw failure('CREDENTIAL_UNREADABLE', message, error)
  }
  throw failure('CREDENTIAL_UNREADABLE', `${path} holds no certificate in PEM form`)
}

function refuseOutOfDate(certificate: X509Certificate, path: string, { clock }: LoginTools): void {
  const now = clock.now()
  const [begin, end] = [certificate.validFromDate, certificate.validToDate].map(
    (date) => date.getTime() / 1000,
  )
  const here = `by this host's clock it is ${formatTime(now)}`
  if (end !== undefined && now > end) {
    const message = `the client certificate in ${path} expired at ${formatTime(end)}: ${here}; replace it`
    throw failure('LOGIN_PLATFORM', message)
  }
  if (begin !== undefined && now < begin) {
    const message = `the client certificate in ${path} is not valid before ${formatTime(begin)}: ${here}`
    throw failure('LOGIN_PLATFORM', message)
  }
}

/** OpenSSL has rules of its own: a key that is too short, a signature with SHA-1. */
function refuseUnusable({ certificate, key }: MutualTls, path: string): void {
  try {
    createSecureContext({ cert: certificate, key })
  } catch (error) {
    const reason = oneLine(messageOf(error)).replace(/^error:[^:]*:[^:]*:[^:]*:/, '')
    throw failure(
      'CREDENTIAL_UNREADABLE',
      `TLS cannot use the client certificate in ${path}: ${reason}`,
      error,
    )
  }
}

function claimsOfCertificate({ subject, issuer, validToDate }: X509Certificate): readonly string[] {
  // One attribute a line: `O=Example\nCN=web1`. OpenSSL escapes a line end within one.
  const inLine = (name: string): string => escapeControls(cutTo(LONGEST_SUBJECT, name.replaceAll('\n', ', ')))
  const names = [
    ['subject', subject],
    ['issuer', issuer],
  ].flatMap(([what, name = '']) => (name === '' ? [] : [`${what} ${inLine(name)}`]))
  return [...names, `expires ${formatTime(validToDate.getTime() / 1000)}`]
}

function failure(code: ErrorCode, message: string, cause?: unknown): AgentError {
  return new AgentError(code, message, { cause })
}
