import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  CLOCKS_DIFFER,
  ERROR_CODES,
  type ErrorCode,
  type ErrorEntry,
  ERRORS,
  type Explanation,
} from '../agent/cert/errors.ts'

/**
 * `npm run docs`: write what docs/errors.md, hostcertd(8) and the alerts say about errors, from the catalogue in
 * agent/cert/errors.ts. Run it when the catalogue has changed; a test compares.
 */

/** A place in a file: what is between these two comment lines is replaced, all else is the file's own. */
const PLACE =
  /(^.*From agent\/cert\/errors\.ts, by `npm run docs`.*\n)[^]*?(^.*End of what `npm run docs` writes.*$)/gm

/** The codes that the root helper answers a request for a reload with. */
const HELPER_CODES: readonly ErrorCode[] = ['STORE_FAILED', 'SSHD_CONFIG_INVALID', 'SSHD_RELOAD_FAILED']

const ROOT = join(import.meta.dirname, '..')

/** Each file as it should be, by its path in the repository. */
export function filesWithErrors(): ReadonlyMap<string, string> {
  const parts: readonly (readonly [path: string, parts: readonly string[]])[] = [
    ['docs/errors.md', [table()]],
    ['packaging/man/hostcertd.8', [manual('ISSUER_'), manual('CERT_'), manual()]],
    ['packaging/monitoring/hostcertd.rules.yml', alerts()],
    ['packaging/monitoring/hostcertd.rules.test.yml', alertsInTests()],
  ]
  return new Map(parts.map(([path, own]) => [path, fill(readFileSync(join(ROOT, path), 'utf8'), path, own)]))
}

/** @throws Error when the text has not as many places as there are parts */
function fill(text: string, path: string, parts: readonly string[]): string {
  const places = [...text.matchAll(PLACE)].length
  if (places !== parts.length) throw new Error(`${path} has ${places} places for ${parts.length} parts`)
  const left = [...parts]
  return text.replace(PLACE, (_, begin: string, end: string) => `${begin}${left.shift()}\n${end}`)
}

function entries(includes: (code: ErrorCode) => boolean = () => true): [ErrorCode, ErrorEntry][] {
  return ERROR_CODES.filter(includes).map((code) => [code, ERRORS[code]])
}

/** All codes as a table of Markdown, with a blank line on either side. */
function table(): string {
  const head = ['code', 'title', 'cause', 'remedy', 'exit status']
  const rows = entries().map(([code, { title, cause, remedy, exitStatus = 1 }]) => [
    `\`${code}\``,
    title,
    cause,
    remedy,
    String(exitStatus),
  ])
  const lines = [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`)
  return ['', ...lines, ''].join('\n')
}

/** A list of mdoc(7): the codes with this prefix; without one, those that concern neither issuer nor certificate. */
function manual(prefix: string | null = null): string {
  const isIn = (code: ErrorCode): boolean =>
    prefix === null ? !/^(?:ISSUER|CERT)_/.test(code) : code.startsWith(prefix)
  const items = entries(isIn).map(([code, entry]) => `.It Er ${code}\n${mdoc(prose(entry))}`)
  return ['.Bl -tag -width Ds', ...items, '.El'].join('\n')
}

/** Sentences of the catalogue, each ending in a full stop. */
function prose({ cause, remedy }: Explanation): string {
  return `${cause}. ${remedy}.`
}

/** Each sentence on lines of its own, as mdoc(7) wants; what is between backticks becomes a `.Ql` with its punctuation. */
function mdoc(text: string): string {
  return text
    .split(/(?<=\.) /)
    .flatMap((sentence) => sentence.split(/(`[^`]+`[.,;:)]*)/))
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map((part) => {
      const [, code, closing = ''] = /^`(.*)`(.*)$/.exec(part) ?? []
      return code === undefined ? filled(part) : `.Ql ${code}${closing.replaceAll(/./g, ' $&')}`
    })
    .join('\n')
}

/** Broken into lines of at most 80 characters. */
function filled(text: string): string {
  return text.replace(/(?=.{81})(.{1,80}) /g, '$1\n')
}

const NOT_SERVED = `Clients refuse the host or prompt for its key, although a valid certificate is on disk. ${ERRORS.SSHD_NOT_SERVING.remedy}`
const SERVED_DIFFERS = `${ERRORS.SSHD_NOT_SERVING.cause}. ${ERRORS.SSHD_NOT_SERVING.remedy}`
const MACHINE_COPIED = `${ERRORS.MACHINE_COPIED.cause}. ${ERRORS.MACHINE_COPIED.remedy}`
const NOT_RELOADED = 'New certificates are not served until that is fixed'
/** An alert knows the code alone. */
const SHOWS_MESSAGE = 'On the host, `hostcertd status` shows the message'

/** The descriptions of the alerts that are about an error. */
function alerts(): string[] {
  const reload = (code: ErrorCode): boolean => HELPER_CODES.includes(code)
  const indent = 10
  return [
    description(indent, NOT_SERVED),
    description(indent, SERVED_DIFFERS),
    description(
      indent,
      '{{ $value | humanize }} failures in six hours, and a certificate is due',
      ...byResult(entries((code) => !code.startsWith('SSHD_'))),
    ),
    description(indent, NOT_RELOADED, ...byResult(entries(reload))),
    description(indent, `${CLOCKS_DIFFER.cause}. ${CLOCKS_DIFFER.remedy}`),
    description(indent, MACHINE_COPIED),
  ]
}

/** What promtool expects of some of them. */
function alertsInTests(): string[] {
  const indent = 14
  const reload = ({ cause, remedy }: Explanation): string =>
    description(indent, `${NOT_RELOADED}. ${cause}. ${remedy}. ${SHOWS_MESSAGE}`)
  return [
    description(indent, SERVED_DIFFERS),
    description(indent, NOT_SERVED),
    reload(ERRORS.SSHD_CONFIG_INVALID),
    reload(ERRORS.SSHD_RELOAD_FAILED),
    description(indent, MACHINE_COPIED),
  ]
}

/** A sentence for each code that the label `result` may have. */
function byResult(explained: readonly (readonly [ErrorCode, ErrorEntry])[]): string[] {
  const branches = explained.map(
    ([code, { cause, remedy }], index) =>
      `{{- ${index === 0 ? '' : 'else '}if eq $labels.result "${code}" }}. ${cause}. ${remedy}`,
  )
  return [...branches, `{{- end }}. ${SHOWS_MESSAGE}`]
}

/** A folded scalar of YAML. */
function description(indent: number, ...lines: readonly string[]): string {
  const blanks = ' '.repeat(indent)
  return [`${blanks}description: >-`, ...lines.map((line) => `${blanks}  ${line}`)].join('\n')
}

if (import.meta.main) for (const [path, text] of filesWithErrors()) writeFileSync(join(ROOT, path), text)
