import { command } from './commands.ts'
import type { Janitor } from './janitor.ts'

/** The host's name, as registered at the issuer and as clients call it. */
export const HOSTNAME = 'web1.example.com'

/** Two network namespaces joined by a veth pair: nothing in them can reach, or be reached by, the machine's own. */
export interface Network {
  /** Namespace of the container; outlives its reboots. */
  readonly host: string
  readonly hostAddress: string
  /** Namespace of clients and of the issuer. */
  readonly outside: string
  readonly outsideAddress: string
}

/** @param name of this test's own, short, letters and digits */
export async function makeNetwork(name: string, janitor: Janitor): Promise<Network> {
  const network: Network = {
    host: `${name}-host`,
    hostAddress: '10.77.0.2',
    outside: `${name}-out`,
    outsideAddress: '10.77.0.1',
  }
  const { host, outside: clients } = network
  const ip = (line: string) => command(['ip', ...line.split(' ')])
  for (const namespace of [host, clients]) {
    janitor.remember('netns', namespace)
    await ip(`netns add ${namespace}`)
    await ip(`-n ${namespace} link set lo up`)
  }
  await ip(`-n ${clients} link add veth0 type veth peer name host0 netns ${host}`)
  await ip(`-n ${clients} address add ${network.outsideAddress}/24 dev veth0`)
  await ip(`-n ${host} address add ${network.hostAddress}/24 dev host0`)
  await ip(`-n ${clients} link set veth0 up`)
  await ip(`-n ${host} link set host0 up`)
  return network
}

/**
 * One more host on the same outside, with an address of its own.
 *
 * @param number from 1
 */
export async function joinNetwork(
  { outside: clients, outsideAddress }: Network,
  name: string,
  number: number,
  janitor: Janitor,
): Promise<Network> {
  const [host, near, far] = [`${name}-host`, `10.77.${number}.1`, `10.77.${number}.2`]
  const ip = (line: string) => command(['ip', ...line.split(' ')])
  janitor.remember('netns', host)
  await ip(`netns add ${host}`)
  await ip(`-n ${host} link set lo up`)
  await ip(`-n ${clients} link add veth${number} type veth peer name host0 netns ${host}`)
  await ip(`-n ${clients} address add ${near}/24 dev veth${number}`)
  await ip(`-n ${host} address add ${far}/24 dev host0`)
  await ip(`-n ${clients} link set veth${number} up`)
  await ip(`-n ${host} link set host0 up`)
  await ip(`-n ${host} route add ${outsideAddress}/32 via ${near}`)
  return { host, hostAddress: far, outside: clients, outsideAddress }
}

/** The words that run a program outside the container, on the network that it is reached by. */
export function outside(network: Network): readonly string[] {
  return ['ip', 'netns', 'exec', network.outside]
}
