import { readFile } from 'node:fs/promises'
import type { Host } from './host.ts'
import type { ProjectFacts } from './issuer-messages.ts'

export const TEMPLATE = '/etc/hostcertd/enroll.json'
const TLS_CA = '/etc/ssl/issuer-ca.pem'

/** The words for `enroll` by which a host registers itself with a secret; the secret and the TLS roots are in the host then. */
export async function registeringWords({ container, issuer }: Host): Promise<readonly string[]> {
  const permissions = { mayCreate: true, mayRead: 'all', mayIssueFor: 'all', mayDelete: 'all' } as const
  const identity = (await issuer.ask({ do: 'add-identity', permissions })) as {
    clientId: string
    clientSecret: string
  }
  await container.write(TLS_CA, await readFile(issuer.facts.tlsCaFile, 'utf8'))
  await container.write('/root/secret', identity.clientSecret, 0o600)
  const project = ((await issuer.ask({ do: 'project' })) as ProjectFacts).id
  const issuerWords = `--url ${issuer.facts.url} --ca-file ${TLS_CA} --project ${project} --register --ttl 30d`
  const login = `--auth universal-auth --client-id ${identity.clientId} --client-secret-file /root/secret`
  return `${issuerWords} ${login} --jitter 2s --yes`.split(' ')
}
