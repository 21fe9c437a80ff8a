import { beforeAll, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { installFromDebian } from '../support/fleet.ts'
import { type EnrolledHost, sharedEnrolledHost } from '../support/installed-host.ts'
import { HOSTNAME } from '../support/network.ts'
import { describeOnEachRelease } from '../support/releases.ts'

const NODE = '/usr/lib/hostcertd/bin/node'
/** Of a package from Debian's archive, on a slow machine. */
const INSTALL_MILLISECONDS = 600_000
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
    expect(await findingsOfNames(shared())).toMatchObject(want)
  })
})

const SERVER_MILLISECONDS = 10_000
const NO_ANSWER = `the certificate is for ${HOSTNAME}; the resolver gave no answer to what its addresses are`

/** Its names are in DNS alone, whose server is on the host itself: Debian's dnsmasq, or a socket that never answers. */
describeOnEachRelease('what doctor says of the names of a host by DNS', (release) => {
  const shared = sharedEnrolledHost(release)

  beforeAll(async () => {
    const { container } = shared()
    await installFromDebian(shared(), ['dnsmasq-base'])
    await container.write('/etc/hosts', '127.0.0.1 localhost\n')
    await container.sh(
      'echo nameserver 127.0.0.1 >/etc/resolv.conf; echo search example.com >>/etc/resolv.conf',
    )
  }, INSTALL_MILLISECONDS)

  test('forward and reverse agree', async () => {
    await using _ = await dns(shared(), (own) => [`host-record=${HOSTNAME},${own}`])
    expect(await findingsOfNames(shared())).toMatchObject([
      {
        status: 'ok',
        message: `clients that resolve ${HOSTNAME} to this host, as it does itself, can use it${COMPLETED}`,
      },
    ])
  })

  test('the reverse record has another name, in upper case', async () => {
    await using _ = await dns(shared(), (own) => [
      `address=/${HOSTNAME}/${own}`,
      `ptr-record=${own.split('.').toReversed().join('.')}.in-addr.arpa,NAS.example.com`,
    ])
    expect(await findingsOfNames(shared())).toMatchObject([
      { status: 'ok', message: expect.stringContaining(`resolve ${HOSTNAME} to this host`) as string },
      alsoCalled('nas.example.com'),
    ])
  })

  test('the name is an alias of another, which is in no certificate', async () => {
    await using _ = await dns(shared(), (own) => [
      `cname=${HOSTNAME},rack7.example.com`,
      `host-record=rack7.example.com,${own}`,
    ])
    expect(await findingsOfNames(shared())).toMatchObject([
      { status: 'ok', message: expect.stringContaining(`resolve ${HOSTNAME} to this host`) as string },
      alsoCalled('rack7.example.com'),
    ])
  })

  test('DNS does not know the name', async () => {
    await using _ = await dns(shared(), () => ['local=/example.com/', 'local=/in-addr.arpa/'])
    expect(await findingsOfNames(shared())).toMatchObject([
      {
        status: 'unknown',
        message: `the certificate is for ${HOSTNAME}, which could not be resolved on this host`,
      },
      { status: 'unknown', message: expect.stringContaining('could not find out') as string },
    ])
  })

  test('the server never answers: nothing is known, and nothing is claimed', async () => {
    await using _ = await service(
      shared(),
      `${NODE} -e "require('node:dgram').createSocket('udp4').bind(53, '127.0.0.1')"`,
    )
    expect(await findingsOfNames(shared())).toMatchObject([
      { status: 'unknown', message: NO_ANSWER },
      { status: 'unknown', message: expect.stringContaining('could not find out its full name') as string },
    ])
  })
})

async function findingsOfNames({ container }: EnrolledHost): Promise<readonly unknown[]> {
  const { stdout } = await container.try(['hostcertd', 'doctor', '--json'])
  return (JSON.parse(stdout) as { step: string }[]).filter(({ step }) => step === 'names')
}

/** A server for names on the host. @param lines of its configuration, by the address of the host */
async function dns(host: EnrolledHost, lines: (own: string) => readonly string[]): Promise<AsyncDisposable> {
  const basis = ['no-resolv', 'no-hosts', 'listen-address=127.0.0.1', 'bind-interfaces', 'user=root']
  const configuration = [...basis, ...lines(host.network.hostAddress)]
  await host.container.write('/srv/dns.conf', `${configuration.join('\n')}\n`)
  return service(host, 'dnsmasq --keep-in-foreground --conf-file=/srv/dns.conf')
}

/** Runs a name server in the host until the test has ended; it has its socket when this returns. */
async function service({ container }: EnrolledHost, line: string): Promise<AsyncDisposable> {
  await container.sh(`systemd-run --quiet --collect --unit=test-dns ${line}`)
  const stop = async () => void (await container.try(['systemctl', 'stop', 'test-dns']))
  try {
    await eventually('the name server listens', SERVER_MILLISECONDS, async () =>
      (await container.sh('cat /proc/net/udp')).includes(' 0100007F:0035 '),
    )
  } catch (error) {
    await stop()
    throw error
  }
  return { [Symbol.asyncDispose]: stop }
}
