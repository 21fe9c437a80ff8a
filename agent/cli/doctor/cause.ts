import type { CertifiableView, HostKeyView } from '../../renewal/judge.ts'
import { failure, warning, type Finding } from './finding.ts'

/** What is wrong, and for which host keys it is the reason that sshd does not present their certificates. */
export interface Cause {
  readonly finding: Finding
  readonly keys: readonly CertifiableView[]
}

/** How bad it is for these host keys. */
export type Tone = (concerned: readonly CertifiableView[]) => typeof failure

/** The unit is ssh.service on Debian and Ubuntu, sshd.service elsewhere. */
export const RELOAD_SSHD = '`sshd -t && systemctl reload ssh` (sshd)'

/** Whether sshd was seen to present exactly what is on disk. */
export function isProvenServed({ served }: HostKeyView): boolean {
  return served.kind === 'certificate' && served.matches
}

/** A key that sshd was seen not to offer is a warning while another is served. */
export function toneFor(keys: readonly HostKeyView[]): Tone {
  const isServed = keys.some(isProvenServed)
  return (concerned) =>
    isServed && concerned.every(({ state }) => state.state === 'ignored') ? warning : failure
}
