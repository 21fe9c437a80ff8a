import { expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { installFromDebian, isInDebian } from '../support/fleet.ts'
import { bootEnrolledHost } from '../support/installed-host.ts'
import { describeOnEachRelease } from '../support/releases.ts'
import { readStatus, unitProperty } from '../support/status.ts'

const EXPORTER = 'prometheus-node-exporter'
const TIMER = 'hostcertd-textfile.timer'
const FILE = '/run/hostcertd-textfile/hostcertd.prom'
/** Where Debian's node_exporter looks. */
const COLLECTOR = '/var/lib/prometheus/node-exporter'
const NODE = '/usr/lib/hostcertd/bin/node'
const SCRAPE = "fetch('http://127.0.0.1:9100/metrics').then((r) => r.text()).then(console.log)"
/** The timer's minute, and a slow machine. */
const WRITTEN_MILLISECONDS = 120_000

describeOnEachRelease('the timer for the textfile collector', (release) => {
  test('node_exporter shows the metrics of hostcertd, as docs/monitoring.md says', async (context) => {
    context.skip(!(await isInDebian(release, EXPORTER)), `${release.title} has no package ${EXPORTER}`)
    await using host = await bootEnrolledHost(release)
    const { container } = host
    await installFromDebian(host, [EXPORTER])
    await container.run(['systemctl', 'daemon-reload'])
    await container.run(['systemctl', 'restart', `${EXPORTER}.service`])
    const scrape = async () => container.run([NODE, '-e', SCRAPE])
    const scraped = async (pattern: RegExp) =>
      eventually(`node_exporter shows ${pattern}`, WRITTEN_MILLISECONDS, async () =>
        (await scrape()).match(pattern),
      )
    await scraped(/^node_textfile_scrape_error 0$/m)
    expect(await scrape()).not.toContain('hostcertd_')
    expect(await unitProperty(container, TIMER, 'UnitFileState')).toBe('disabled')
    expect(await unitProperty(container, TIMER, 'ActiveState')).toBe('inactive')

    await container.sh(`systemctl enable --now ${TIMER}; ln -s ${FILE} ${COLLECTOR}/`)
    await scraped(/^hostcertd_build_info/m)
    const metrics = await scrape()
    const { certificates } = await readStatus(container)
    const shown = metrics.matchAll(
      /^hostcertd_certificate_not_after_timestamp_seconds\{.*host_key="([^"]+)".* (\S+)$/gm,
    )
    const ends = certificates.flatMap(({ host_key, valid_before }) =>
      valid_before === null ? [] : [[host_key, Date.parse(valid_before) / 1000] as const],
    )
    expect(ends.length).toBeGreaterThan(0)
    expect(new Map([...shown].map(([, key, end]) => [key, Number(end)]))).toEqual(new Map(ends))
    expect(metrics).toMatch(/^node_textfile_scrape_error 0$/m)
    const written = /^node_textfile_mtime_seconds\{file=".*hostcertd\.prom"\} (\S+)$/m
    const [, first] = await scraped(written)

    // It writes again, by itself.
    await eventually('the timer runs again', WRITTEN_MILLISECONDS, async () => {
      const [, again] = written.exec(await scrape()) ?? []
      return Number(again) > Number(first)
    })
    expect(await unitProperty(container, 'hostcertd-textfile.service', 'Result')).toBe('success')

    // After a reboot, too.
    await container.reboot()
    await scraped(/^hostcertd_build_info/m)
  })
})
