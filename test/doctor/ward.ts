import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { ED25519, makeBareHost, memberOf, type BareHost } from '../cli/bare-host.ts'
import { startLocalIssuer, type LocalIssuer, type LocalIssuerOptions } from '../support/local-issuer.ts'
import { findingsIn, type Finding } from './findings.ts'

/** A host with all in order but for what a test breaks; its sshd has a configuration and does not run. */
export interface Ward extends AsyncDisposable {
  readonly host: BareHost
  readonly issuer: LocalIssuer
  readonly hostId: string
  readonly clientId: string
  readonly secretFile: string
  readonly caFile: string
  /** Names the host key and its certificate. */
  readonly sshdConfig: string
  /** As the host's {@link BareHost.files}, without the folder in which doctor tries whether it can write. */
  files(): Promise<string[]>
  configure(changes?: Readonly<Record<string, object | string>>): Promise<void>
  diagnose(
    ...args: readonly string[]
  ): Promise<{ readonly status: number | null; readonly findings: readonly Finding[] }>
}

export async function makeWard(
  options: Partial<LocalIssuerOptions> & {
    readonly mayRead?: boolean | 'all'
    readonly mayIssue?: boolean
  } = {},
): Promise<Ward> {
  const stack = new AsyncDisposableStack()
  const host = stack.use(await makeBareHost())
  const folder = join(host.folder, 'issuer')
  await mkdir(folder)
  const issuer = stack.use(await startLocalIssuer({ folder, ...options }))
  const hostId = issuer.addHost({ hostname: 'web1.example.com', ttlSeconds: 3600 })
  const { clientId, clientSecret } = issuer.addIdentity({
    mayIssueFor: options.mayIssue === false ? [] : [hostId],
    mayRead: options.mayRead === 'all' ? 'all' : options.mayRead === false ? [] : [hostId],
  })
  const secretFile = join(host.folder, 'client-secret')
  await writeFile(secretFile, `${clientSecret}\n`, { mode: 0o600 })
  const caFile = join(host.folder, 'issuer-ca.pub')
  await writeFile(caFile, `${issuer.caPublicKey}\n`)
  const member = memberOf({ url: issuer.url, hostId, clientId, clientSecretFile: secretFile })
  const tls = options.https === true ? { ca_file: issuer.tlsCaFile } : {}
  const usual = { ...member, issuer: { ...member.issuer, ...tls }, verify: { host_ca_file: caFile } }
  await host.certify(ED25519, { ca: issuer.caKeyPath })
  const sshdConfig = join(host.folder, 'sshd_config')
  const hostKey = host.hostKeyPath(ED25519).replace(/\.pub$/, '')
  await writeFile(sshdConfig, `HostKey ${hostKey}\nHostCertificate ${host.certificatePath(ED25519)}\n`)
  const ward: Ward = {
    host,
    issuer,
    hostId,
    clientId,
    secretFile,
    caFile,
    sshdConfig,
    files: async () => (await host.files()).filter((file) => !file.startsWith('certs ')),
    configure: async (changes = {}) => host.configure({ ...usual, ...changes }),
    diagnose: async (...args) => {
      const result = await host.verb(['doctor', '--json', '--sshd-config', sshdConfig, ...args])
      expect(result.stderr).toBe('')
      const findings = findingsIn(result.stdout)
      return { status: result.status, findings }
    },
    [Symbol.asyncDispose]: async () => stack.disposeAsync(),
  }
  await ward.configure()
  return ward
}
