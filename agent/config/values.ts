import { isIP, isIPv4, isIPv6 } from 'node:net'
import { dirname, isAbsolute } from 'node:path'
import * as v from 'valibot'
import { CERTIFICATE_SUFFIX } from '../cert/host-certificate.ts'
import { quote } from '../cert/text.ts'
import { parseDuration } from '../cert/time.ts'
import { type Config, type HealthListen, isLoopback } from './config.ts'
import { isTree } from './problem.ts'

/** Nothing that is set here has a use for a newline, a NUL or half of a surrogate pair, which end in surprises further on. */
const CONTROL = /[\p{Cc}\p{Cs}]/u

/** A text of a line, with something in it. */
export function readWord(text: string): Reading<string> {
  return isWord(text) ? value(text) : mustBe('a text of one line, not blank', text)
}

function isWord(text: string): boolean {
  return text.trim() !== '' && !CONTROL.test(text)
}

export function isAbsolutePath(text: string): boolean {
  return isAbsolute(text) && !CONTROL.test(text)
}

/** Relative paths are refused: they would depend on the folder in which a verb is called. */
export function readAbsolutePath(text: string): Reading<string> {
  return isAbsolutePath(text) ? value(text) : mustBe('an absolute path', text)
}

/** In lower case. Any version and variant: the server takes what looks like one, and answers 500 to what does not. */
export function readUuid(text: string): Reading<string> {
  return /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)
    ? value(text.toLowerCase())
    : mustBe('a UUID such as 8c1efcfc-434c-4c43-80e3-53c9eae6672a', text)
}

/** Of a key, as `ssh-keygen -l` prints it. */
export function readKeyFingerprint(text: string): Reading<string> {
  return /^SHA256:[A-Za-z0-9+/]{43}$/.test(text)
    ? value(text)
    : mustBe('SHA256: and 43 characters, as `ssh-keygen -l` prints it', text)
}

/** @returns seconds */
export function readDuration(text: string): Reading<number> {
  const seconds = parseDuration(text)
  return seconds === null ? mustBe('a duration (a whole number and s, m, h or d)', text) : value(seconds)
}

/** @returns seconds, 1 at least */
export function readTimeout(text: string): Reading<number> {
  const seconds = parseDuration(text)
  if (seconds === null || seconds < 1) return mustBe('1s or more (a whole number and s, m, h or d)', text)
  return value(seconds)
}

type RenewalWindow =
  | { readonly kind: 'share'; readonly ratio: number }
  | { readonly kind: 'duration'; readonly seconds: number }

/** A share of the lifetime, or a duration. */
export function readWindow(text: string): Reading<RenewalWindow> {
  const percent = readPercent(text)
  if (percent !== null && percent >= 1 && percent <= 99) return value({ kind: 'share', ratio: percent / 100 })
  const seconds = parseDuration(text)
  if (seconds !== null && seconds >= 1) return value({ kind: 'duration', seconds })
  return mustBe('1% to 99%, or a duration (a whole number and s, m, h or d)', text)
}

/** @returns 0 to 1 */
export function readJitter(text: string): Reading<number> {
  const percent = readPercent(text)
  return percent === null ? mustBe('0% to 100%', text) : value(percent / 100)
}

/** 0 to 100, or null when it is no whole percentage. */
function readPercent(text: string): number | null {
  const match = /^(\d{1,3})%$/.exec(text)
  const percent = match === null ? null : Number(match[1])
  return percent === null || percent > 100 ? null : percent
}

/** Any text but one with a NUL, which ends an argument: execve(2). It may be empty. */
export function readArgument(text: string): Reading<string> {
  return text.includes('\0') ? mustBe('a text without NUL', text) : value(text)
}

/** One principal. ssh-keygen separates them by commas, so `a,b` is two names, not one. */
export function readPrincipal(text: string): Reading<string> {
  return /[\s,]/.test(text) || !isWord(text)
    ? mustBe('one name; each is an item of its own', text)
    : value(text)
}

const WILDCARD = /[*?[\]{}]/

/** The absolute path of a public host key, or a pattern of such paths. */
export function readHostKeyPattern(text: string): Reading<string> {
  if (!isAbsolutePath(text)) return mustBe('an absolute path or pattern', text)
  if (text.endsWith(CERTIFICATE_SUFFIX)) return mustBe('the path of a host key, not of its certificate', text)
  if (!text.endsWith('.pub')) return mustBe('the path of a public key, which ends in .pub', text)
  // It is expanded in each pass: the folders must be few.
  const folders = dirname(text)
    .split('/')
    .filter((name) => WILDCARD.test(name))
  if (text.includes('**') || folders.length > 1)
    return mustBe('a pattern with wildcards in the file name and one folder at most, and without **', text)
  return value(text)
}

/** What became of one text of the configuration: a value, or what is wrong with it. */
export type Reading<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly problem: string }

export function value<T>(read: T): Reading<T> {
  return { ok: true, value: read }
}

/** `must be WHAT, is "TEXT"`. */
export function mustBe(what: string, text: string): Reading<never> {
  return { ok: false, problem: `must be ${what}, is ${quote(text)}` }
}

/** As {@link mustBe} for what may be a secret in the wrong place: does not quote the text. */
export function mustBeUnquoted(what: string): Reading<never> {
  return { ok: false, problem: `must be ${what}` }
}

/** Any text. YAML turns `12` and `true` into something else, hence the advice. */
const text = v.string(({ input }) => {
  if (Array.isArray(input)) return 'must be one value, not a list'
  if (typeof input === 'object') return 'must be one value, not a map'
  return `must be a text, is a ${typeof input}: give its unit, or put it in quotes`
})

