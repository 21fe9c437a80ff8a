import { realpath } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { certificateFileOf } from '../cert/host-certificate.ts'
import { outlineOf } from '../cert/wire.ts'
import type { CertificateLine, SshdFacts } from '../host/sshd-files.ts'
import { COPIES_DIRECTORY } from '../host/sshd.ts'
import type { CertifiableView } from '../renewal/judge.ts'
import { type Cause, failure, type Examined, RELOAD_SSHD, skipped, type Tone } from './finding.ts'

/** Whether a HostCertificate line names the certificate, and none behind it another one for the same key. */
export async function notNamed(
  examined: Examined,
  facts: SshdFacts,
  views: readonly CertifiableView[],
  tone: Tone,
): Promise<Cause[]> {
  const causes: Cause[] = []
  for (const view of views) {
    const { places, hasHelper } = placesOf(view, examined)
    const lines = await linesNaming(places, facts)
    const winner = winnerFor(view, facts)
    if (lines.length > 0) {
      causes.push(...overrule(view, lines, winner, tone))
      continue
    }
    const [path = ''] = places
    if (hasHelper && view.onDisk.kind === 'absent') {
      const message = `${path} is added to the configuration once a certificate is issued`
      causes.push({ finding: skipped('sshd-config', message), keys: [] })
      continue
    }
    const named = facts.certificates.map((line) => line.path).join(', ')
    const instead =
      winner === null
        ? `; current lines: ${named === '' ? 'none' : named}`
        : `; for this host key it has ${describeLine(winner)}`
    const message = `sshd's configuration has no HostCertificate line for ${path}${instead}`
    const because = (why: string, remedy: string): Cause => ({
      finding: tone([view])('sshd-config', `${message}${why}`, remedy),
      keys: [view],
    })
    const dropIn = facts.unread.find(
      ({ keyword, value }) => keyword === 'hostcertificate' && places.includes(value),
    )
    if (dropIn !== undefined) {
      const include = `add \`Include ${dirname(dropIn.file)}/*.conf\` at the top of ${facts.file}`
      const why = `: ${dropIn.file} does, but ${facts.file} does not include it`
      causes.push(because(why, `${include}${removing(winner)}; then ${RELOAD_SSHD}`))
    } else if (hasHelper) {
      causes.push(
        because(
          '',
          `\`hostcertd renew\` makes the root helper add the line, or reports why it cannot${removing(winner)}`,
        ),
      )
    } else if (winner !== null && winner.at !== null) {
      causes.push(because('', `replace ${winner.at} with \`HostCertificate ${path}\`; then ${RELOAD_SSHD}`))
    } else {
      const line = `add \`HostCertificate ${path}\` near the top of ${facts.file}, above any Match line`
      causes.push(because('', `${line}; then ${RELOAD_SSHD}`))
    }
  }
  return causes
}

/** For who may not ask sshd: by the lines as written, only that a later one wins. */
export async function overruled(
  examined: Examined,
  facts: SshdFacts,
  views: readonly CertifiableView[],
): Promise<Cause[]> {
  const causes: Cause[] = []
  for (const view of views) {
    const lines = await linesNaming(placesOf(view, examined).places, facts)
    if (lines.length > 0) causes.push(...overrule(view, lines, winnerFor(view, facts), () => failure))
  }
  return causes
}

function overrule(
  view: CertifiableView,
  lines: readonly CertificateLine[],
  winner: CertificateLine | null,
  tone: Tone,
): Cause[] {
  if (winner === null || lines.includes(winner)) return []
  const ours = lines.map(describeLine).join(', ')
  const message = `${describeLine(winner)} comes after ${ours}: if several HostCertificate lines are for one host key, sshd uses the last`
  const remedy = `remove ${winner.at ?? `the line for ${winner.path}`}; then ${RELOAD_SSHD}`
  return [{ finding: tone([view])('sshd-config', message, remedy), keys: [view] }]
}

/** Where sshd is to find the certificate of a host key; the first is the usual place. */
function placesOf(
  { name, certificatePath }: CertifiableView,
  { config, host }: Examined,
): { readonly places: readonly string[]; readonly hasHelper: boolean } {
  const copy = join(COPIES_DIRECTORY, certificateFileOf(name))
  const { hasHelper } = host.sshd
  if (hasHelper) return { places: [copy], hasHelper }
  return {
    places: config.sshd.reloadCommand === null ? [certificatePath, copy] : [certificatePath],
    hasHelper,
  }
}

async function linesNaming(
  places: readonly string[],
  { certificates }: SshdFacts,
): Promise<CertificateLine[]> {
  const real = async (path: string): Promise<string> => realpath(path).catch(() => path)
  const wanted = await Promise.all(places.map(real))
  const named = await Promise.all(certificates.map(async ({ path }) => real(path)))
  return certificates.filter((_, index) => wanted.includes(named[index] ?? ''))
}

/** The line that counts for a host key: the last whose file is a certificate for it, whatever else is wrong with that. */
function winnerFor({ subject }: CertifiableView, { certificates }: SshdFacts): CertificateLine | null {
  const fits = ({ blob }: CertificateLine): boolean =>
    blob !== null && outlineOf(blob)?.keyBlob.equals(subject.key.blob) === true
  return certificates.findLast(fits) ?? null
}

/** `/etc/ssh/sshd_config:12: HostCertificate /etc/ssh/old-cert.pub (serial 7)`. */
function describeLine({ at, path, blob }: CertificateLine): string {
  const serial = blob === null ? undefined : outlineOf(blob)?.serial
  return `${at === null ? '' : `${at}: `}HostCertificate ${path}${serial === undefined ? '' : ` (serial ${serial})`}`
}

function removing(winner: CertificateLine | null): string {
  return winner === null ? '' : `; remove ${winner.at ?? `the line for ${winner.path}`}`
}
