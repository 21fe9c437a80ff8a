import { messageOf } from '../cert/errors.ts'
import { oneLine } from '../cert/text.ts'
import type { Config, HttpIssuerConfig } from '../config/config.ts'
import { loadConfig } from '../config/load.ts'
import { problemLine } from '../config/problem.ts'
import { type Enrollment, judgeCopied, readEnrollment, readMachineIdentity } from '../host/enrollment.ts'
import { runProgram } from '../host/programs.ts'
import type { ExchangeClient } from '../issuer/exchange-client.ts'
import { CONFIG_FILE } from './wanted.ts'

/** Deletes the host of a machine with `--ephemeral` when that is powered off: its unit is active from then on. */
export const EPHEMERAL_UNIT = 'hostcertd-ephemeral.service'

const LIST_JOBS = ['systemctl', 'list-jobs', '--full', '--no-legend', '--no-pager', '--plain']
const LIST_MILLISECONDS = 2_000

/** What systemd is about to do, by its jobs. */
export type Ending = 'power-off' | 'reboot' | 'neither'

/**
 * @param jobs as `systemctl list-jobs` has them: `NUMBER UNIT TYPE STATE`
 * @returns `neither` also when both are there
 */
export function endingOf(jobs: string): Ending {
  const started = [...jobs.matchAll(/^\s*\d+ +(\S+) +start +\S+\s*$/gm)].map(([, unit = '']) => unit)
  const has = (...targets: readonly string[]): boolean => targets.some((one) => started.includes(one))
  // After kexec(8) and a soft reboot the same machine goes on.
  if (has('reboot.target', 'kexec.target', 'soft-reboot.target')) return 'reboot'
  return has('poweroff.target', 'halt.target') ? 'power-off' : 'neither'
}

/** What it needs from outside. */
export interface PowerOffOptions {
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly report: (text: string) => void
  /** A child, as the same user: systemd starts nothing any more during a shutdown. */
  readonly openExchange: (issuer: HttpIssuerConfig, log: Config['log']) => ExchangeClient
}

/**
 * Delete this host at the issuer if the machine is being powered off. Whatever is not known leaves it there. Run by
 * {@link EPHEMERAL_UNIT} when it is stopped.
 *
 * @param signal the time that a shutdown may take for it
 * @returns whether it was deleted, or was not to be
 */
export async function deleteAtPowerOff(
  { environment, report, openExchange }: PowerOffOptions,
  signal: AbortSignal,
): Promise<boolean> {
  const jobs = await runProgram(LIST_JOBS, {
    timeoutMilliseconds: LIST_MILLISECONDS,
    environment: { LC_ALL: 'C', PATH: environment['PATH'] ?? '' },
    signal,
  })
  const why = jobs.status === 0 ? endingOf(jobs.stdout) : null
  if (why !== 'power-off') {
    if (why === null) {
      const reason = oneLine(jobs.failure ?? jobs.stderr)
      report(`this host stays at the issuer: cannot tell whether the machine is being powered off: ${reason}`)
    }
    return why !== null
  }
  let enrollment: Enrollment | null
  try {
    enrollment = await readEnrollment()
  } catch (error) {
    report(`this host stays at the issuer: ${messageOf(error)}`)
    return false
  }
  if (enrollment?.ephemeral !== true) return true
  if (judgeCopied(enrollment, await readMachineIdentity()) !== false) {
    report('this host stays at the issuer: this machine may be a copy of the one that was enrolled')
    return true
  }
  const loaded = await loadConfig({ path: CONFIG_FILE, environment, checkPinnedCas: false })
  if (loaded.kind !== 'ok') {
    const problems = loaded.kind === 'invalid' ? loaded.problems.map(problemLine).join('; ') : 'there is none'
    report(`this host stays at the issuer: cannot use the configuration: ${problems}`)
    return false
  }
  const { issuer, log } = loaded.config
  if (issuer.kind !== 'http' || issuer.sshHostId !== enrollment.host_id) {
    report(
      'this host stays at the issuer: the configuration names another host than the one that was enrolled',
    )
    return true
  }
  const exchange = openExchange(issuer, log)
  try {
    const answer = await exchange.deleteHost({ hostId: enrollment.host_id }, signal)
    const stays = answer.kind === 'failed' ? `: ${answer.failure.code}: ${answer.failure.message}` : null
    report(
      stays === null
        ? `deleted ${enrollment.hostname} (${enrollment.host_id}) at the issuer`
        : `this host stays at the issuer${stays}`,
    )
    return stays === null
  } finally {
    exchange.end()
  }
}
