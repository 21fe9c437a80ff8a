/** Of what a server says, as much as a person needs. */
const LONGEST_CHARACTERS = 300

/** Controls beyond those that JSON escapes, line separators, and what turns the direction of writing. */
const INVISIBLE = /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g

/**
 * A server's words, safe in a log line and on a terminal: one line, cut, quoted, controls escaped.
 *
 * @param secrets are blotted out: a server may echo what it was sent
 */
export function quoteWords(text: string, secrets: readonly string[]): string {
  const clean = redact(text, secrets)
  const cut = clean.length > LONGEST_CHARACTERS ? `${clean.slice(0, LONGEST_CHARACTERS)}…` : clean
  return JSON.stringify(cut).replace(INVISIBLE, escaped)
}

/** As {@link quoteWords} for a library's message: no quotes around it. */
export function plainWords(text: string, secrets: readonly string[]): string {
  return quoteWords(text.trim().replace(/\s+/g, ' '), secrets).slice(1, -1).replaceAll('\\"', '"')
}

function redact(text: string, secrets: readonly string[]): string {
  let clean = text
  for (const secret of secrets) {
    if (secret !== '') clean = clean.replaceAll(secret, '[secret]')
  }
  return clean
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}
