import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { IssueAnswer, IssuerFailure } from '../../agent/renewal/ports.ts'
import { startLocalIssuer, type LocalIssuer, type LocalIssuerOptions } from '../support/local-issuer.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { makeSubject, type Subject, type Wish } from './harness.ts'

/** A local issuer with one host and one identity, and credential files that fit. */
export interface Setup extends AsyncDisposable {
  readonly server: LocalIssuer
  readonly folder: string
  readonly hostId: string
  readonly clientId: string
  readonly clientSecret: string
  readonly clientSecretFile: string
  readonly publicKey: string
  /** A new adapter that logs in by universal-auth unless told otherwise. */
  subject(wish?: Partial<Wish>): Subject
  /** `login issue issue`: the requests so far. */
  routes(): string
}

export async function setUp(
  options: Partial<LocalIssuerOptions> & { readonly tokenTtlSeconds?: number } = {},
): Promise<Setup> {
  const temporary = await makeTemporaryFolder()
  const folder = temporary.path
  const server = await startLocalIssuer({ folder, ...options })
  const hostId = server.addHost({ hostname: 'web1.example.com', ttlSeconds: 86_400 })
  const identity = server.addIdentity({ tokenTtlSeconds: options.tokenTtlSeconds ?? 2_592_000 })
  const clientSecretFile = join(folder, 'client-secret')
  await writeFile(clientSecretFile, `${identity.clientSecret}\n`)
  const publicKey = await generateKey(join(folder, 'key'), 'ed25519', 'root@web1')
  const auth = {
    method: 'universal-auth',
    organization: null,
    clientId: { value: identity.clientId },
    clientSecretFile,
  } as const
  return {
    server,
    folder,
    hostId,
    ...identity,
    clientSecretFile,
    publicKey,
    subject: (wish = {}) => makeSubject({ url: server.url, sshHostId: hostId, auth, ...wish }),
    routes: () => server.requests.map(({ path }) => nameOf(path)).join(' '),
    async [Symbol.asyncDispose]() {
      await server.stop()
      await temporary.remove()
    },
  }
}

function nameOf(path: string): string {
  if (path.endsWith('/login')) return 'login'
  if (path.endsWith('/issue-host-cert')) return 'issue'
  return path.endsWith('/host-ca-public-key') ? 'host-ca' : path
}

export function failureOf(answer: IssueAnswer): IssuerFailure {
  if (answer.ok) throw new Error('it was issued')
  return answer.failure
}
