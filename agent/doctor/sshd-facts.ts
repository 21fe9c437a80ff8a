import { outlineOf } from '../cert/certificate-outline.ts'
import { splitKeyLine } from '../cert/public-key.ts'
import { readBoundedFile, SMALL_FILE_BYTES } from '../host/files.ts'
import { findProgram } from '../host/programs.ts'
import { type LoadedKey, readLoadedKey } from './key-pairs.ts'
import type { Patient } from './patient.ts'
import { type SshdAnswer, SshdConfiguration, type SshdDirective } from './sshd-files.ts'

/** What sshd's configuration says, and what lies behind the paths in it. */
export interface SshdFacts {
  readonly file: string
  /** `not-root`: only root may ask. */
  readonly answer: SshdAnswer | { readonly kind: 'not-root' } | { readonly kind: 'no-sshd' }
  /** The lines as written. */
  readonly written: readonly SshdDirective[]
  /** Of drop-ins that nothing includes. */
  readonly unread: readonly SshdDirective[]
  /** Host keys that sshd is configured to load; empty when that is not known. */
  readonly loaded: readonly LoadedKey[]
  /** HostCertificate lines in the order in which sshd reads them. */
  readonly certificates: readonly CertificateLine[]
}

export interface CertificateLine {
  readonly path: string
  /** Where it is written; null when no line that we can read says so. */
  readonly at: string | null
  /** Of the certificate in it; null when sshd could not load any. */
  readonly blob: Buffer | null
}

export async function readSshd(patient: Patient): Promise<SshdFacts> {
  const { isRoot, signal, sshdConfigFile } = patient
  const program = await findProgram('sshd')
  const sshd = new SshdConfiguration({ file: sshdConfigFile, program: program ?? '' })
  const { file } = sshd
  const nothing = { file, written: [], unread: [], loaded: [], certificates: [] }
  if (program === null) return { ...nothing, answer: { kind: 'no-sshd' } }
  const written = await sshd.directives()
  const unread = await sshd.unreadDropIns(written)
  const answer = isRoot ? await sshd.effective(signal) : ({ kind: 'not-root' } as const)
  const loaded: LoadedKey[] = []
  const hostKeys = answer.kind === 'effective' ? answer.settings.hostKeys : []
  for (const path of hostKeys) loaded.push(await readLoadedKey(path, signal))
  const lines = linesOf(written, 'hostcertificate')
  const paths =
    answer.kind === 'effective' ? answer.settings.hostCertificates : lines.map(({ value }) => value)
  const certificates: CertificateLine[] = []
  for (const path of paths) {
    const line = lines.findLast(({ value }) => value === path)
    certificates.push({
      path,
      at: line === undefined ? null : placeOf(line),
      blob: await readCertificate(path),
    })
  }
  return { file, answer, written, unread, loaded, certificates }
}

/** Those that count: sshd does not accept these keywords below a Match line. */
export function linesOf(written: readonly SshdDirective[], wanted: string): SshdDirective[] {
  return written.filter(({ keyword, inMatch }) => keyword === wanted && !inMatch)
}

/** `FILE:LINE`. */
export function placeOf({ file, line }: SshdDirective): string {
  return `${file}:${line}`
}

/** The `HostKeyAgent` line that counts; null when none does. */
export function agentOf({ written }: SshdFacts): SshdDirective | null {
  const [line] = linesOf(written, 'hostkeyagent')
  return line === undefined || line.value.toLowerCase() === 'none' ? null : line
}

/** As sshd loads one: the first line of a file that is a key; with `.pub` behind the path when there is none. */
async function readCertificate(path: string): Promise<Buffer | null> {
  for (const place of [path, `${path}.pub`]) {
    const text = await readBoundedFile(place, SMALL_FILE_BYTES).catch(() => '')
    for (const line of text.split(/\r?\n/)) {
      const { blob } = splitKeyLine(line)
      if (blob !== null) return outlineOf(blob) === null ? null : blob
    }
  }
  return null
}
