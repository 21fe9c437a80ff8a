import { errorOf, type Explanation } from '../cert/errors.ts'
import { escapeControls } from '../cert/text.ts'
import { type Terminal, wrap } from '../cli/terminal.ts'
import type { Config } from '../config/config.ts'
import type { User } from '../host/file-access.ts'
import { type FINDING_STATUSES, ISSUER_STEPS } from '../issuer/exchange-protocol.ts'
import type { Attempts } from '../renewal/attempts.ts'
import type { CertifiableView, HostKeyView } from '../renewal/judge.ts'
import type { Host } from '../renewal/ports.ts'

/** The steps, in their order. `doctor --json` names them; each has a line or more. */
export const STEPS = [
  'configuration',
  'programs',
  'credentials',
  ...ISSUER_STEPS,
  'host-keys',
  'certificates',
  'names',
  'directory',
  'daemon',
  'sshd-config',
  'user-ca',
  'reload',
  'served',
  'selinux',
] as const

export type Step = (typeof STEPS)[number]

/** `skipped`: there was nothing to examine; `unknown`: it could not be found out, which is neither good nor bad. */
export type FindingStatus = (typeof FINDING_STATUSES)[number]

/** One line of the diagnosis. */
export interface Finding<S extends Step = Step> {
  readonly step: S
  readonly status: FindingStatus
  /** What was found, or why nothing was examined. */
  readonly message: string
  /** What to do; null when there is nothing. */
  readonly remedy: string | null
}

/**
 * The remedy of the catalogue, beginning in lower case as every remedy of the diagnosis.
 *
 * @param what a code, perhaps one that only another version has; or a condition without one
 */
export function remedyOf(what: string | Explanation): string {
  const { remedy } = typeof what === 'string' ? (errorOf(what) ?? { remedy: 'see the message' }) : what
  return `${remedy.charAt(0).toLowerCase()}${remedy.slice(1)}`
}

export function ok<S extends Step>(step: S, message: string): Finding<S> {
  return { step, status: 'ok', message, remedy: null }
}

export function warning<S extends Step>(step: S, message: string, remedy: string): Finding<S> {
  return { step, status: 'warning', message, remedy }
}

export function failure<S extends Step>(step: S, message: string, remedy: string): Finding<S> {
  return { step, status: 'failure', message, remedy }
}

export function skipped<S extends Step>(step: S, message: string, remedy: string | null = null): Finding<S> {
  return { step, status: 'skipped', message, remedy }
}

/** @param remedy how it can be found out */
export function unknown<S extends Step>(step: S, message: string, remedy: string | null = null): Finding<S> {
  return { step, status: 'unknown', message, remedy }
}

/** In the order of {@link STEPS}. */
export function inOrder(findings: readonly Finding[]): readonly Finding[] {
  return findings.toSorted((a, b) => STEPS.indexOf(a.step) - STEPS.indexOf(b.step))
}

export function hasFailure(findings: readonly Finding[]): boolean {
  return findings.some(({ status }) => status === 'failure')
}

/** What is wrong, and for which host keys it is the reason that sshd does not present their certificates. */
export interface Cause {
  readonly finding: Finding
  readonly keys: readonly CertifiableView[]
}

/** The status for these host keys. */
export type Tone = (concerned: readonly CertifiableView[]) => typeof failure

/** The unit is ssh.service on Debian and Ubuntu, sshd.service elsewhere. */
export const RELOAD_SSHD = '`sshd -t && systemctl reload ssh` (sshd)'

/** The remedy for a missing service account token. */
export function projectToken(tokenFile: string): string {
  return `project a service account token into this pod at ${tokenFile} (a volume of type projected), or correct auth.token_file; the kubelet replaces it before it expires`
}

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

/** The host that is examined. Nothing of it is written to. */
export interface Examined {
  readonly config: Config
  /** Of the main configuration file. */
  readonly configPath: string
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly host: Host
  /** Loaded; what is changed in it is never saved. */
  readonly attempts: Attempts
  /** The user that runs this. */
  readonly self: User
  readonly isRoot: boolean
  /** The daemon's user: the owner of the state directory, else the user that runs this. */
  readonly daemonUser: User
  /** The user of the exchange's unit, which reads the credentials; null where the exchange is a child of the daemon. */
  readonly exchangeUser: User | null
  /** The command that starts an exchange as a child; run by root, it becomes the daemon's user. */
  readonly exchangeProgram: readonly string[]
  /** The file of `--sshd-config`, else that of the system. */
  readonly sshdConfigFile: string
  readonly signal: AbortSignal
}

const STATUS_WIDTH = 8
const STEP_WIDTH = 14
/** Below the step. */
const INDENT = ' '.repeat(STATUS_WIDTH + 1)
const ARROW = `${INDENT}-> `
/** SGR codes. */
const COLOURS: Readonly<Record<FindingStatus, number>> = {
  ok: 32,
  warning: 33,
  failure: 31,
  skipped: 2,
  unknown: 33,
}

/** A line for each finding, its remedy below it, and a line that sums up. */
export function formatFindings(findings: readonly Finding[], { colour, columns }: Terminal): string {
  const lines = findings.flatMap(({ status, step, message, remedy }) => {
    const head = `${status.padEnd(STATUS_WIDTH)} ${step.padEnd(STEP_WIDTH)} `
    const [first = '', ...more] = wrap(escapeControls(message), columns, head, INDENT)
    const line = colour ? `\u001B[${COLOURS[status]}m${status}\u001B[0m${first.slice(status.length)}` : first
    const advice = remedy === null ? [] : wrap(escapeControls(remedy), columns, ARROW)
    return [line, ...more, ...advice]
  })
  return [...lines, summaryOf(findings)].map((line) => `${line}\n`).join('')
}

/** "Nothing is wrong" only if everything could be examined. */
function summaryOf(findings: readonly Finding[]): string {
  const of = (status: FindingStatus): readonly Finding[] =>
    findings.filter((finding) => finding.status === status)
  const count = (status: FindingStatus, one: string, many: string): string[] => {
    const { length } = of(status)
    return length === 0 ? [] : [`${length} ${length === 1 ? one : many}`]
  }
  const parts = [...count('failure', 'failure', 'failures'), ...count('warning', 'warning', 'warnings')]
  const unseen = [...new Set(of('unknown').map(({ step }) => step))].join(', ')
  if (parts.length > 0) return `${parts.join(', ')}${unseen === '' ? '' : `; could not check: ${unseen}`}`
  return unseen === '' ? 'no problems found' : `no problems found; could not check: ${unseen}`
}
