import { type Certificate, parseCertificate } from '../cert/host-certificate.ts'
import { WireReader } from '../cert/wire.ts'
import { wouldMatch } from '../host/files.ts'
import { includePatterns, placeOf, type SshdDirective } from '../host/sshd-directives.ts'
import type { FileChange } from './change.ts'
import type { SshdSetup } from './sshd-facts.ts'

/** Lines of one file that go, and one that comes. No other byte changes. */
export interface LineEdit {
  /** Numbers from 1. */
  readonly removed?: readonly number[]
  /** Lines without their ends, put above the first line that is no comment. */
  readonly inserted?: readonly string[]
}

const NEWLINE = 0x0a

/** The text after some edits; all line numbers are those of the text given here. In bytes: a comment need not be UTF-8. */
export function applyEdits(content: Buffer, edits: readonly LineEdit[]): Buffer {
  const lines = linesIn(content)
  const removed = new Set(edits.flatMap((edit) => edit.removed ?? []))
  const inserted = edits.flatMap((edit) => edit.inserted ?? [])
  const kept = lines.filter((_, index) => !removed.has(index + 1))
  if (inserted.length === 0) return Buffer.concat(kept)
  const end = lines[0]?.toString('latin1').endsWith('\r\n') === true ? '\r\n' : '\n'
  const first = kept.findIndex((line) => !/^\s*(?:#|$)/.test(line.toString('latin1')))
  const head = first === -1 ? kept : kept.slice(0, first)
  const last = head.at(-1)
  const before = last === undefined || last.at(-1) === NEWLINE ? '' : end
  const text = Buffer.from(before + inserted.map((line) => line + end).join(''))
  return Buffer.concat([...head, text, ...(first === -1 ? [] : kept.slice(first))])
}

/** The text of a line, without its end. */
function lineAt(content: Buffer, line: number): string {
  return (linesIn(content)[line - 1] ?? Buffer.alloc(0)).toString('utf8').replace(/\r?\n?$/, '')
}

/** Each with its end; the last may have none. */
function linesIn(content: Buffer): Buffer[] {
  const lines: Buffer[] = []
  for (let start = 0; start < content.length;) {
    const newline = content.indexOf(NEWLINE, start)
    const end = newline === -1 ? content.length : newline + 1
    lines.push(content.subarray(start, end))
    start = end
  }
  return lines
}

/** Whether it is an Include that reaches this file, there or not. */
export function includes(line: SshdDirective, path: string): boolean {
  return (
    line.keyword === 'include' && includePatterns(line.arguments).some((pattern) => wouldMatch(pattern, path))
  )
}

/**
 * How many of the lines sshd has read when it comes to a file, there or not, by the Include with this index; none when
 * enroll is going to include it at the top.
 */
export function readBefore(written: readonly SshdDirective[], path: string, index: number): number {
  const includer = written[index]
  if (includer === undefined) return 0
  let place = index + 1
  for (; place < written.length; place += 1) {
    const { file, depth } = written[place] ?? includer
    if (depth <= includer.depth || (depth === includer.depth + 1 && file >= path)) break
  }
  return place
}

/** Lines that `infisical ssh add-host` wrote; those below Match too, where it puts them. */
export interface Leftovers {
  readonly certificates: readonly SshdDirective[]
  readonly hostKeys: readonly SshdDirective[]
  readonly userCas: readonly SshdDirective[]
  /** A `HostKey` line for the same key, which an administrator may have written. */
  readonly doubtful: readonly SshdDirective[]
}

const ADD_HOST_CERTIFICATE = /^(\/etc\/ssh\/ssh_host_(?:ed25519|ecdsa|rsa)_key)-cert\.pub$/
const ADD_HOST_USER_CA = '/etc/ssh/infisical_user_ca.pub'
const ISSUER_KEY_ID = /^host-[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/i

/**
 * By evidence: the certificate is Infisical's and where add-host puts it. Its other lines are either beside that one, as
 * appended, in any order; or, by --force, written over every `HostKey` line that there was, all alike.
 */
export function leftoversIn({ sshd, files, certificates }: SshdSetup): Leftovers {
  const content = files.get(sshd.file)?.state.content ?? Buffer.alloc(0)
  const lines = sshd.written.filter(({ file }) => file === sshd.file)
  const isExactly = (line: SshdDirective, text: string): boolean => lineAt(content, line.line) === text
  const found = lines.filter(({ keyword, value }) => {
    const certificate = certificateIn(certificates.get(value))
    return (
      keyword === 'hostcertificate' &&
      ADD_HOST_CERTIFICATE.test(value) &&
      certificate?.kind === 'host' &&
      ISSUER_KEY_ID.test(certificate.keyId)
    )
  })
  const hostKeyPaths = found.map(({ value }) => value.replace(ADD_HOST_CERTIFICATE, '$1'))
  const hostKeys = lines.filter((line) => hostKeyPaths.some((path) => isExactly(line, `HostKey ${path}`)))
  const userCas = lines.filter((line) => isExactly(line, `TrustedUserCAKeys ${line.value}`))
  const block = besideThem(found, [...hostKeys, ...userCas])
  const apart = hostKeys.filter((line) => !block.has(line.line))
  return {
    certificates: found,
    hostKeys: apart.length > 1 ? hostKeys : hostKeys.filter((line) => block.has(line.line)),
    userCas: userCas.filter((line) => block.has(line.line) || line.value === ADD_HOST_USER_CA),
    doubtful: apart.length > 1 ? [] : apart,
  }
}

/** Numbers of the lines that stand together with some of the first, nothing between them. */
function besideThem(first: readonly SshdDirective[], others: readonly SshdDirective[]): ReadonlySet<number> {
  const block = new Set(first.map(({ line }) => line))
  const near = others.map(({ line }) => line).sort((a, b) => a - b)
  for (const line of near) if (block.has(line - 1)) block.add(line)
  for (const line of near.toReversed()) if (block.has(line + 1)) block.add(line)
  return block
}

/** Null also for one that OpenSSH reads and we do not: a CA in a security key, say. */
export function certificateIn(blob: Buffer | undefined): Certificate | null {
  if (blob === undefined) return null
  try {
    return parseCertificate(`${new WireReader(blob).text()} ${blob.toString('base64')}`)
  } catch {
    return null
  }
}

/** Lines of one file that are changed, and why. */
export interface Edit extends LineEdit {
  readonly file: string
  readonly step: string
}

/** What one question comes to. */
export interface Outcome {
  readonly edits?: readonly Edit[]
  readonly changes?: readonly FileChange[]
  readonly notes?: readonly string[]
  readonly problems?: readonly string[]
}

export function removing(file: string, lines: readonly SshdDirective[], step: string): Edit {
  return { file, step, removed: lines.map(({ line }) => line) }
}

/** `/etc/ssh/sshd_config:12: HostCertificate /etc/ssh/old-cert.pub`. */
export function describe(line: SshdDirective): string {
  return `${placeOf(line)}: ${NAMES[line.keyword] ?? line.keyword} ${line.value}`
}

const NAMES: Readonly<Record<string, string>> = {
  hostcertificate: 'HostCertificate',
  hostkey: 'HostKey',
  trustedusercakeys: 'TrustedUserCAKeys',
  authorizedkeyscommand: 'AuthorizedKeysCommand',
  authorizedprincipalscommand: 'AuthorizedPrincipalsCommand',
}
