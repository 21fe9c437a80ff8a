import { dirname, join } from 'node:path'
import { findProgram } from '../../adapters/programs.ts'
import { COPIES_DIRECTORY, HELPER_SOCKET } from '../../adapters/sshd.ts'
import {
  SshdConfiguration,
  type EffectiveSshd,
  type SshdDirective,
} from '../../adapters/sshd-configuration.ts'
import { factsOf } from '../../adapters/file-access.ts'
import { isCertifiable, type CertifiableView, type HostKeyView } from '../../renewal/observe.ts'
import { failure, ok, skipped, warning, type Finding } from './finding.ts'
import type { Patient } from './patient.ts'

const CERT_SUFFIX = '-cert-v01@openssh.com'

export interface SshdExamination {
  readonly findings: readonly Finding[]
  /** What sshd's configuration says it listens on; empty when it could not be asked. */
  readonly listen: readonly string[]
}

/** Whether sshd, by what it makes of its configuration, presents the certificates. */
export async function examineSshdConfig(
  patient: Patient,
  views: readonly HostKeyView[],
): Promise<SshdExamination> {
  const program = await findProgram('sshd')
  if (program === null) return only(skipped('sshd-config', 'there is no sshd here'))
  const sshd = new SshdConfiguration({ file: patient.sshdConfigFile, program })
  const written = await sshd.directives()
  const stuck = stuckInMatch(written)
  if (!patient.isRoot) {
    const remedy = 'run `sudo hostcertd doctor`'
    return only(...stuck, skipped('sshd-config', 'only root may ask sshd (`sshd -T`)', remedy))
  }
  const answer = await sshd.effective(patient.signal)
  if (answer.kind === 'refused') return only(...(stuck.length > 0 ? stuck : [refused(sshd.file, answer.why)]))
  const keys = views.filter(isCertifiable)
  const { settings } = answer
  const loaded = keys.filter((view) => settings.hostKeys.includes(privateHalf(view)))
  const findings = [
    ...overridden(keys, settings, written, sshd.file),
    ...algorithms(loaded, settings, written),
    ...(await certificateLines(patient, loaded, settings, sshd.file, await sshd.unreadDropIns(written))),
  ]
  const well = ok('sshd-config', `${sshd.file} names the certificate of each host key`)
  return { findings: findings.length > 0 ? findings : [well], listen: settings.listen }
}

function only(...findings: readonly Finding[]): SshdExamination {
  return { findings, listen: [] }
}

function refused(file: string, why: string): Finding {
  if (why.includes('Missing privilege separation directory')) {
    const remedy = 'start sshd; while it idles behind ssh.socket the folder is missing, and then all is well'
    return skipped('sshd-config', `sshd cannot be asked: ${why}`, remedy)
  }
  if (why.includes('no hostkeys available')) {
    const remedy = 'correct the HostKey lines, or take them out; `ssh-keygen -A` makes missing keys'
    return failure('sshd-config', `sshd finds none of its host keys: ${why}`, remedy)
  }
  const remedy = `mend what it says until \`sshd -t -f ${file}\` is silent; until then sshd is not reloaded`
  return failure('sshd-config', `SSHD_CONFIG_INVALID: sshd does not accept its configuration: ${why}`, remedy)
}

/** What sshd refuses below `Match`: lines that someone added at the end of the file. */
function stuckInMatch(written: readonly SshdDirective[]): Finding[] {
  return written
    .filter(
      ({ inMatch, keyword }) =>
        inMatch && ['hostcertificate', 'hostkey', 'hostkeyalgorithms'].includes(keyword),
    )
    .map(({ file, line, keyword, value }) => {
      const name = { hostcertificate: 'HostCertificate', hostkey: 'HostKey' }[keyword] ?? 'HostKeyAlgorithms'
      return failure(
        'sshd-config',
        `${file}:${line}: ${name} ${value} stands below a Match line, where sshd does not allow it`,
        `move it above the first Match line; if it comes by an Include, move that to the top of the file`,
      )
    })
}

function privateHalf({ file }: CertifiableView): string {
  return file.path.slice(0, -'.pub'.length)
}

