/** The steps of the way, in their order. `doctor --json` names them; a line each, or one for each thing looked at. */
export const STEPS = [
  'configuration',
  'programs',
  'credentials',
  'name',
  'tcp',
  'tls',
  'issuer',
  'clock',
  'login',
  'permission',
  'issue',
  'host-keys',
  'certificates',
  'directory',
  'daemon',
  'sshd-config',
  'reload',
  'served',
  'selinux',
] as const

export type Step = (typeof STEPS)[number]

export type FindingStatus = 'ok' | 'warning' | 'failure' | 'skipped'

/** One line of the diagnosis. */
export interface Finding {
  readonly step: Step
  readonly status: FindingStatus
  /** What was found, or why nothing was looked at. */
  readonly message: string
  /** What to do; null when there is nothing. */
  readonly remedy: string | null
}

export function ok(step: Step, message: string): Finding {
  return { step, status: 'ok', message, remedy: null }
}

export function warning(step: Step, message: string, remedy: string): Finding {
  return { step, status: 'warning', message, remedy }
}

export function failure(step: Step, message: string, remedy: string): Finding {
  return { step, status: 'failure', message, remedy }
}

export function skipped(step: Step, message: string, remedy: string | null = null): Finding {
  return { step, status: 'skipped', message, remedy }
}

export function hasFailure(findings: readonly Finding[]): boolean {
  return findings.some(({ status }) => status === 'failure')
}
