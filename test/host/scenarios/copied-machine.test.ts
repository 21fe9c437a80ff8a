import { expect, test } from 'vitest'
import type { Container } from '../support/container.ts'
import { eventually } from '../support/eventually.ts'
import { sharedEnrolledHost, untilServed } from '../support/installed-host.ts'
import { describeOnEachRelease } from '../support/releases.ts'
import { readStatus } from '../support/status.ts'

const ENROLLMENT = '/var/lib/hostcertd-enroll/enrollment.json'
const SETTING = '/etc/hostcertd/conf.d/60-on-copy.yaml'
const INSTANCE_ID = '/var/lib/cloud/data/instance-id'
const NODE = '/usr/lib/hostcertd/bin/node'
const READYZ =
  "fetch('http://127.0.0.1:9847/readyz').then(async (r) => console.log(r.status, (await r.json()).reason))"
const RESTART = ['systemctl', 'restart', 'hostcertd.service']

describeOnEachRelease('a machine that was copied after it was enrolled', (release) => {
  const shared = sharedEnrolledHost(release)

  test('the packaged daemon warns, with stop renews nothing, and goes on when it is accepted', async () => {
    const { container, client, issuer } = shared()
    const machineId = (await container.run(['cat', '/etc/machine-id'])).trim()
    await container.run(['mkdir', '-p', '-m', '755', '/var/lib/hostcertd-enroll', '/var/lib/cloud/data'])
    await container.write(INSTANCE_ID, 'i-first\n', 0o644)
    await container.write(ENROLLMENT, enrollmentOf(machineId, 'i-first'), 0o644)
    await container.run(RESTART)
    await untilCopied(container, false)
    expect(await readyz(container)).toBe('200 undefined\n')

    // As in a copy whose first boot made it another.
    await container.write('/etc/machine-id', `${'c'.repeat(32)}\n`, 0o444)
    await container.run(RESTART)
    await untilCopied(container, true)
    await untilServed(shared())
    expect(await readyz(container)).toBe('200 machine-copied\n')
    const warnings = async (): Promise<number> =>
      (await logLines(container)).filter((line) => line.includes('its machine-id differs')).length
    expect(await warnings()).toBe(1)

    await container.write(SETTING, 'enrollment: { on_copy: stop }\n', 0o644)
    const signed = await issuer.ask({ do: 'count' })
    // Nothing else renews a certificate that is gone.
    const [lost = ''] = (await container.sh('ls /var/lib/hostcertd/certs/*ed25519*')).split('\n')
    await container.sh(`mv ${lost} /root/kept.pub`)
    await container.run(RESTART)
    await eventually('it counts as not enrolled', 30_000, async () => !(await readStatus(container)).enrolled)
    expect(await readyz(container)).toBe('503 not-enrolled: this machine was copied\n')
    const renewed = await container.try(['hostcertd', 'renew', '--force'])
    expect([renewed.status, renewed.stderr]).toEqual([1, expect.stringContaining('MACHINE_COPIED')])
    const due = await container.try(['hostcertd', 'needs-renewal'])
    expect([due.status, due.stdout, due.stderr]).toEqual([255, '', expect.stringContaining('MACHINE_COPIED')])
    expect(await doctorLines(container)).toContain('nothing is renewed on this copied machine')
    expect(await doctorLines(container)).not.toMatch(/hostcertd renew/)
    expect(await issuer.ask({ do: 'count' })).toBe(signed)
    const lacking = await container.try(['hostcertd', 'check'])
    expect([lacking.status, lacking.stdout]).toEqual([2, expect.stringContaining('no certificate')])

    // The certificates in place are served, and judged.
    await container.sh(`mv /root/kept.pub ${lost}; systemctl kill --signal=USR1 --kill-whom=main hostcertd`)
    await eventually('check judges what is left', 60_000, async () => {
      const { status, stdout } = await container.try(['hostcertd', 'check'])
      return status === 0 && stdout.includes('this machine was copied')
    })
    expect(await client.verifyAll()).toEqual([])
    expect(await issuer.ask({ do: 'count' })).toBe(signed)

    // A copy by the other evidence too, then accepted as it is.
    await container.write('/etc/machine-id', `${machineId}\n`, 0o444)
    await container.write(INSTANCE_ID, 'i-second\n', 0o644)
    await eventually('the log names the instance id', 90_000, async () =>
      (await logLines(container)).some((line) => line.includes("the platform's instance id differs")),
    )
    await container.write(ENROLLMENT, enrollmentOf(machineId, 'i-second'), 0o644)
    await untilCopied(container, false)
    expect((await readStatus(container)).enrolled).toBe(true)
    await container.run(['hostcertd', 'renew', '--force'])
    await untilServed(shared())
    expect(await issuer.ask({ do: 'count' })).not.toBe(signed)
    await container.run(['rm', '-r', SETTING, '/var/lib/hostcertd-enroll', '/var/lib/cloud'])
    await container.run(RESTART)
    await untilServed(shared())
  }, 300_000)
})

function enrollmentOf(machineId: string, instanceId: string): string {
  return JSON.stringify({
    version: 1,
    machine_id: machineId,
    instance_id: { cloud_init: instanceId, board_asset_tag: null },
    host_keys: [],
    enrolled_at: '2026-11-23T12:00:00Z',
    enrolled_by: 'root',
    hostcertd: '0.2.0',
    host_id: '8c1efcfc-434c-4c43-80e3-53c9eae6672a',
    hostname: 'web1.example.com',
    ephemeral: false,
  })
}

/** As the daemon has it: without it, verbs of root's would look themselves. */
async function untilCopied(container: Container, copied: boolean): Promise<void> {
  const metric = `hostcertd_machine_copied ${Number(copied)}\n`
  const scrape = "fetch('http://127.0.0.1:9847/metrics').then((r) => r.text()).then(console.log)"
  await eventually(`the daemon has found copied: ${copied}`, 90_000, async () =>
    (await container.try([NODE, '-e', scrape])).stdout.includes(metric),
  )
}

/** Of the journals of both machine-ids: without `--merge` journalctl reads that of the present one alone. */
async function logLines(container: Container): Promise<readonly string[]> {
  const argv = ['journalctl', '--merge', '--no-pager', '--output=cat', '--unit=hostcertd.service']
  return (await container.run(argv)).split('\n')
}

/** What doctor, which may issue, says of the attempt and of the certificates. */
async function doctorLines(container: Container): Promise<string> {
  const { stdout } = await container.try(['hostcertd', 'doctor', '--issue', '--json'])
  const findings = JSON.parse(stdout) as readonly { readonly step: string }[]
  return findings
    .filter(({ step }) => step === 'certificates' || step === 'issue')
    .map((finding) => JSON.stringify(finding))
    .join('\n')
}

async function readyz(container: Container): Promise<string> {
  return container.run([NODE, '-e', READYZ])
}
