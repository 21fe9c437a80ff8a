import type { Container } from './container.ts'

/** Of `hostcertd status --json`, what the tests look at. */
export interface StatusDocument {
  readonly enrolled: boolean
  readonly certificates: readonly {
    readonly host_key: string
    readonly state: string
    readonly serial: string | null
    readonly valid_before: string | null
    readonly last_error: { readonly code: string; readonly message: string } | null
  }[]
}

export async function readStatus(container: Container): Promise<StatusDocument> {
  return JSON.parse(await container.run(['hostcertd', 'status', '--json'])) as StatusDocument
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
