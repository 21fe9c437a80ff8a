import { argv, stdin, stdout } from 'node:process'
import { createInterface } from 'node:readline'
import { startLocalIssuer } from '../../support/local-issuer.ts'
import type { IssuerAnswer, IssuerFacts, IssuerRequest, ProjectFacts, Registered } from './issuer-messages.ts'
import { LoginServices } from './login-services.ts'

/**
 * The local issuer as a process of its own, for it has to run in the network namespace of the test:
 * `issuer-process.ts FOLDER ADDRESS`. A line of JSON in, a line of JSON out; it ends with its stdin.
 */
const [folder = '', address = ''] = argv.slice(2)
const issuer = await startLocalIssuer({ folder, address, https: true })
const logins = new LoginServices()
const { url, caPublicKey, caKeyPath, tlsCaFile } = issuer
answer({ ok: true, value: { url, caPublicKey, caKeyPath, tlsCaFile } satisfies IssuerFacts })

for await (const line of createInterface({ input: stdin })) {
  try {
    answer({ ok: true, value: await carryOut(JSON.parse(line) as IssuerRequest) })
  } catch (error) {
    answer({ ok: false, message: String(error) })
  }
}
await issuer.stop()
// The login servers and the metadata service end with the process.
process.exit()

function carryOut(request: IssuerRequest): unknown {
  switch (request.do) {
    case 'add-host':
      return issuer.addHost(request)
    case 'add-identity':
      return issuer.addIdentity(request.permissions)
    case 'add-admin-token':
      return issuer.addToken({ mayRead: 'all', mayCreate: true, mayDelete: 'all' })
    case 'add-token':
      return issuer.addToken(request.permissions)
    case 'remove-host':
      return issuer.removeHost(request.hostId)
    case 'project':
      return { id: issuer.projectId, slug: issuer.projectSlug } satisfies ProjectFacts
    case 'rotate-host-ca':
      return issuer.rotateCa().then(() => issuer.caPublicKey)
    case 'set-ttl':
      return issuer.setTtl(request.hostId, request.seconds)
    case 'fail-always':
      return issuer.failAlways(request.fault, request.route ?? null)
    case 'hosts':
      return issuer.hosts satisfies Registered
    case 'heal':
      return issuer.heal()
    case 'stop':
      return issuer.stop()
    case 'start':
      return issuer.start()
    case 'count':
      return issuer.issued.length
    case 'count-requests':
      return issuer.requests.length
    case 'open-logins':
      return logins.open(issuer, address, request.identityId, request.clientCa)
    case 'accept-logins':
      return logins.accept(request.accepted)
    case 'run-metadata':
      return logins.runMetadata(request.role)
    case 'seen-logins':
      return logins.seen()
  }
}

function answer(message: IssuerAnswer): void {
  stdout.write(`${JSON.stringify(message)}\n`)
}
