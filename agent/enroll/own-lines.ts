import { quote, quoteUpTo } from '../cert/text.ts'

/** What became of a file when the lines that enroll added were taken out of it. */
export interface WithoutOwnLines {
  readonly content: Buffer
  /** What could not be undone, and why: one text each. */
  readonly left: readonly string[]
}

/** Lines that enroll replaced, removed or added: ranges of indexes, the end excluded. */
interface Hunk {
  readonly removed: readonly [start: number, end: number]
  readonly added: readonly [start: number, end: number]
}

/** At most some seconds and 16 MiB. Enough for two files of 2,000 lines that have nothing in common. */
const MOST_CELLS = 4_000_000

/**
 * Undo what enroll changed in a file that others have edited since. Every line of others stays. Lines that enroll changed
 * together are undone together or not at all: its own lines have to be found as whole lines, in order, and the lines that
 * it removed are put back only if their place is certain.
 *
 * Bytes, not characters: lines are compared as they are, carriage returns included.
 *
 * @param before what enroll found
 * @param after what enroll left
 * @param now what is there
 * @param isSecret whether no line may be quoted
 */
export function takeOutOwnLines(
  before: Buffer,
  after: Buffer,
  now: Buffer,
  isSecret: boolean,
): WithoutOwnLines {
  const [old, own, current] = [before, after, now].map(linesOf) as [string[], string[], string[]]
  const changed = align(old, own)
  const where = align(own, current)
  if (changed === null || where === null) return { content: now, left: ['it has too many lines to compare'] }

  const taken = new Set<number>()
  const putBack = new Map<number, readonly string[]>()
  const left: string[] = []
  for (const hunk of hunksOf(changed, own.length)) {
    const places = where.slice(...hunk.added)
    const removed = old.slice(...hunk.removed)
    const named = nameOf(own.slice(...hunk.added), isSecret)
    if (places.includes(-1)) {
      left.push(`${named} was changed or removed since`)
      continue
    }
    if (!isCertain(hunk, own, current, where)) {
      left.push(`${named} now occurs several times`)
      continue
    }
    if (removed.length > 0) {
      const place = placeOf(hunk, own, current, where)
      if (place === null) {
        left.push('lines that enroll removed cannot be put back: the lines around them changed')
        continue
      }
      putBack.set(place, removed)
    }
    for (const place of places) taken.add(place)
  }

  const result: string[] = []
  for (const [index, line] of [...current, null].entries()) {
    result.push(...(putBack.get(index) ?? []))
    if (line !== null && !taken.has(index)) result.push(line)
  }
  return { content: joined(result), left }
}

/** At both ends. Not `trim`, which would remove bytes of UTF-8 characters, as the text is read as Latin-1. */
const BLANKS = /^[\t ]+|[\t\r\n ]+$/g
/** To put a line back by hand, all of it is needed: the key of a CA, for example. */
const LONGEST_LINE = 16 * 1024

/**
 * Lines that enroll removed from a file and that are not in it once the change is undone as far as it can be.
 *
 * @returns a text for each, with the whole line
 */
export function linesNotPutBack(before: Buffer, after: Buffer, result: Buffer): string[] {
  const textsOf = (content: Buffer): string[] => linesOf(content).map((line) => line.replaceAll(BLANKS, ''))
  const own = textsOf(after)
  const back = subtract(textsOf(result), own)
  return subtract(subtract(textsOf(before), own), back)
    .filter((line) => line !== '')
    .map((line) => quoteUpTo(LONGEST_LINE, Buffer.from(line, 'latin1').toString()))
    .map((line) => `enroll removed the line ${line}, which is not put back`)
}

/** The lines without those of the other list; of a line that is there several times, each one counts. */
function subtract(lines: readonly string[], others: readonly string[]): string[] {
  const counts = new Map<string, number>()
  for (const line of others) counts.set(line, (counts.get(line) ?? 0) + 1)
  return lines.filter((line) => {
    const count = counts.get(line) ?? 0
    counts.set(line, count - 1)
    return count <= 0
  })
}

/** Each with its line feed; the last may have none. */
function linesOf(content: Buffer): string[] {
  return content.toString('latin1').match(/[^\n]*\n|[^\n]+$/g) ?? []
}

function joined(lines: readonly string[]): Buffer {
  const last = lines.length - 1
  return Buffer.from(
    lines.map((line, index) => (index < last && !line.endsWith('\n') ? `${line}\n` : line)).join(''),
    'latin1',
  )
}

/** Without the line feed, so that the last line of a file is the same line with or without one. */
function textOf(line: string | undefined): string | null {
  return line === undefined ? null : line.replace(/\n$/, '')
}

