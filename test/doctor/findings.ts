import type { Finding, Step } from '../../agent/doctor/finding.ts'

export type { Finding, FindingStatus, Step } from '../../agent/doctor/finding.ts'

/** What `doctor --json` printed. */
export function findingsIn(stdout: string): readonly Finding[] {
  return JSON.parse(stdout) as readonly Finding[]
}

/** Those of one step. */
export function of(step: Step, findings: readonly Finding[]): readonly Finding[] {
  return findings.filter((finding) => finding.step === step)
}

/** The steps that fail, or are warned of, each once: `['tls failure']`. */
export function troubles(findings: readonly Finding[]): readonly string[] {
  const bad = findings.filter(({ status }) => status === 'failure' || status === 'warning')
  return [...new Set(bad.map(({ step, status }) => `${step} ${status}`))]
}
