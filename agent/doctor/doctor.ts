import { join } from 'node:path'
import { certificateFileOf } from '../cert/certificate-types.ts'
import { type CliContext, EXIT } from '../cli/context.ts'
import { type ConfigOption, readConfig } from '../cli/load.ts'
import { type Config, issuerUrlOf } from '../config/config.ts'
import { configPathFrom } from '../config/load.ts'
import { ownerOf, userNamed } from '../host/file-access.ts'
import { findProgram } from '../host/programs.ts'
import { COPIES_DIRECTORY } from '../host/sshd.ts'
import { askSshd } from '../renewal/ask-sshd.ts'
import { Attempts } from '../renewal/attempts.ts'
import { type HostKeyView, isCertifiable, judgeNow } from '../renewal/judge.ts'
import { isUnreadable, observe } from '../renewal/observe.ts'
import { statusOf } from '../renewal/status.ts'
import { examineCertificates } from './certificates-on-disk.ts'
import { examineCommand } from './command.ts'
import { examineConfiguration, examinePinnedCas } from './configuration.ts'
import { examineCredentials } from './credential-files.ts'
import { examineDirectories, examineReadable } from './directory.ts'
import { examineExchange } from './exchange.ts'
import { failure, type Finding, hasFailure, inOrder, ok, skipped, STEPS, warning } from './finding.ts'
import { examineHostKeys } from './host-key-files.ts'
import { commandProbe, createIssuerProbe } from './issuer-probe.ts'
import { examineIssuer, examineLogin, examinePermission } from './issuer-steps.ts'
import { examineNetwork } from './network.ts'
import { asksOverHttp, type Patient } from './patient.ts'
import { examineReload } from './reload.ts'
import { formatFindings } from './report.ts'
import { examineDaemon } from './running-daemon.ts'
import { readServiceSandbox, type ServiceSandbox } from './sandbox.ts'
import { examineSelinux } from './selinux.ts'
import { examineServed } from './served.ts'
import { examineSshdConfig } from './sshd-config.ts'
import { readSshd } from './sshd-facts.ts'
import { examineIssue } from './trial-issue.ts'

const SERVICE = 'hostcertd.service'
const SSHD_CONFIG_FILE = '/etc/ssh/sshd_config'

interface DoctorOptions extends ConfigOption {
  readonly issue?: boolean
  readonly sshdConfig?: string
  readonly json?: boolean
}

/**
 * `doctor`: the whole way, step by step, with a remedy for what fails. Stays who started it, for root sees more.
 * Logs in once; issues nothing unless it was asked to; leaves nothing behind of what it writes to see whether it can.
 */
export async function doctor(
  context: CliContext,
  options: DoctorOptions,
  signal: AbortSignal,
): Promise<number> {
  const { path, loaded } = await readConfig(context, options, false)
  const findings: Finding[] = await examineConfiguration(path, loaded)
  if (loaded.kind === 'ok') {
    const patient = await admit(context, options, loaded.config, path, signal)
    findings.push(...(await examinePinnedCas(patient)), ...(await examineReadable(patient, loaded.files)))
    findings.push(...(await examine(patient, findings, options, context.version.version)))
    patient.probe.issuer.end()
  } else {
    const rest = STEPS.filter((step) => step !== 'configuration')
    findings.push(...rest.map((step) => skipped(step, 'needs a configuration')))
  }
  const ordered = inOrder(findings)
  if (options.json === true) context.out(`${JSON.stringify(ordered, null, 2)}\n`)
  else context.out(formatFindings(ordered, context.terminal))
  return hasFailure(findings) ? EXIT.failed : EXIT.ok
}

async function admit(
  context: CliContext,
  { sshdConfig = SSHD_CONFIG_FILE }: DoctorOptions,
  config: Config,
  configPath: string,
  signal: AbortSignal,
): Promise<Patient> {
  const composed = context.composeHost(config)
  // Whatever is done with the record stays in memory.
  const host = { ...composed, records: { load: async () => composed.records.load(), save: async () => {} } }
  const attempts = new Attempts(host.records, host.clock)
  await attempts.load()
  const { clock, log, metrics } = host
  const { version } = context.version
  const { issuer } = config
  const probe =
    issuer.kind === 'http'
      ? createIssuerProbe({ ...issuer, version, clock, log, metrics })
      : commandProbe(host.issuer)
  const self = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 }
  const daemonUser = (await ownerOf(config.stateDirectory)) ?? self
  // The unit's exchange goes by this one, and by no other.
  const isUnits = configPath === configPathFrom(undefined, {})
  return {
    config,
    configPath,
    environment: context.environment,
    host,
    attempts,
    probe,
    self,
    isRoot: self.uid === 0,
    daemonUser,
    exchangeUser: isUnits ? await userNamed('hostcertd-exchange', signal) : null,
    sshdConfigFile: sshdConfig,
    signal,
  }
}

