import { join } from 'node:path'
import { certificateFileOf } from '../cert/host-certificate.ts'
import { type CliContext, type ConfigOption, EXIT, readConfig } from '../cli/context.ts'
import {
  askDaemon,
  findOut,
  hangingSince,
  placeOf,
  RESTART_DAEMON,
  START_DAEMON,
  takenBy,
} from '../cli/daemon-client.ts'
import { type Config, issuerFactsOf } from '../config/config.ts'
import { configPathFrom } from '../config/load.ts'
import { ownerOf, userNamed, EXCHANGE_USER } from '../host/file-access.ts'
import { findProgram } from '../host/programs.ts'
import { readSshd } from '../host/sshd-files.ts'
import { COPIES_DIRECTORY } from '../host/sshd.ts'
import { askSshd } from '../renewal/ask-sshd.ts'
import { Attempts } from '../renewal/attempts.ts'
import { type HostKeyView, isCertifiable, judgeNow } from '../renewal/judge.ts'
import { observe } from '../renewal/observe.ts'
import { isStopped, type StatusDocument } from '../renewal/status-document.ts'
import { statusOf } from '../renewal/status.ts'
import { examineCertificates, examineSelinux } from './certificates-on-disk.ts'
import {
  examineConfiguration,
  examineCredentials,
  examineJournal,
  examineMachine,
  examinePinnedCas,
} from './configuration.ts'
import { examineDirectories, examineReadable, readServiceSandbox, type ServiceSandbox } from './directory.ts'
import {
  failure,
  type Finding,
  formatFindings,
  hasFailure,
  inOrder,
  ok,
  type Examined,
  skipped,
  STEPS,
  unknown,
  warning,
} from './finding.ts'
import { examineHostKeys } from './host-key-files.ts'
import { examineNames } from './names.ts'
import { examineReload, examineServed } from './served.ts'
import { examineSshdConfig } from './sshd-config.ts'
import { examineUserCa } from './user-ca.ts'
import { examineWayToIssuer } from './way-to-issuer.ts'

const SERVICE = 'hostcertd.service'
const JOURNAL_FOLDER = '/var/lib/hostcertd-enroll'
const SSHD_CONFIG_FILE = '/etc/ssh/sshd_config'

interface DoctorOptions extends ConfigOption {
  readonly issue?: boolean
  readonly sshdConfig?: string
  readonly json?: boolean
}

/**
 * `doctor`: every step to a served certificate, with a remedy for what fails. Does not change the user, as root can
 * examine more; only the exchange contacts the issuer. Logs in once, issues nothing unless asked to, and removes the files
 * by which it tries whether a folder is writable.
 */
export async function doctor(
  context: CliContext,
  options: DoctorOptions,
  signal: AbortSignal,
): Promise<number> {
  const { path, loaded } = await readConfig(context, options, false)
  const findings: Finding[] = await examineConfiguration(path, loaded)
  if (process.geteuid?.() === 0) findings.push(...(await examineJournal(JOURNAL_FOLDER)))
  if (loaded.kind === 'ok') {
    const examined = await gather(context, options, loaded.config, path, signal)
    findings.push(...(await examinePinnedCas(examined)), ...(await examineReadable(examined, loaded.files)))
    findings.push(...(await examine(examined, findings, options, context.version.version)))
  } else {
    const rest = STEPS.filter((step) => step !== 'configuration')
    findings.push(...rest.map((step) => skipped(step, 'needs a configuration')))
  }
  const ordered = inOrder(findings)
  if (options.json === true) context.out(`${JSON.stringify(ordered, null, 2)}\n`)
  else context.out(formatFindings(ordered, context.terminal))
  return hasFailure(findings) ? EXIT.failed : EXIT.ok
}

async function gather(
  context: CliContext,
  { sshdConfig = SSHD_CONFIG_FILE }: DoctorOptions,
  config: Config,
  configPath: string,
  signal: AbortSignal,
): Promise<Examined> {
  const composed = context.composeHost(config)
  // Changes of the record stay in memory.
  const host = { ...composed, records: { load: async () => composed.records.load(), save: async () => {} } }
  const attempts = new Attempts(host.records, host.clock)
  await attempts.load()
  const self = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 }
  const daemonUser = (await ownerOf(config.stateDirectory)) ?? self
  const isRoot = self.uid === 0
  // The exchange of the unit uses this one, and no other.
  const isUnits = configPath === configPathFrom(undefined, {})
  return {
    config,
    configPath,
    environment: context.environment,
    host,
    attempts,
    self,
    isRoot,
    daemonUser,
    exchangeUser: isUnits ? await userNamed(EXCHANGE_USER, signal) : null,
    exchangeProgram: isRoot
      ? [...context.exchangeProgram, '--as-owner-of', config.stateDirectory]
      : context.exchangeProgram,
    sshdConfigFile: sshdConfig,
    signal,
  }
}