/** A text that `read` makes a value of. */
export function textAs<T>(read: (text: string) => Reading<T>) {
  return v.pipe(
    text,
    v.rawTransform<string, T>(({ dataset, addIssue, NEVER }) => {
      const reading = read(dataset.value)
      if (reading.ok) return reading.value
      addIssue({ message: reading.problem })
      return NEVER
    }),
  )
}

/** One of a few words. */
export function oneOf<const Choices extends readonly string[]>(choices: Choices) {
  return v.picklist(choices, ({ input }) => {
    const is = typeof input === 'string' ? `, is ${quote(input)}` : ''
    return `must be one of ${choices.join(', ')}${is}`
  })
}

/** `true` or `false`, as YAML has them. */
export const yesOrNo = v.boolean('must be true or false')

/** A list, which may be empty. */
export function anyListOf<T>(item: v.GenericSchema<unknown, T>) {
  return v.array(item, 'must be a list')
}

/** A list with something in it. */
export function listOf<T>(item: v.GenericSchema<unknown, T>) {
  return v.pipe(anyListOf(item), v.minLength(1, 'must not be empty'))
}

type Entries = v.ObjectEntries

/**
 * A map with known keys. What is unknown is found by `findUnknownKeys`, not here: valibot's strict object reports
 * the first unknown key only.
 */
export function section<const E extends Entries>(entries: E) {
  return v.pipe(v.custom<object>(isTree, 'must be a map of keys'), v.object(entries, 'is required'))
}

/** A section none of whose keys is required, so it may be left out. */
export function optionalSection<const E extends Entries>(entries: E) {
  return v.optional(section(entries), () => ({}))
}

interface HostAndPort {
  /** An IPv6 address is without its brackets. */
  readonly host: string
  readonly port: number
}

/** `HOST:PORT` or `[IPV6]:PORT`, port 1 to 65535; null for anything else. The host is not checked further. */
function splitHostAndPort(given: string): HostAndPort | null {
  const match = /^(?:\[([^[\]]+)\]|([^:[\]]+)):([1-9]\d{0,4})$/.exec(given)
  if (match === null) return null
  const [, bracketed, bare = ''] = match
  const port = Number(match[3])
  if (port > 65_535 || (bracketed !== undefined && !isIPv6(bracketed))) return null
  return { host: bracketed ?? bare, port }
}

/** A name that can be resolved. It becomes an argument of a program, so it never begins with a dash. */
function isHostName(given: string): boolean {
  // What ends in a number is meant as an IPv4 address (WHATWG URL, "ends in a number"), and then must be one.
  if (/(?:^|\.)\d+\.?$/.test(given)) return isIPv4(given)
  return /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}$/.test(given)
}

/** Where to ask what sshd serves. */
export function readSshdAddress(given: string): Reading<Config['sshd']['address']> {
  if (given === 'auto' || given === 'none') return value(given)
  const address = splitHostAndPort(given)
  if (address === null || (isIP(address.host) === 0 && !isHostName(address.host)))
    return mustBe('auto, none or host:port (an IPv6 address in brackets)', given)
  return value(address)
}

/** `sun_path` of unix(7) holds 108 bytes, the NUL at the end among them. */
const LONGEST_SOCKET_PATH_BYTES = 107

/** Where the health server listens. No name but `localhost`: what a name stands for changes, a listener does not. */
export function readHealthListen(given: string): Reading<HealthListen> {
  if (given === 'none') return value({ kind: 'none' })
  if (given.startsWith('unix:')) {
    const path = given.slice('unix:'.length)
    if (!isAbsolutePath(path) || Buffer.byteLength(path) > LONGEST_SOCKET_PATH_BYTES)
      return mustBe(`unix: and an absolute path of at most ${LONGEST_SOCKET_PATH_BYTES} bytes`, given)
    return value({ kind: 'unix', path })
  }
  const address = splitHostAndPort(given)
  if (address === null || (isIP(address.host) === 0 && address.host !== 'localhost'))
    return mustBe('host:port (the host an IP address or localhost), unix:/path or none', given)
  return value({ kind: 'tcp', ...address })
}

/** A name by which browsers ask for the status page. Addresses need no entry: they are always served. */
export function readHealthHost(given: string): Reading<string> {
  const name = given.toLowerCase()
  if (isHostName(name) && isIP(name) === 0) return value(name)
  return mustBe('a host name without scheme, port and path', given)
}

/**
 * The issuer's base URL: https, or http where nothing leaves this host, for a token goes over it.
 *
 * @returns as a URL parser writes it, without slashes at the end; it may have a path
 */
export function readIssuerUrl(given: string): Reading<string> {
  // A URL parser corrects missing slashes, backslashes and white space; here they are more likely a typing error.
  if (!/^https?:\/\/[^/\\\s][^\\\s]*$/i.test(given) || !URL.canParse(given))
    return mustBe('a URL such as https://us.infisical.com', given)
  const url = new URL(given)
  // Not quoted: it has a password in it.
  if (url.username !== '' || url.password !== '' || /^https?:\/\/[^/?#]*@/i.test(given))
    return mustBeUnquoted('a URL without a user name or password')
  if (/[?#]/.test(given)) return mustBe('a URL without a query (?) or fragment (#)', given)
  if (url.protocol === 'http:' && !isLoopback(url.hostname.replace(/^\[|\]$/g, '')))
    return mustBe('https:// (http:// is for 127.0.0.1, [::1] and localhost only)', given)
  return value(`${url.origin}${url.pathname}`.replace(/\/+$/, ''))
}

/** A program with its arguments. */
export const command = v.pipe(
  listOf(textAs(readArgument)),
  v.check(
    ([program]) => program === undefined || isAbsolutePath(program),
    'must begin with the absolute path of a program: no shell looks it up',
  ),
)
