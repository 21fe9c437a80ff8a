import { publicKeyText } from '../cert/public-key.ts'
import { reasonOf } from '../cert/text.ts'
import { failureLine } from '../cli/context.ts'
import { factsOf, whyDenied } from '../host/file-access.ts'
import { isSocket } from '../host/files.ts'
import { EXCHANGE_SOCKET, type ExchangeWay } from '../issuer/exchange-channel.ts'
import { createExchangeClient, isOfExchange } from '../issuer/exchange-client.ts'
import { type DiagnosisQuestion, ISSUER_STEPS } from '../issuer/exchange-protocol.ts'
import { waitOf } from '../renewal/backoff.ts'
import { type CertifiableView, type HostKeyView, isCertifiable } from '../renewal/judge.ts'
import { type Facts, isUnreadable } from '../renewal/observe.ts'
import type { IssuerFailure } from '../renewal/ports.ts'
import {
  failure,
  type Finding,
  hasFailure,
  ok,
  type Examined,
  remedyOf,
  skipped,
  unknown,
} from './finding.ts'

const START = '`systemctl enable --now hostcertd-exchange.socket`'
const SEE_LOG = "see `journalctl -u 'hostcertd-exchange*'`"

/**
 * The way to the issuer, from its name to a certificate. The exchange examines it, with the credential, the proxy and the
 * sandbox that also count for the daemon: on a packaged host the unit's, elsewhere a child, as the daemon's user.
 *
 * @param credentials what was found of the credential files
 * @param issue whether to have certificates issued
 */
export async function examineWayToIssuer(
  examined: Examined,
  credentials: readonly Finding[],
  facts: Facts,
  views: readonly HostKeyView[],
  issue: boolean,
): Promise<Finding[]> {
  const { exchangeUser, isRoot, self, daemonUser } = examined
  const trial = issue ? trialOf(examined, facts, views) : NO_TRIAL
  const isAsked = trial.issueFor.length > 0
  const program = await examineCommand(examined)
  const isCommand = examined.config.issuer.kind === 'command'
  const rest = isCommand ? [] : skipOthers(isAsked)
  if (exchangeUser !== null && !isSocket(EXCHANGE_SOCKET)) {
    const message = `the socket ${EXCHANGE_SOCKET} is missing; requests to the issuer go through it`
    return [...program, failure('issuer', message, START), ...rest, ...trial.findings]
  }
  if (exchangeUser !== null && !isRoot && self.uid !== daemonUser.uid) {
    const message = `only root and the daemon's user can connect to ${EXCHANGE_SOCKET}, which carries the requests to the issuer`
    const finding = unknown('issuer', message, 'run `sudo hostcertd doctor`')
    return [...program, finding, ...rest, ...trial.findings]
  }
  if (isCommand && (hasFailure(program) || !isAsked)) return [...program, ...trial.findings]
  const answer = await ask(examined, {
    login: !credentials.some(
      // A file that this user cannot read may be readable for the unit.
      ({ status }) => status === 'failure' || (status === 'unknown' && exchangeUser === null),
    ),
    pinned: pinnedOf(facts, examined),
    principals: examined.config.verify.principals === null ? null : [...examined.config.verify.principals],
    issueFor: trial.issueFor,
  })
  if (!answer.ok) {
    const finding = failure(
      'issuer',
      failureLineOf(answer.failure),
      exchangeRemedy(answer.failure, exchangeUser !== null),
    )
    return [...program, finding, ...rest, ...trial.findings]
  }
  const way =
    exchangeUser === null
      ? []
      : [ok('issuer', `requests go through ${EXCHANGE_SOCKET} and run as user ${exchangeUser.uid}`)]
  return [...program, ...way, ...answer.findings, ...trial.findings]
}

async function ask(
  { config, exchangeUser, exchangeProgram, host, signal }: Examined,
  question: DiagnosisQuestion,
) {
  const way: ExchangeWay =
    exchangeUser === null
      ? { program: exchangeProgram, socket: null, mayBeChild: true }
      : { program: [], socket: EXCHANGE_SOCKET, mayBeChild: false }
  const { clock, metrics } = host
  const exchange = createExchangeClient({ ...way, settings: config, clock, metrics })
  try {
    return await exchange.diagnose(question, signal)
  } finally {
    exchange.end()
  }
}

