import { expect, test } from 'vitest'
import { sharedEnrolledHost } from '../support/installed-host.ts'
import { HOSTNAME } from '../support/network.ts'
import { describeOnEachRelease } from '../support/releases.ts'

const COMPLETED =
  '; by web1 alone only those that complete it (`CanonicalizeHostname yes` in their ssh_config)'
const alsoCalled = (names: string) => ({
  status: 'warning',
  message: `this host is also called ${names}, which is not in the certificate: a client that connects by that name finds no known host key ("No … host key is known")`,
  remedy: `connect by ${HOSTNAME}, or set \`HostKeyAlias ${HOSTNAME}\` for that name in the clients' ssh_config; to have it in the certificate instead, register it at the issuer`,
})

/** Its resolver reads /etc/hosts first, and there is no DNS: what stands there is what it knows. */
describeOnEachRelease('what doctor says of the names of a host', (release) => {
  const shared = sharedEnrolledHost(release)

  test.each([
    {
      title: 'its name has its address, and back',
      hosts: (own: string) => `${own} ${HOSTNAME} web1`,
      want: [
        {
          status: 'ok',
          message: `clients that resolve ${HOSTNAME} to this host, as it does itself, can use it${COMPLETED}`,
          remedy: null,
        },
      ],
    },
    {
      title: 'its name is known on itself only',
      hosts: (_own: string) => `127.0.1.1 ${HOSTNAME} web1`,
      want: [
        {
          status: 'ok',
          message: `clients that can resolve ${HOSTNAME} can use it${COMPLETED}; here it is 127.0.1.1, which says nothing about DNS`,
          remedy: null,
        },
      ],
    },
    {
      title: 'its address has another name, too, which is in no certificate',
      hosts: (own: string) => `127.0.1.1 ${HOSTNAME} web1\n${own} nas.example.com`,
      want: [
        { status: 'ok', message: expect.stringContaining('which says nothing about DNS') as string },
        alsoCalled('nas.example.com'),
      ],
    },
    {
      title: 'it is called otherwise than its certificate',
      hosts: (own: string) => `127.0.1.1 db.internal.example.com web1\n${own} ${HOSTNAME}`,
      want: [
        { status: 'ok', message: expect.stringContaining(`resolve ${HOSTNAME} to this host`) as string },
        alsoCalled('db.internal.example.com'),
      ],
    },
    {
      title: 'its name has the address of another',
      hosts: (own: string) => `192.0.2.9 ${HOSTNAME}\n${own} web1`,
      want: [
        {
          status: 'unknown',
          message: `the certificate is for ${HOSTNAME}, whose address (192.0.2.9) is none of this host's own`,
          remedy:
            'right behind NAT or a load balancer that passes connections to this host; otherwise correct the DNS record',
        },
      ],
    },
    {
      title: 'the resolver does not know its name',
      hosts: (own: string) => `${own} web1`,
      want: [
        {
          status: 'unknown',
          message: `the certificate is for ${HOSTNAME}, which could not be resolved on this host`,
          remedy: 'if clients cannot resolve it either, add a DNS record for it',
        },
      ],
    },
  ])('$title', async ({ hosts, want }) => {
    const { container, network } = shared()
    await container.write('/etc/hosts', `127.0.0.1 localhost\n${hosts(network.hostAddress)}\n`)
    const { stdout } = await container.try(['hostcertd', 'doctor', '--json'])
    const findings = JSON.parse(stdout) as { step: string }[]
    expect(findings.filter(({ step }) => step === 'names')).toMatchObject(want)
  })
})
