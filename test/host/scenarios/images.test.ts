import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { listCertificate } from '../../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../../support/temporary-folder.ts'
import { makeClient, type Client } from '../support/client.ts'
import { Container } from '../support/container.ts'
import { eventually } from '../support/eventually.ts'
import { bootHost, type Host } from '../support/host.ts'
import { install } from '../support/installed-host.ts'
import type { Registered } from '../support/issuer-messages.ts'
import { Janitor } from '../support/janitor.ts'
import { HOSTNAME, joinNetwork } from '../support/network.ts'
import { describeOnEachRelease } from '../support/releases.ts'
import { readStatus, unitProperty } from '../support/status.ts'
import { registeringWords, TEMPLATE } from '../support/template.ts'

const SERVICE = 'hostcertd-enroll.service'
const ENROLLED_MILLISECONDS = 120_000
/** Of a shutdown beyond what it takes anyway. */
const MOST_DELAY_MILLISECONDS = 10_000

/** What image tools put into an image whose host keys they removed. */
const MAKES_HOST_KEYS = `[Unit]
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
Before=ssh.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'sleep 3; ssh-keygen -A'
[Install]
WantedBy=multi-user.target
`

describeOnEachRelease('images', (release) => {
  test('two copies that boot at once each enroll themselves, and a copy of one of them is noticed', async () => {
    await using source = await bootHost(release)
    await using janitor = new Janitor()
    const { container, issuer } = source
    await install(source, 'deb')
    await container.write('/etc/systemd/system/regenerate_ssh_host_keys.service', MAKES_HOST_KEYS)
    await container.run(['systemctl', 'enable', 'regenerate_ssh_host_keys.service'])
    const words = await registeringWords(source)
    await container.run(['hostcertd', 'enroll', '--template', '--shared-secret', ...words])
    const secret = await container.run(['cat', '/root/secret'])
    await container.run(['rm', '/root/secret'])
    await container.powerOff()

    const clones = [await copyOf(source, container, 1, janitor), await copyOf(source, container, 2, janitor)]
    await Promise.all(clones.map(async (clone) => clone.container.boot()))
    await Promise.all(clones.map(async (clone) => untilEnrolled(clone)))
    const hosts = (await issuer.ask({ do: 'hosts' })) as Registered
    expect(Object.keys(hosts).toSorted()).toEqual(['clone1.example.com', 'clone2.example.com'])
    for (const clone of clones) {
      expect(await clone.client.verifyAll()).toEqual([])
      const id = hosts[clone.hostname]
      expect(await listCertificate(join(clone.container.root, SERVED))).toContain(`Key ID: "host-${id}"`)
      expect(await clone.container.run(['cat', ENROLLMENT])).toContain('"enrolled_by": "first boot"')
      expect((await clone.container.try(['test', '-e', TEMPLATE])).status).toBe(1)
    }

    const [first] = clones
    if (first === undefined) throw new Error('no clone')
    await first.container.reboot()
    expect(await unitProperty(first.container, SERVICE, 'ConditionResult')).toBe('no')
    expect(await first.client.verifyAll()).toEqual([])
    await first.container.powerOff()
    expect(await issuer.ask({ do: 'hosts' })).toEqual(hosts)

    const third = await copyOf(source, first.container, 3, janitor)
    await third.container.boot()
    const { container: copy } = third
    // Not the status alone: as long as the daemon is silent, the verb looks itself.
    await eventually('the copy is noticed', 120_000, async () =>
      (await copy.run(['journalctl', '--no-pager', '--unit=hostcertd'])).includes('its machine-id differs'),
    )
    expect(JSON.stringify(await readStatus(copy))).toContain('"copied":true')
    await copy.write('/etc/hostcertd/conf.d/60-stop.yaml', 'enrollment: { on_copy: stop }\n')
    await copy.run(['systemctl', 'restart', 'hostcertd.service'])
    const signed = await issuer.ask({ do: 'count' })
    await eventually('it counts as not enrolled', 30_000, async () => !(await readStatus(copy)).enrolled)
    const renewed = await copy.try(['hostcertd', 'renew', '--force'])
    expect([renewed.status, renewed.stderr]).toEqual([1, expect.stringContaining('MACHINE_COPIED')])
    expect(await issuer.ask({ do: 'count' })).toBe(signed)
    expect(await issuer.ask({ do: 'hosts' })).toEqual(hosts)

    // It becomes a host of its own.
    await copy.run(['rm', '/etc/hostcertd/conf.d/60-stop.yaml'])
    await copy.run(['hostcertd', 'unenroll', '--yes'])
    await copy.write('/root/secret', secret, 0o600)
    await copy.run(['hostcertd', 'enroll', ...words])
    expect(await third.client.verifyAll()).toEqual([])
    expect(Object.keys((await issuer.ask({ do: 'hosts' })) as Registered).toSorted()).toEqual([
      'clone1.example.com',
      'clone2.example.com',
      'clone3.example.com',
    ])
    expect(JSON.stringify(await readStatus(copy))).toContain('"copied":false')
  }, 900_000)

  test('an ephemeral machine is deleted at power-off, not at reboot, and comes back', async () => {
    await using host = await bootHost(release)
    const { container, client, issuer } = host
    await install(host, 'deb')
    const words = await registeringWords(host)
    const enrolled = await container.try(['hostcertd', 'enroll', '--ephemeral', ...words])
    expect(enrolled).toMatchObject({
      status: 0,
      stderr: expect.stringContaining('right to delete') as string,
    })
    const again = await container.try(['hostcertd', 'enroll', '--ephemeral', ...words, '--check'])
    expect(again).toMatchObject({ status: 0 })
    const hosts = async () => (await issuer.ask({ do: 'hosts' })) as Registered
    const before = await hosts()
    expect(Object.keys(before)).toEqual([HOSTNAME])

    await container.reboot()
    expect(await hosts()).toEqual(before)
    await eventually('it has looked', ENROLLED_MILLISECONDS, async () => hasEnded(container))
    expect(await hosts()).toEqual(before)

    await container.powerOff()
    expect(await hosts()).toEqual({})
    await container.boot()
    await eventually('it is registered again', ENROLLED_MILLISECONDS, async () => HOSTNAME in (await hosts()))
    await eventually('it has ended', ENROLLED_MILLISECONDS, async () => hasEnded(container))
    const back = await hosts()
    expect(back[HOSTNAME]).not.toBe(before[HOSTNAME])
    expect(await container.run(['cat', ENROLLMENT])).toContain(back[HOSTNAME])
    expect(await client.verifyAll()).toEqual([])

    // Nothing is known of what a halted machine does next, but that it does not go on.
    await container.run(['systemctl', 'restart', 'hostcertd-ephemeral.service'])
    expect(await hosts()).toEqual(back)
    await issuer.ask({ do: 'fail-always', fault: { kind: 'hang' } })
    const since = performance.now()
    await container.powerOff()
    expect(performance.now() - since).toBeLessThan(MOST_DELAY_MILLISECONDS + USUAL_SHUTDOWN_MILLISECONDS)
    await issuer.ask({ do: 'heal' })
    expect(await hosts()).toEqual(back)
    await container.boot()
    const said = ['journalctl', '--no-pager', '--output=cat', '--unit=hostcertd-ephemeral.service']
    expect(await container.run(said)).toContain('this host stays at the issuer: no answer within 7 s')
  }, 600_000)
})

