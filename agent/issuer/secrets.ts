import type { Issuer, IssuerFailure, Log, LogFields } from '../renewal/ports.ts'

/** Replaces a secret in a text. */
export const REDACTED = '[secret]'
/** Replaces a text whose search would take too long: one that is made of pieces of secrets, or of nothing but escapes. */
const WITHHELD = '[a text that was not searched for secrets]'
/** Well under a second; a certificate, a message or a page needs a hundredth of that. */
const MOST_STEPS = 60_000
/** A shorter one is not a secret, and would be found by chance. */
const SHORTEST_SECRET = 4
/** Shorter parts of base64 would also be found where there is no secret. */
const SHORTEST_BASE64 = 8

/**
 * The secrets that this process has read or received: client secrets, access tokens. Whatever leaves the process goes
 * through {@link redact}: a server, or what is in front of it, may repeat what it was sent.
 */
export class Secrets {
  /** Each secret, and its parts in base64: the longest first, for one may be part of another. */
  #needles: readonly string[] = []
  readonly #known = new Set<string>()

  add(secret: string): void {
    if (secret.length < SHORTEST_SECRET || this.#known.has(secret)) return
    this.#known.add(secret)
    const needles = new Set([...this.#needles, secret, ...base64PartsOf(secret)])
    this.#needles = [...needles].sort((a, b) => b.length - a.length)
  }

  /** Without any of the secrets: as they are, escaped for JSON or a URL (also twice), in base64, or in a mixture. */
  redact(text: string): string {
    const budget = { steps: MOST_STEPS }
    let searched = searchable(text)
    for (const needle of this.#needles) {
      const clean = without(needle, searched, budget)
      if (budget.steps <= 0) return WITHHELD
      if (clean !== searched.text) searched = searchable(clean)
    }
    return searched.text
  }

  /** A log whose lines hold no secret. */
  guardLog(log: Log): Log {
    const clean = (fields: LogFields): LogFields =>
      Object.fromEntries(
        Object.entries(fields).map(([name, value]) => [
          name,
          typeof value === 'string' ? this.redact(value) : value,
        ]),
      )
    return {
      debug: (fields, message) => log.debug(clean(fields), this.redact(message)),
      info: (fields, message) => log.info(clean(fields), this.redact(message)),
      warn: (fields, message) => log.warn(clean(fields), this.redact(message)),
      error: (fields, message) => log.error(clean(fields), this.redact(message)),
    }
  }

  /** An issuer whose answers hold no secret. */
  guardIssuer(issuer: Issuer): Issuer {
    const orNull = (text: string | null): string | null => (text === null ? null : this.redact(text))
    const cleanFailure = (failure: IssuerFailure): IssuerFailure => ({
      ...failure,
      message: this.redact(failure.message),
      requestId: orNull(failure.requestId),
    })
    return {
      issue: async (request, signal) => {
        const answer = await issuer.issue(request, signal)
        if (!answer.ok) return { ok: false, failure: cleanFailure(answer.failure) }
        const { signedKey, requestId } = answer
        return { ...answer, signedKey: this.redact(signedKey), requestId: orNull(requestId) }
      },
      hostCa: async (signal) => {
        const answer = await issuer.hostCa(signal)
        return answer.ok ? answer : { ...answer, failure: cleanFailure(answer.failure) }
      },
      health: () => issuer.health(),
    }
  }
}

/** The parts of a text's base64 that stay the same within a longer text: three alignments, in both alphabets. */
function base64PartsOf(text: string): string[] {
  const bytes = Buffer.from(text)
  return [0, 1, 2].flatMap((offset) => {
    const encoded = Buffer.concat([Buffer.alloc(offset), bytes])
      .toString('base64')
      .replace(/=+$/, '')
    // The first characters, and the last one, also hold bits of what is around it.
    const start = [0, 2, 3][offset] ?? 0
    const isWhole = (offset + bytes.length) % 3 === 0
    const part = encoded.slice(start, isWhole ? undefined : -1)
    return part.length < SHORTEST_BASE64 ? [] : [part, part.replaceAll('+', '-').replaceAll('/', '_')]
  })
}

/** What a search may still cost. */
interface Budget {
  steps: number
}

interface Searched {
  readonly text: string
  readonly lowerCase: string
}

function searchable(text: string): Searched {
  // Letters of ASCII only: others may change their length.
  return { text, lowerCase: text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase()) }
}

function without(needle: string, searched: Searched, budget: Budget): string {
  const { text } = searched
  const beginning = beginningOf(needle)
  let clean = ''
  let kept = 0
  for (let found = beginning.exec(text); found !== null; found = beginning.exec(text)) {
    const end = endOf(needle, searched, found.index, budget)
    if (budget.steps <= 0) return text
    if (end !== null) {
      clean += text.slice(kept, found.index) + REDACTED
      kept = end
    }
    beginning.lastIndex = end ?? found.index + 1
  }
  return clean + text.slice(kept)
}

/** Where a secret may begin: its first characters in any form, and more than that. */
function beginningOf(needle: string): RegExp {
  const first = Array.from(needle.slice(0, 6)).slice(0, 3)
  const literal = (text: string): string =>
    Array.from({ length: text.length }, (_, at) => hexOf(text.charCodeAt(at))).join('')
  const sources = first.map((character, index) => {
    // Any more before the first one are no part of the secret.
    const most = index === 0 ? 1 : MOST_BACKSLASHES
    const { plain, json, bytes } = formsOf(character)
    const byte = `%(?:25){0,2}${bytes[0] ?? ''}`
    return `(?:\\\\|%(?:25){0,2}5c){0,${most}}(?:${[...plain, ...json].map(literal).join('|')}|${byte}${bytes
      .slice(1)
      .map((more) => `%(?:25){0,2}${more}`)
      .join('')})`
  })
  return new RegExp(sources.join(''), 'gi')
}

function hexOf(unit: number): string {
  return `\\u${unit.toString(16).padStart(4, '0')}`
}

/** How one character may be written. Hexadecimal digits are in lower case here. */
interface Forms {
  readonly plain: readonly string[]
  /** Behind a backslash. */
  readonly json: readonly string[]
  /** Its bytes behind a percent sign each. */
  readonly bytes: readonly string[]
}

const JSON_LETTERS: ReadonlyMap<string, string> = new Map([
  ['\b', 'b'],
  ['\f', 'f'],
  ['\n', 'n'],
  ['\r', 'r'],
  ['\t', 't'],
])

/** By character: a secret of some KiB has few different ones. */
const knownForms = new Map<string, Forms>()

function formsOf(character: string): Forms {
  const known = knownForms.get(character)
  if (known !== undefined) return known
  const forms = findForms(character)
  knownForms.set(character, forms)
  return forms
}

function findForms(character: string): Forms {
  const units = Array.from({ length: character.length }, (_, index) => character.charCodeAt(index))
  const code = units.map((unit) => `u${unit.toString(16).padStart(4, '0')}`).join('\\')
  const letter = JSON_LETTERS.get(character)
  return {
    plain: character === ' ' ? [' ', '+'] : [character],
    json: letter === undefined ? [code] : [code, letter],
    bytes: [...Buffer.from(character)].map((byte) => byte.toString(16).padStart(2, '0')),
  }
}

const BACKSLASH = formsOf('\\')
/** JSON within JSON within JSON has so many before a character. */
const MOST_BACKSLASHES = 7
/** `%252541`: a percent sign that was escaped itself. */
const MOST_ESCAPED_PERCENTS = 2

/** Where a secret that begins here ends; null when there is none. What can be read in several ways is followed in all. */
function endOf(needle: string, searched: Searched, at: number, budget: Budget): number | null {
  let places: readonly number[] = [at]
  for (const character of needle) {
    budget.steps -= places.length
    if (budget.steps <= 0) return null
    const forms = formsOf(character)
    places = [...new Set(places.flatMap((place) => endsOfCharacter(forms, searched, place)))]
    if (places.length === 0) return null
  }
  return Math.max(...places)
}

function endsOfCharacter(forms: Forms, searched: Searched, place: number): number[] {
  const ends = endsWithoutBackslash(forms, searched, place)
  let places = [place]
  for (let count = 0; count < MOST_BACKSLASHES && places.length > 0; count++) {
    places = places.flatMap((from) => endsWithoutBackslash(BACKSLASH, searched, from))
    for (const from of places) {
      ends.push(...endsWithoutBackslash(forms, searched, from))
      for (const json of forms.json)
        if (searched.lowerCase.startsWith(json, from)) ends.push(from + json.length)
    }
  }
  return ends
}

function endsWithoutBackslash(
  { plain, bytes }: Forms,
  { text, lowerCase }: Searched,
  place: number,
): number[] {
  const ends = plain.filter((one) => text.startsWith(one, place)).map((one) => place + one.length)
  if (text[place] !== '%') return ends
  for (let escaped = 0; escaped <= MOST_ESCAPED_PERCENTS; escaped++) {
    const form = bytes.map((byte) => `%${'25'.repeat(escaped)}${byte}`).join('')
    if (lowerCase.startsWith(form, place)) ends.push(place + form.length)
  }
  return ends
}