/** @param earlier what was found of the configuration */
async function examine(
  patient: Patient,
  earlier: readonly Finding[],
  { issue = false }: DoctorOptions,
  version: string,
): Promise<Finding[]> {
  const { attempts, config, host, probe, signal } = patient
  const findings = await examinePrograms(config)
  const way = await examineWayToIssuer(patient)
  findings.push(...way, ...(await examineExchange(patient)))

  const facts = await observe(host)
  const judged = (): HostKeyView[] => judgeNow(host, attempts.record, facts)
  if (!issue) findings.push(skipped('issue', 'nothing is issued unless asked for with --issue'))
  else if (isUnreadable(facts.pinned)) findings.push(skipped('issue', 'needs the pinned CAs'))
  else if (hasFailure(way)) findings.push(skipped('issue', 'needs a login at the issuer'))
  else findings.push(...(await examineIssue(patient, facts, judged())))

  // First, for it wakes an sshd behind a socket, and only then is there a /run/sshd, which `sshd -T` wants.
  await askSshd(host, attempts, judged(), signal)
  const sshd = await readSshd(patient)
  const listen = sshd.answer.kind === 'effective' ? sshd.answer.settings.listen : []
  // The helper says where sshd listens; what it said last may be over. Without it `auto` is port 22, for the daemon too.
  const isAuto = config.sshd.address === 'auto' && host.sshd.hasHelper
  if (isAuto && attempts.record.sshd.state !== 'up' && listen.length > 0) {
    attempts.helperSaid(listen, null)
    await askSshd(host, attempts, judged(), signal)
  }
  const views = judged()

  const hostKeys = await examineHostKeys(patient, views, sshd)
  const sshdConfig = await examineSshdConfig(patient, views, sshd)
  const reload = await examineReload(patient)
  const remedies = new Map([...sshdConfig.remedies, ...hostKeys.remedies])
  const isConfigurationKnown = sshd.answer.kind !== 'not-root'
  findings.push(
    ...hostKeys.findings,
    ...(await examineDirectories(patient, await sandboxOf(patient))),
    await examineDaemon(patient),
    ...sshdConfig.findings,
    ...reload,
    ...examineServed(patient, views, { listen, remedies, reload, isConfigurationKnown }),
    ...(await examineSelinux(placesSshdReads(patient, views), signal)),
  )
  const identity = { version, issuerUrl: issuerUrlOf(config.issuer) }
  const { certificates } = statusOf(identity, views, attempts, probe.issuer.health())
  return [...findings, ...examineCertificates(certificates, [...earlier, ...findings], host.clock.now())]
}

/** Each step needs those before it; what cannot be tried is skipped and says what it needs. */
async function examineWayToIssuer(patient: Patient): Promise<Finding[]> {
  if (!asksOverHttp(patient)) return examineCommand(patient)
  const credentials = await examineCredentials(patient)
  const network = await examineNetwork(patient)
  const findings = [...credentials, ...network]
  if (hasFailure(network)) {
    const rest = ['issuer', 'clock', 'login', 'permission'] as const
    return [...findings, ...rest.map((step) => skipped(step, 'needs a way to the issuer'))]
  }
  findings.push(...(await examineIssuer(patient)))
  if (patient.probe.issuer.health().reachable === false) {
    const rest = ['login', 'permission'] as const
    return [...findings, ...rest.map((step) => skipped(step, 'needs a way to the issuer'))]
  }
  if (credentials.some(({ status }) => status === 'failure' || status === 'unknown')) {
    const rest = ['login', 'permission'] as const
    return [...findings, ...rest.map((step) => skipped(step, 'needs the credentials'))]
  }
  const login = await examineLogin(patient)
  findings.push(login)
  findings.push(
    login.status === 'failure' ? skipped('permission', 'needs a login') : await examinePermission(patient),
  )
  return findings
}

/** Of the service, when it is the one that runs with this configuration. */
async function sandboxOf({ configPath, signal }: Patient): Promise<ServiceSandbox | null> {
  return configPath === configPathFrom(undefined, {}) ? readServiceSandbox(SERVICE, signal) : null
}

function placesSshdReads({ host }: Patient, views: readonly HostKeyView[]): string[] {
  const named = views.filter(isCertifiable)
  return named.map(({ name, certificatePath }) =>
    host.sshd.hasHelper ? join(COPIES_DIRECTORY, certificateFileOf(name)) : certificatePath,
  )
}

/** Programs that the daemon runs, and what a package is called that has them on Debian and elsewhere. */
const NEEDED = [
  { program: 'flock', why: 'for the lock between `run` and `renew`', packages: 'util-linux' },
  { program: 'ssh', why: 'to see what sshd presents', packages: 'openssh-client (openssh-clients)' },
] as const

/** Whether the programs are there that the daemon needs, and sshd. */
async function examinePrograms({ sshd: { address } }: Config): Promise<Finding[]> {
  const findings: Finding[] = []
  const present: string[] = []
  for (const { program, why, packages } of NEEDED) {
    if (program === 'ssh' && address === 'none') continue
    if ((await findProgram(program)) !== null) present.push(program)
    else {
      const message = `${program} is missing, which is needed ${why}`
      findings.push(failure('programs', message, `install the package ${packages}`))
    }
  }
  if ((await findProgram('sshd')) !== null) present.push('sshd')
  else {
    const remedy = 'install the package openssh-server, if sshd is meant to run here'
    findings.push(warning('programs', 'there is no sshd on this host', remedy))
  }
  if (present.length > 0) findings.unshift(ok('programs', `${present.join(', ')}: found`))
  return findings
}