const ENROLLMENT = '/var/lib/hostcertd-enroll/enrollment.json'
const SERVED = 'etc/ssh/hostcertd/ssh_host_ed25519_key-cert.pub'
const USUAL_SHUTDOWN_MILLISECONDS = 5_000

interface Clone {
  readonly container: Container
  readonly client: Client
  readonly hostname: string
}

/** A copy of a machine that is powered off, as image tools make it: without machine-id and host keys, with its own name. */
async function copyOf(source: Host, from: Container, number: number, janitor: Janitor): Promise<Clone> {
  const { path: folder } = await makeTemporaryFolder()
  janitor.remember('folder', folder)
  const [name, shortName] = [`hostcertd${process.pid}c${number}`, `clone${number}`]
  const network = await joinNetwork(source.network, name, number, janitor)
  const container = new Container({ name, folder, baseRoot: from.root, network, janitor, shortName })
  await container.prepare()
  const inRoot = (path: string): string => join(container.root, path)
  const hostname = `${shortName}.example.com`
  await writeFile(inRoot('etc/machine-id'), '')
  // systemd would take that one.
  await rm(inRoot('var/lib/dbus/machine-id'), { force: true })
  await writeFile(inRoot('etc/hostname'), `${shortName}\n`)
  await writeFile(inRoot('etc/hosts'), `127.0.0.1 localhost\n127.0.1.1 ${hostname} ${shortName}\n`)
  for (const type of ['ed25519', 'ecdsa', 'rsa'])
    for (const end of ['', '.pub']) await rm(inRoot(`etc/ssh/ssh_host_${type}_key${end}`), { force: true })
  const ofClient = join(folder, 'client')
  await mkdir(ofClient)
  const client = await makeClient(network, ofClient, source.issuer.facts.caPublicKey, hostname)
  const keys = await readFile(inRoot('root/.ssh/authorized_keys'), 'utf8')
  await writeFile(inRoot('root/.ssh/authorized_keys'), `${keys}${client.publicKey}\n`)
  return { container, client, hostname }
}

async function untilEnrolled({ container }: Clone): Promise<void> {
  try {
    await eventually('the template is used up', ENROLLED_MILLISECONDS, async () => {
      return (await container.try(['test', '-e', TEMPLATE])).status === 1
    })
    await eventually('the service has ended', ENROLLED_MILLISECONDS, async () => hasEnded(container))
  } catch (cause) {
    const said = await container.run([
      'journalctl',
      '--boot',
      '--no-pager',
      '--output=cat',
      `--unit=${SERVICE}`,
    ])
    throw new Error(said, { cause })
  }
}

/** With success. */
async function hasEnded(container: Container): Promise<boolean> {
  const [state, result, condition] = await Promise.all(
    ['ActiveState', 'Result', 'ConditionResult'].map(async (name) => unitProperty(container, SERVICE, name)),
  )
  return state === 'inactive' && result === 'success' && condition === 'yes'
}
