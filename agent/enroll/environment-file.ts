/** An assignment of an environment file. */
interface Variable {
  /** All of it, with the end of its line. */
  readonly text: string
  /** Null: it is a comment, or anything else. */
  readonly name: string | null
  readonly value: string
}

/**
 * Set variables in a file that systemd reads by `EnvironmentFile=`. Comments, order and every other byte stay, and a text
 * in which they have these values already stays as it is.
 *
 * @param variables by their names in upper case. Programs read proxy variables in lower case first, so these are
 *   replaced too
 * @throws Error with the number of a line that opens a quote and does not close it
 */
export function withVariables(text: string, variables: ReadonlyMap<string, string>): string {
  let found = variablesIn(text)
  for (const [name, value] of variables) {
    const isIt = (one: Variable): boolean => one.name?.toUpperCase() === name
    const all = found.filter(isIt)
    const counts = all.findLast((one) => one.name !== name) ?? all.at(-1)
    if (counts?.value === value) continue
    const line: Variable = { text: `${name}=${quoted(value)}\n`, name, value }
    const [first] = all
    if (first === undefined) found = [...withEnd(found), line]
    else found = found.flatMap((one) => (one === first ? [line] : isIt(one) ? [] : [one]))
  }
  return found.map((one) => one.text).join('')
}

/**
 * The value of a variable as systemd reads it; the last one counts.
 *
 * @returns null when it is not set
 * @throws Error with the number of a line that opens a quote and does not close it
 */
export function valueIn(text: string, name: string): string | null {
  return variablesIn(text).findLast((one) => one.name === name)?.value ?? null
}

function withEnd(found: readonly Variable[]): Variable[] {
  const last = found.at(-1)
  if (last === undefined || last.text.endsWith('\n')) return [...found]
  return [...found.slice(0, -1), { ...last, text: `${last.text}\n` }]
}

/** As systemd reads it, env-file.c: a quote counts only where a value begins, or behind another quoted part. */
const QUOTED = String.raw`"(?:[^"\\]|\\[^])*"|'[^']*'`
const ASSIGNMENT = new RegExp(
  String.raw`[ \t]*([^\s#;=][^\n=]*?)[ \t]*=((?:[ \t]|${QUOTED})*)((?:[^\s'"\\]|\\[^])(?:[^\n\\]|\\[^])*)?(?:\n|$)`,
  'y',
)
const LINE = /[^\n]*(?:\n|$)/y
const IS_ASSIGNMENT = /^[ \t]*[^\s#;=][^=]*=/

function variablesIn(text: string): readonly Variable[] {
  const found: Variable[] = []
  for (let at = 0; at < text.length;) {
    ASSIGNMENT.lastIndex = at
    LINE.lastIndex = at
    const [whole, name, head = '', tail = ''] = ASSIGNMENT.exec(text) ?? LINE.exec(text) ?? ['']
    if (name === undefined && IS_ASSIGNMENT.test(whole))
      throw new Error(`line ${text.slice(0, at).split('\n').length} opens a quote and does not close it`)
    found.push({ text: whole, name: name ?? null, value: valueOf(head, tail) })
    at += whole.length
  }
  return found
}

function valueOf(head: string, tail: string): string {
  const parts = [...head.matchAll(new RegExp(QUOTED, 'g'))].map(([part]) => {
    const inner = part.slice(1, -1)
    return part.startsWith('"') ? inner.replace(/\\(["\\`$\n])/g, unescaped) : inner
  })
  return parts.join('') + tail.trimEnd().replace(/\\([^])/g, unescaped)
}

/** A newline goes with its backslash. */
function unescaped(_: string, character: string): string {
  return character === '\n' ? '' : character
}

function quoted(text: string): string {
  return /^[\w:/.,@%+*-]*$/.test(text) ? text : `"${text.replace(/["\\$`]/g, '\\$&')}"`
}
