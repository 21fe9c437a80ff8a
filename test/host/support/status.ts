import type { Container } from './container.ts'

/** Of `hostcertd status --json`, what the tests look at. */
export interface StatusDocument {
  readonly enrolled: boolean
  readonly certificates: readonly {
    readonly host_key: string
    readonly key_type: string
    readonly state: string
    readonly reason: string | null
    readonly serial: string | null
    readonly valid_before: string | null
    readonly served: {
      readonly serial: string | null
      readonly matches: boolean | null
      readonly checked_at: string | null
      readonly unknown: string | null
    } | null
    readonly last_error: { readonly code: string; readonly message: string } | null
  }[]
  readonly notes: readonly string[]
  readonly sshd: { readonly state: string | null; readonly since: string | null }
}

export async function readStatus(container: Container): Promise<StatusDocument> {
  return JSON.parse(await container.run(['hostcertd', 'status', '--json'])) as StatusDocument
}

const NODE = '/usr/lib/hostcertd/bin/node'
const SCRAPE = "fetch('http://127.0.0.1:9847/metrics').then((r) => r.text()).then(console.log)"

/** When the daemon last looked at everything: seconds since the epoch. */
export async function lastTurn(container: Container): Promise<number> {
  const metrics = await container.run([NODE, '-e', SCRAPE])
  const [, seconds] = /^hostcertd_loop_last_turn_timestamp_seconds (\S+)$/m.exec(metrics) ?? []
  return Number(seconds)
}

/** A property of a unit, as `systemctl show` has it. */
export async function unitProperty(container: Container, unit: string, property: string): Promise<string> {
  return (await container.run(['systemctl', 'show', '--value', `--property=${property}`, unit])).trim()
}

/** The agent's lines in the journal since the boot, oldest first. @param options of journalctl, `-p err` say */
export async function journal(
  container: Container,
  ...options: readonly string[]
): Promise<readonly string[]> {
  const argv = ['journalctl', '--boot', '--no-pager', '--quiet', '--output=cat', '--unit=hostcertd.service']
  return (await container.run([...argv, ...options])).split('\n').filter((line) => line !== '')
}
