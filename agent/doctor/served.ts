import { formatDuration, formatTime, type UnixSeconds } from '../cert/time.ts'
import { factsOf } from '../host/file-access.ts'
import { findProgram } from '../host/programs.ts'
import { HELPER_SOCKET } from '../host/sshd.ts'
import { type CertifiableView, type HostKeyView, isCertifiable } from '../renewal/judge.ts'
import {
  failure,
  type Finding,
  isProvenServed,
  ok,
  type Examined,
  RELOAD_SSHD,
  skipped,
  unknown,
  warning,
} from './finding.ts'

/** What earlier steps found out. */
interface ServedContext {
  /** What sshd's configuration says it listens on; empty when that is not known. */
  readonly listen: readonly string[]
  /** What to do about a host key that is not served, by its name; without an entry a reload is lacking. */
  readonly remedies: ReadonlyMap<string, string>
  /** What was found of the way to reload. */
  readonly reload: readonly Finding[]
  /** Whether sshd's configuration could be looked at: then a reload is what is left. */
  readonly isConfigurationKnown: boolean
}

/** What sshd presented in a real handshake, against what is on disk. */
export function examineServed(
  examined: Examined,
  views: readonly HostKeyView[],
  context: ServedContext,
): Finding[] {
  const { attempts, host } = examined
  if (!host.served.enabled) return [skipped('served', 'not checked: sshd.address is none')]
  const keys = views.filter(isCertifiable)
  if (keys.length === 0) return [skipped('served', 'no host key to check')]
  if (attempts.record.sshd.state === 'down') return [down(examined, keys, context)]
  const isServed = keys.some(isProvenServed)
  return keys.map((view) => examine(view, examined, context, isServed))
}

function down({ config }: Examined, keys: readonly CertifiableView[], { listen }: ServedContext): Finding {
  const { address } = config.sshd
  const where = typeof address === 'string' ? address : `${address.host}:${address.port}`
  const reasons = keys.flatMap(({ served }) => ('unknown' in served ? (served.unknown ?? []) : []))
  const message = `SSHD_UNREACHABLE: sshd is not running, or not at this address: ${[...new Set(reasons)].join('; ')}`
  const says = listen.length === 0 ? '' : `; by its configuration, on ${listen.join(', ')}`
  const elsewhere = `, or set sshd.address (${where}) to where it listens${says}`
  const remedy = `start sshd: \`systemctl start ssh\` (sshd)${listen.includes(where) ? '' : elsewhere}`
  return failure('served', message, remedy)
}

function examine(
  view: CertifiableView,
  { attempts, host }: Examined,
  { remedies, reload, isConfigurationKnown }: ServedContext,
  isAnyServed: boolean,
): Finding {
  const { name, served, onDisk, subject } = view
  const { lastError } = attempts.of(subject.identity)
  const earlier =
    lastError?.scope === 'sshd' && lastError.code !== 'SSHD_NOT_SERVING'
      ? `; the last attempt: ${lastError.code}: ${lastError.message}`
      : ''
  const first = isConfigurationKnown ? '' : '`sudo hostcertd doctor` checks the configuration of sshd; '
  const noWay = reload.find(({ status }) => status === 'failure' || status === 'warning')
  const byProgram = host.sshd.canReload ? '`hostcertd renew` reloads sshd; manually: ' : 'reload sshd: '
  const remedy =
    remedies.get(name) ??
    `${first}${noWay === undefined ? byProgram : `${noWay.remedy}; to reload sshd now: `}${RELOAD_SSHD}`
  if (served.kind === 'not-asked') return skipped('served', `${name}: not checked`)
  if (served.unknown !== null) return notSeen(view, served.unknown)
  switch (served.kind) {
    case 'nothing-known':
      return notSeen(view, 'sshd was not asked')
    case 'certificate': {
      const presented = `${name}: sshd presents ${serialOf(served.serial)}${endOf(served.validBefore, host.clock.now())}`
      if (served.matches && onDisk.kind === 'usable') return ok('served', presented)
      // A reload would not help; sshd might then present no certificate at all.
      if (onDisk.kind === 'absent')
        return skipped('served', `${presented}; there is no certificate on disk to replace it`)
      if (onDisk.kind === 'unusable') {
        const which = served.matches ? 'the same as on disk' : 'the certificate on disk cannot be used'
        return skipped('served', `${presented}; ${which} (${onDisk.failure.code})`)
      }
      const message = `SSHD_NOT_SERVING: ${presented}, but serial ${onDisk.certificate.serial} is on disk`
      return failure('served', `${message}${earlier}`, remedy)
    }
    case 'none':
      if (onDisk.kind !== 'usable')
        return skipped('served', `${name}: sshd presents no certificate, and there is no usable one on disk`)
      return failure('served', `SSHD_NOT_SERVING: ${name}: sshd presents no certificate${earlier}`, remedy)
    case 'not-offered':
    case 'other-key': {
      const tone = isAnyServed ? warning : failure
      const what = `have sshd load it (\`HostKey ${view.file.path.replace(/\.pub$/, '')}\`), or remove it from host_keys`
      return tone('served', `${name}: ${served.why}`, remedies.get(name) ?? `${first}${what}`)
    }
  }
}