/** Without the code if the issuer was not even asked: its codes are about the issuer. */
function failureLineOf(failed: IssuerFailure): string {
  return isOfExchange(failed) ? failed.message : failureLine(failed)
}

function exchangeRemedy(failed: IssuerFailure, isUnit: boolean): string {
  if (isOfExchange(failed))
    return isUnit
      ? `${SEE_LOG}; ${START}`
      : 'see its standard error on this terminal; Node and the program must be readable by this user'
  if (failed.code === 'CONFIG_INVALID') return 'correct that; then `systemctl reload hostcertd`'
  return remedyOf(failed.code)
}

function skipOthers(isIssueAsked: boolean): Finding[] {
  return ISSUER_STEPS.filter((step) => step !== 'issuer' && (step !== 'issue' || isIssueAsked)).map((step) =>
    skipped(step, 'not checked: the exchange process did not answer'),
  )
}

/** The host keys to have a certificate issued for, and why not for others. */
interface Trial {
  readonly issueFor: DiagnosisQuestion['issueFor']
  readonly findings: readonly Finding[]
}

const NO_TRIAL: Trial = {
  issueFor: [],
  findings: [skipped('issue', 'not tried; to issue and verify certificates, use --issue')],
}

/** Nothing is written, not even the attempt; nor is the lock taken, as its file might have to be created. */
function trialOf(
  { attempts, host }: Examined,
  { pinned, machine }: Facts,
  views: readonly HostKeyView[],
): Trial {
  if (machine.stopped !== null)
    return {
      issueFor: [],
      findings: [skipped('issue', 'not tried: this machine was copied (enrollment.on_copy: stop)')],
    }
  if (isUnreadable(pinned)) return { issueFor: [], findings: [skipped('issue', 'needs the pinned CAs')] }
  const keys = views.filter(isCertifiable)
  if (keys.length === 0)
    return { issueFor: [], findings: [skipped('issue', 'no host key to issue a certificate for')] }
  const issueFor: Trial['issueFor'] = []
  const findings: Finding[] = []
  for (const view of keys) {
    const wait = waitOf(attempts, view.subject.identity, true)
    if (wait === null) issueFor.push(wantedFor(view))
    else {
      const seconds = Math.ceil(wait.until - host.clock.now())
      const message = `${view.name}: the login is locked for ${seconds} s more (${wait.code})`
      findings.push(skipped('issue', message))
    }
  }
  return { issueFor, findings }
}

function wantedFor({ name, subject, text }: CertifiableView): Trial['issueFor'][number] {
  const { key, comment } = subject
  return { name, publicKey: `${publicKeyText(key)} ${comment === '' ? name : comment}`, inPlace: text }
}

function pinnedOf({ pinned }: Facts, { config }: Examined): DiagnosisQuestion['pinned'] {
  if (pinned === null) return null
  const file = config.verify.hostCaFile ?? 'verify.host_ca_file'
  return { file, keys: isUnreadable(pinned) ? null : pinned.map(publicKeyText) }
}

/** `issuer.command`: whether the program is there, and the exchange's user may run it. Only issuing shows more. */
async function examineCommand(examined: Examined): Promise<Finding[]> {
  const { issuer } = examined.config
  if (issuer.kind !== 'command') return []
  const steps = ['credentials', 'name', 'tcp', 'tls', 'clock', 'login', 'permission'] as const
  const rest = steps.map((step) => skipped(step, 'does not apply: issuer.command signs the certificates'))
  return [...rest, await examineProgram(issuer.command[0] ?? '', examined)]
}

async function examineProgram(program: string, { daemonUser, exchangeUser }: Examined): Promise<Finding> {
  const user = exchangeUser ?? daemonUser
  const install = `install the program there (\`chmod 755 ${program}\`), or correct issuer.command`
  try {
    const { isExecutable } = await factsOf(program)
    if (!isExecutable)
      return failure('issuer', `${program} (issuer.command) is not an executable file`, install)
  } catch (error) {
    return failure('issuer', `${program} (issuer.command): ${reasonOf(error)}`, install)
  }
  // For a script reading is needed too; of a program it is the usual mode.
  const denied = await whyDenied(program, user, 'read')
  if (denied !== null)
    return failure('issuer', `${program} runs as user ${user.uid}, which cannot read it: ${denied}`, install)
  return ok('issuer', `${program} signs the certificates; test it with \`hostcertd doctor --issue\``)
}
