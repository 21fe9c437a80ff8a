import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { makeTemporaryFolder } from '../../support/temporary-folder.ts'
import { makeClient, type Client } from './client.ts'
import { Container } from './container.ts'
import { Janitor } from './janitor.ts'
import { makeNetwork, type Network } from './network.ts'
import { baseRoot, type Release } from './releases.ts'
import { startRemoteIssuer, type RemoteIssuer } from './remote-issuer.ts'

/** A booted host without the package, an issuer and a client around it. `await using` removes all. */
export interface Host extends AsyncDisposable {
  readonly container: Container
  readonly network: Network
  readonly issuer: RemoteIssuer
  readonly client: Client
}

let hosts = 0

/** Boot a bare host of this release; root may log in with the client's key. */
export async function bootHost(release: Release): Promise<Host> {
  const janitor = new Janitor()
  try {
    const { path: folder } = await makeTemporaryFolder()
    janitor.remember('folder', folder)
    hosts += 1
    const name = `hostcertd${process.pid}x${hosts}`
    const network = await makeNetwork(name, janitor)
    const [issuerFolder, clientFolder] = [join(folder, 'issuer'), join(folder, 'client')]
    for (const path of [issuerFolder, clientFolder]) await mkdir(path)
    const container = new Container({ name, folder, baseRoot: baseRoot(release), network, janitor })
    await container.prepare()
    const issuer = await startRemoteIssuer(network, issuerFolder)
    const client = await makeClient(network, clientFolder, issuer.facts.caPublicKey)
    await container.write('/root/.ssh/authorized_keys', `${client.publicKey}\n`, 0o600)
    // Or each login would start, and each end stop, a systemd of root's own.
    await container.write('/var/lib/systemd/linger/root', '')
    await container.boot()
    const remove = async () => {
      await issuer[Symbol.asyncDispose]()
      await janitor[Symbol.asyncDispose]()
    }
    return { container, network, issuer, client, [Symbol.asyncDispose]: remove }
  } catch (error) {
    await janitor[Symbol.asyncDispose]()
    throw error
  }
}