/** sshd gave no answer for this key; what was seen before is not proof. */
function notSeen({ name, served }: CertifiableView, why: string): Finding {
  const before =
    'at' in served && served.kind === 'certificate' && served.matches
      ? `; it presented the certificate on disk at ${formatTime(served.at)}`
      : ''
  const remedy =
    'check that the sshd of this host listens at sshd.address, and see its log: `journalctl -u ssh` (sshd)'
  return unknown('served', `${name}: could not check what sshd presents: ${why}${before}`, remedy)
}

function serialOf(serial: string | null): string {
  return serial === null ? 'a certificate that cannot be read' : `serial ${serial}`
}

function endOf(validBefore: UnixSeconds | null, now: UnixSeconds): string {
  return validBefore === null || now < validBefore
    ? ''
    : `, which expired ${formatDuration(now - validBefore)} ago`
}

const PACKAGED = '`systemctl enable --now hostcertd-reload.socket`'

/** How sshd is reloaded, and what the root helper reported last. The helper is not asked, as it would act. */
export async function examineReload(examined: Examined): Promise<readonly Finding[]> {
  const { notes } = examined.attempts.record.sshd
  return [
    await examineWay(examined),
    ...notes.map((note) =>
      warning(
        'reload',
        `the root helper reported: ${note}`,
        'correct that; then `systemctl reload hostcertd`',
      ),
    ),
  ]
}

async function examineWay({ config, daemonUser }: Examined): Promise<Finding> {
  const { reload, reloadCommand } = config.sshd
  if (reload === 'never') return skipped('reload', 'sshd.reload is never: hostcertd does not reload sshd')
  if (reloadCommand !== null) {
    const [program = ''] = reloadCommand
    if ((await findProgram(program)) !== null) return ok('reload', `by ${reloadCommand.join(' ')}`)
    const isThere = (await factsOf(program).catch(() => null)) !== null
    const message = `sshd.reload_command: ${program} ${isThere ? 'cannot be executed' : 'does not exist'}`
    const remedy = isThere
      ? `chmod 755 ${program}`
      : 'correct sshd.reload_command, or install the program there'
    return failure('reload', message, remedy)
  }
  const socket = await factsOf(HELPER_SOCKET).catch(() => null)
  if (socket === null) {
    const remedy = `with the package: ${PACKAGED}; without it set sshd.reload_command to a program that reloads sshd`
    const message = `${HELPER_SOCKET} does not exist and sshd.reload_command is not set: sshd from 9.8 on serves a new certificate only after a reload`
    return warning('reload', message, remedy)
  }
  if (daemonUser.uid !== 0 && socket.uid !== daemonUser.uid) {
    const message = `${HELPER_SOCKET} belongs to user ${socket.uid}, but the daemon runs as user ${daemonUser.uid}`
    return failure(
      'reload',
      message,
      `chown ${socket.uid} ${config.stateDirectory}; or restart the socket: ${PACKAGED}`,
    )
  }
  return ok('reload', `by the root helper behind ${HELPER_SOCKET}`)
}