/** Any HostKey line replaces sshd's own list. */
function overridden(
  keys: readonly CertifiableView[],
  { hostKeys }: EffectiveSshd,
  written: readonly SshdDirective[],
  sshdFile: string,
): Finding[] {
  const left = keys.filter((view) => !hostKeys.includes(privateHalf(view)))
  if (left.length === 0) return []
  const lines = written
    .filter(({ keyword }) => keyword === 'hostkey')
    .map(({ file, line }) => `${file}:${line}`)
  const by = lines.length === 0 ? '' : `: the HostKey lines at ${lines.join(', ')} replace its own list`
  const message = `sshd does not load ${left.map(privateHalf).join(', ')}${by}`
  const wanted = left.map((view) => `\`HostKey ${privateHalf(view)}\``).join(', ')
  // The first HostKey line replaces sshd's own list: whoever adds one must name all of them.
  const remedy =
    lines.length > 0
      ? `add ${wanted} there, or take the key out of host_keys`
      : `take the key out of host_keys; or add to ${sshdFile}, above any Match line, ${wanted} and such a line for each key that sshd loads now (${hostKeys.join(', ')}), for HostKey lines replace its own list`
  return [
    left.length === keys.length
      ? failure('sshd-config', message, remedy)
      : warning('sshd-config', message, remedy),
  ]
}

function algorithms(
  keys: readonly CertifiableView[],
  { hostKeyAlgorithms }: EffectiveSshd,
  written: readonly SshdDirective[],
): Finding[] {
  if (hostKeyAlgorithms.length === 0) return []
  const line = written.find(({ keyword }) => keyword === 'hostkeyalgorithms')
  const lacking = keys
    .map(({ subject }) => certificateTypesOf(subject.key.type))
    .filter((types) => !types.some((type) => hostKeyAlgorithms.includes(type)))
  if (lacking.length === 0) return []
  const where = line === undefined ? 'HostKeyAlgorithms' : `${line.file}:${line.line}: HostKeyAlgorithms`
  const types = [...new Set(lacking.flatMap(([first = '']) => first))]
  const message = `${where} leaves out ${types.join(', ')}, so those certificates are never presented`
  return [failure('sshd-config', message, 'take the HostKeyAlgorithms line out, or add these types to it')]
}

/** For RSA the names of the signatures: PROTOCOL.certkeys. */
function certificateTypesOf(keyType: string): string[] {
  if (keyType !== 'ssh-rsa') return [`${keyType}${CERT_SUFFIX}`]
  return [`rsa-sha2-512${CERT_SUFFIX}`, `rsa-sha2-256${CERT_SUFFIX}`, `ssh-rsa${CERT_SUFFIX}`]
}

async function certificateLines(
  patient: Patient,
  keys: readonly CertifiableView[],
  { hostCertificates }: EffectiveSshd,
  file: string,
  unread: readonly SshdDirective[],
): Promise<Finding[]> {
  const { reloadCommand } = patient.config.sshd
  const hasHelper = reloadCommand === null && (await factsOf(HELPER_SOCKET).catch(() => null)) !== null
  const findings: Finding[] = []
  for (const { name, certificatePath, onDisk } of keys) {
    const copy = join(COPIES_DIRECTORY, `${name}-cert.pub`)
    const [path, ...others] = hasHelper
      ? [copy]
      : [certificatePath, ...(reloadCommand === null ? [copy] : [])]
    const places = [path, ...others]
    if (places.some((place) => hostCertificates.includes(place))) continue
    if (hasHelper && onDisk.kind === 'absent') {
      findings.push(skipped('sshd-config', `${path} is named as soon as there is a certificate`))
      continue
    }
    const named = hostCertificates.length === 0 ? 'it names none' : `it names ${hostCertificates.join(', ')}`
    const message = `sshd's configuration does not name ${path}`
    const dropIn = unread.find(
      ({ keyword, value }) => keyword === 'hostcertificate' && places.includes(value),
    )
    if (dropIn !== undefined) {
      const remedy = `add \`Include ${dirname(dropIn.file)}/*.conf\` at the top of ${file}, and reload sshd`
      const why = `${dropIn.file} does, but ${file} does not include it`
      findings.push(failure('sshd-config', `${message}: ${why}`, remedy))
    } else if (hasHelper) {
      const remedy = '`hostcertd renew` has the helper write it; what stops it is then told'
      findings.push(failure('sshd-config', `${message}; ${named}`, remedy))
    } else {
      const remedy = `add \`HostCertificate ${path}\` near the top of ${file}, above any Match line, and reload sshd`
      findings.push(failure('sshd-config', `${message}; ${named}`, remedy))
    }
  }
  return findings
}