/** @param earlier what was found of the configuration */
async function examine(
  examined: Examined,
  earlier: readonly Finding[],
  { issue = false }: DoctorOptions,
  version: string,
): Promise<Finding[]> {
  const { attempts, config, host, signal } = examined
  const findings = await examinePrograms(config)
  const credentials = await examineCredentials(examined)
  const facts = await observe(host)
  const judged = (): HostKeyView[] => judgeNow(host, attempts.record, facts)
  findings.push(...examineMachine(facts.machine))
  findings.push(...credentials, ...(await examineWayToIssuer(examined, credentials, facts, judged(), issue)))

  // First: this starts an sshd behind a socket unit, and `sshd -T` needs the /run/sshd that exists only then.
  await askSshd(host, attempts, judged(), signal)
  const sshd = await readSshd(examined)
  const listen = sshd.answer.kind === 'effective' ? sshd.answer.settings.listen : []
  // The address that the helper reported last may be outdated. Without the helper, `auto` is port 22, for the daemon too.
  const isAuto = config.sshd.address === 'auto' && host.sshd.hasHelper
  if (isAuto && attempts.record.sshd.state !== 'up' && listen.length > 0) {
    attempts.sshd.helperReported(listen, null)
    await askSshd(host, attempts, judged(), signal)
  }
  const views = judged()

  const hostKeys = await examineHostKeys(examined, views, sshd)
  const sshdConfig = await examineSshdConfig(examined, views, sshd)
  const reload = await examineReload(examined)
  const remedies = new Map([...sshdConfig.remedies, ...hostKeys.remedies])
  const isConfigurationKnown = sshd.answer.kind !== 'not-root'
  findings.push(
    ...hostKeys.findings,
    ...(await examineNames(views, signal)),
    ...(await examineDirectories(examined, await sandboxOf(examined))),
    await examineDaemon(examined),
    ...sshdConfig.findings,
    ...(await examineUserCa(examined)),
    ...reload,
    ...examineServed(examined, views, { listen, remedies, reload, isConfigurationKnown }),
    ...(await examineSelinux(placesSshdReads(examined, views), signal)),
  )
  const identity = { version, ...issuerFactsOf(config.issuer) }
  const { certificates } = statusOf(identity, views, attempts, host.issuer.health(), facts.machine)
  return [
    ...findings,
    ...examineCertificates(certificates, {
      earlier: [...earlier, ...findings],
      now: host.clock.now(),
      isStopped: facts.machine.stopped !== null,
    }),
  ]
}

/** Of the service, when it is the one that runs with this configuration. */
async function sandboxOf({ configPath, signal }: Examined): Promise<ServiceSandbox | null> {
  return configPath === configPathFrom(undefined, {}) ? readServiceSandbox(SERVICE, signal) : null
}

function placesSshdReads({ host }: Examined, views: readonly HostKeyView[]): string[] {
  const named = views.filter(isCertifiable)
  return named.map(({ name, certificatePath }) =>
    host.sshd.hasHelper ? join(COPIES_DIRECTORY, certificateFileOf(name)) : certificatePath,
  )
}

/** Programs that the daemon runs, and the packages that have them, on Debian and elsewhere. */
const NEEDED = [
  { program: 'flock', why: 'for the lock between `run` and `renew`', packages: 'util-linux' },
  { program: 'ssh', why: 'to see what sshd presents', packages: 'openssh-client (openssh-clients)' },
] as const

/** Whether the programs that the daemon needs are installed, and sshd. */
async function examinePrograms({ sshd: { address } }: Config): Promise<Finding[]> {
  const findings: Finding[] = []
  const present: string[] = []
  for (const { program, why, packages } of NEEDED) {
    if (program === 'ssh' && address === 'none') continue
    if ((await findProgram(program)) !== null) present.push(program)
    else {
      const message = `${program} is missing; it is needed ${why}`
      findings.push(failure('programs', message, `install the package ${packages}`))
    }
  }
  if ((await findProgram('sshd')) !== null) present.push('sshd')
  else {
    const remedy = 'install the package openssh-server, if sshd should run here'
    findings.push(warning('programs', 'sshd is not installed', remedy))
  }
  if (present.length > 0) findings.unshift(ok('programs', `${present.join(', ')}: found`))
  return findings
}

/** Whether the daemon runs, completes passes and has this configuration, as its health port shows. */
async function examineDaemon({ config, signal }: Examined): Promise<Finding> {
  const { listen } = config.health
  const place = placeOf(listen)
  const answer = await askDaemon(listen, signal)
  switch (answer.kind) {
    case 'runs': {
      if (answer.status === null)
        return ok(
          'daemon',
          `running on ${place}; its first pass is not complete, or it is an older version: then \`systemctl restart hostcertd\``,
        )
      const well = ok('daemon', `running, version ${answer.status.version}, listening on ${place}`)
      return differs(answer.status, issuerFactsOf(config.issuer).issuerUrl) ?? well
    }
    case 'hangs':
      return failure('daemon', `listening on ${place}, but ${hangingSince(answer.lastTurn)}`, RESTART_DAEMON)
    case 'silent':
      return warning(
        'daemon',
        `the program listening on ${place} does not respond: hostcertd, which hangs, or another program`,
        findOut(listen),
      )
    case 'stranger':
      return warning(
        'daemon',
        `another program is listening on ${place}, so the state of hostcertd is unknown`,
        `${takenBy(listen)}; \`systemctl status hostcertd\` shows whether it is running`,
      )
    case 'denied':
      return unknown('daemon', `cannot connect to ${place}: ${answer.why}`, 'run `sudo hostcertd doctor`')
    case 'nobody':
      return warning(
        'daemon',
        `not running, or not listening on ${place}: no certificate is renewed while it is down`,
        START_DAEMON,
      )
    case 'not-asked':
      return skipped('daemon', 'not checked: health.listen is none')
  }
}

function differs(status: StatusDocument, url: string | null): Finding | null {
  const { issuer } = status
  const isConfigured = status.enrolled || isStopped(status)
  if (isConfigured && issuer.url === url) return null
  const has = isConfigured
    ? `another configuration (${issuer.url ?? 'issuer.command'})`
    : 'no configuration yet'
  return warning('daemon', `running with ${has}`, '`systemctl reload hostcertd`')
}
