import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { bootHost, type Host } from './support/host.ts'
import { install } from './support/installed-host.ts'
import { HOSTNAME } from './support/network.ts'
import { describeOnEachRelease } from './support/releases.ts'
import { servedCertificates } from './support/served.ts'

const TLS_CA = '/etc/ssl/issuer-ca.pem'

describeOnEachRelease('enroll', (release) => {
  test('one line makes the host a member, the same line changes nothing, unenroll takes all back', async () => {
    await using host = await bootHost(release)
    const { container, client } = host
    await install(host, 'deb')
    const before = await stateOfEtc(host)
    const line = await enrollLine(host)

    const first = JSON.parse(await container.sh(`${line} --yes --json`)) as Enrolled
    expect(first).toMatchObject({ changed: true, hostname: HOSTNAME })
    expect(await client.verifyAll()).toEqual([])
    expect(await servedCertificates(host)).toHaveLength(3)
    expect(await container.try(['sh', '-c', `${line} --check`])).toMatchObject({ status: 0 })
    const second = JSON.parse(await container.sh(`${line} --yes --json`)) as Enrolled
    expect(second).toMatchObject({ changed: false, steps: [], host_id: first.host_id })

    expect(await container.try(['hostcertd', 'unenroll', '--check'])).toMatchObject({ status: 2 })
    await container.run(['hostcertd', 'unenroll', '--yes'])
    expect(await stateOfEtc(host)).toBe(before)
    expect(await client.logIn(null)).toMatchObject({ stdout: 'hello\n' })
    expect(await servedCertificates(host)).toEqual([])
    expect(await container.try(['hostcertd', 'unenroll', '--check'])).toMatchObject({ status: 0 })
  })
})

interface Enrolled {
  readonly changed: boolean
  readonly host_id: string
  readonly hostname: string
  readonly steps: readonly object[]
  readonly known_hosts: string
}

/** The line for a host that is registered already, with the secret in a file. */
async function enrollLine({ container, issuer }: Host): Promise<string> {
  const hostId = String(await issuer.ask({ do: 'add-host', hostname: HOSTNAME, ttlSeconds: 86_400 }))
  const identity = (await issuer.ask({ do: 'add-identity' })) as { clientId: string; clientSecret: string }
  await container.write(TLS_CA, await readFile(issuer.facts.tlsCaFile, 'utf8'))
  await container.write('/root/secret', identity.clientSecret, 0o600)
  return [
    `hostcertd enroll --url ${issuer.facts.url} --ca-file ${TLS_CA} --host-id ${hostId} --hostname ${HOSTNAME}`,
    `--auth universal-auth --client-id ${identity.clientId} --client-secret-file /root/secret`,
  ].join(' ')
}

/** Every file below /etc/ssh and /etc/hostcertd: its path, mode, owner and content. */
async function stateOfEtc({ container }: Host): Promise<string> {
  return container.sh(
    `find /etc/ssh /etc/hostcertd /etc/default -printf '%p %m %U:%G %y\\n' | sort
    find /etc/ssh /etc/hostcertd /etc/default -type f -exec sha256sum {} + | sort -k 2`,
  )
}