function nameOf(lines: readonly string[], isSecret: boolean): string {
  const [first = ''] = lines
  const more = lines.length > 1 ? ` (and ${lines.length - 1} more)` : ''
  return isSecret
    ? `a line${more}`
    : `the line ${quote(Buffer.from(first.trim(), 'latin1').toString())}${more}`
}

/**
 * The longest common subsequence of two files.
 *
 * @returns for each line of `from` its index in `to`, or -1; null when that is too much work
 */
function align(from: readonly string[], to: readonly string[]): number[] | null {
  const [a, b] = [from.map(textOf), to.map(textOf)]
  let start = 0
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1
  let end = 0
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end])
    end += 1

  const [rows, columns] = [a.length - start - end, b.length - start - end]
  const width = columns + 1
  if ((rows + 1) * width > MOST_CELLS) return null
  // The length for the rest of both, from each pair of lines on.
  const lengths = new Uint32Array((rows + 1) * width)
  const at = (row: number, column: number): number => lengths[row * width + column] ?? 0
  for (let row = rows - 1; row >= 0; row -= 1) {
    for (let column = columns - 1; column >= 0; column -= 1) {
      lengths[row * width + column] =
        a[start + row] === b[start + column]
          ? at(row + 1, column + 1) + 1
          : Math.max(at(row + 1, column), at(row, column + 1))
    }
  }

  const where = a.map((_, index) => {
    if (index < start) return index
    return index >= a.length - end ? index + b.length - a.length : -1
  })
  for (let row = 0, column = 0; row < rows && column < columns;) {
    if (a[start + row] === b[start + column]) {
      where[start + row] = start + column
      row += 1
      column += 1
    } else if (at(row + 1, column) >= at(row, column + 1)) row += 1
    else column += 1
  }
  return where
}

/** @param where of each old line in the new file of so many lines */
function hunksOf(where: readonly number[], length: number): readonly Hunk[] {
  const hunks: Hunk[] = []
  let [old, own] = [0, 0]
  for (const [index, place] of [...where, length].entries()) {
    if (place === -1) continue
    if (index > old || place > own) hunks.push({ removed: [old, index], added: [own, place] })
    old = index + 1
    own = place + 1
  }
  return hunks
}

/** Where the lines just above and just below what enroll changed are now: the ends of the file count as lines. */
function neighboursOf(
  { added: [start, end] }: Hunk,
  own: readonly string[],
  current: readonly string[],
  where: readonly number[],
): { readonly above: number | null; readonly below: number | null } {
  const placeOfLine = (index: number): number | null => {
    if (index === -1) return -1
    if (index === own.length) return current.length
    const place = where[index] ?? -1
    return place === -1 ? null : place
  }
  return { above: placeOfLine(start - 1), below: placeOfLine(end) }
}

/** If somebody repeated a line, enroll's is the one that is still next to one of the lines that were next to it. */
function isCertain(
  hunk: Hunk,
  own: readonly string[],
  current: readonly string[],
  where: readonly number[],
): boolean {
  const [start, end] = hunk.added
  const repeated = own
    .slice(start, end)
    .map(textOf)
    .some((text) => text?.trim() !== '' && countOf(text, current) > countOf(text, own))
  if (!repeated) return true
  const { above, below } = neighboursOf(hunk, own, current, where)
  const [first = -1, last = -1] = [where[start], where[end - 1]]
  return above === first - 1 || below === last + 1
}

function countOf(text: string | null, lines: readonly string[]): number {
  return lines.filter((line) => textOf(line) === text).length
}

/** The index in `current` before which the removed lines belong; null when that is not certain. */
function placeOf(
  hunk: Hunk,
  own: readonly string[],
  current: readonly string[],
  where: readonly number[],
): number | null {
  const [start, end] = hunk.added
  if (end > start) {
    const [first = -1, last = -1] = [where[start], where[end - 1]]
    return last - first === end - 1 - start ? first : null
  }
  const { above, below } = neighboursOf(hunk, own, current, where)
  if (above === null || below === null || below !== above + 1) return null
  const pair = [textOf(own[start - 1]), textOf(own[start])] as const
  return pairsOf(pair, current) > pairsOf(pair, own) ? null : below
}

/** How often two lines follow each other; null is an end of the file. */
function pairsOf([above, below]: readonly [string | null, string | null], lines: readonly string[]): number {
  const texts = [null, ...lines.map(textOf), null]
  return texts.slice(1).filter((text, index) => text === below && texts[index] === above).length
}
