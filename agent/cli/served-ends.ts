import type { UnixSeconds } from '../core/time.ts'

const SERIES =
  /^hostcertd_served_certificate_not_after_timestamp_seconds\{host_key="((?:[^"\\]|\\.)*)",.*\} (\S+)$/gm

/**
 * When the certificates that sshd presents end, by host key name, from the daemon's metrics: the status document does
 * not tell.
 *
 * @param metrics in the Prometheus text format; null for none
 */
export function servedEndsIn(metrics: string | null): ReadonlyMap<string, UnixSeconds> {
  return new Map(
    [...(metrics ?? '').matchAll(SERIES)].map(([, name = '', value = '']) => [
      name.replaceAll(/\\(.)/g, (_, character: string) => (character === 'n' ? '\n' : character)),
      value === '+Inf' ? Infinity : Number(value),
    ]),
  )
}
