import { X509Certificate } from 'node:crypto'
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls'
import { AgentError } from '../cert/errors.ts'
import { reasonOf } from '../cert/text.ts'
import { readBoundedFile, fileVersion } from '../host/files.ts'

/** Both in PEM form. */
export interface ClientCertificate {
  readonly certificate: string
  readonly key: string
}

/** A whole system's bundle is about 250 KiB. */
const CA_FILE_LIMIT_BYTES = 1024 * 1024

export const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g

/**
 * Whom TLS trusts: the system's store (Node's own list where there is none), NODE_EXTRA_CA_CERTS, and `ca_file`.
 * The context is built at first use and again when `ca_file` changes. Node reads the system's store once a process.
 */
export class TlsRoots {
  readonly #caFile: string | null
  #built: { readonly version: string; readonly context: SecureContext } | null = null

  constructor(caFile: string | null) {
    this.#caFile = caFile
  }

  /** @throws AgentError CONFIG_INVALID when `ca_file` cannot be read or is not PEM */
  async context(): Promise<SecureContext> {
    const version = this.#caFile === null ? '' : await versionOf(this.#caFile)
    if (this.#built?.version === version) return this.#built.context
    const context = createSecureContext({ ca: await this.#all() })
    this.#built = { version, context }
    return context
  }

  /**
   * One that shows a client certificate too.
   *
   * @throws AgentError CONFIG_INVALID as {@link context} does; OpenSSL's error when key and certificate do not fit
   */
  async contextWith({ certificate, key }: ClientCertificate): Promise<SecureContext> {
    return createSecureContext({ ca: await this.#all(), cert: certificate, key })
  }

  /**
   * The certificates themselves, for a diagnosis.
   *
   * @throws AgentError CONFIG_INVALID as {@link context} does
   */
  async certificates(): Promise<{
    readonly inCaFile: X509Certificate[]
    readonly inStore: X509Certificate[]
  }> {
    const parse = (pem: string): X509Certificate => new X509Certificate(pem)
    return { inCaFile: (await this.#inCaFile()).map(parse), inStore: commonRoots().map(parse) }
  }

  async #all(): Promise<string[]> {
    return [...new Set([...commonRoots(), ...(await this.#inCaFile())])]
  }

  async #inCaFile(): Promise<string[]> {
    return this.#caFile === null ? [] : readCaFile(this.#caFile)
  }
}

function commonRoots(): string[] {
  const system = getCACertificates('system')
  return [...(system.length > 0 ? system : getCACertificates('bundled')), ...getCACertificates('extra')]
}

/** Differs when the file was written to or replaced. */
async function versionOf(path: string): Promise<string> {
  // Reading it reports why.
  return fileVersion(path).catch(() => 'unreadable')
}

/** Node takes a file without any certificate for an empty list, so each one is looked at here. */
async function readCaFile(path: string): Promise<string[]> {
  let text: string
  try {
    text = await readBoundedFile(path, CA_FILE_LIMIT_BYTES)
  } catch (error) {
    throw new AgentError('CONFIG_INVALID', `cannot read issuer.ca_file ${path}: ${reasonOf(error)}`, {
      cause: error,
    })
  }
  const certificates = text.match(PEM_CERTIFICATE) ?? []
  if (certificates.length === 0) {
    throw new AgentError('CONFIG_INVALID', `issuer.ca_file ${path} holds no certificate in PEM form`)
  }
  const damaged = certificates.findIndex((certificate) => !isCertificate(certificate))
  if (damaged === -1) return certificates
  throw new AgentError('CONFIG_INVALID', `certificate ${damaged + 1} in issuer.ca_file ${path} is damaged`)
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).raw.length > 0
  } catch {
    return false
  }
}
