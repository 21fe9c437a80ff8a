export interface Terminal {
  readonly colour: boolean
  /** `Infinity` for a file or a pipe: lines may have any length. */
  readonly columns: number
}

/**
 * Wrap a text between words; a word that is too long gets a line of its own. A command in backticks is kept on one line
 * if it fits, so that it can be copied.
 *
 * @param columns maximum length of a line, prefix included; `Infinity` for no limit
 * @param first prefix of the first line
 * @param others prefix of the other lines; by default spaces of the same length
 */
export function wrap(
  text: string,
  columns: number,
  first: string,
  others: string = ' '.repeat(first.length),
): string[] {
  if (first.length + text.length <= columns) return [`${first}${text}`]
  const lines: string[] = []
  let line = first
  let isEmpty = true
  for (const word of partsOf(text, columns - others.length)) {
    if (!isEmpty && line.length + 1 + word.length > columns) {
      lines.push(line)
      line = others
      isEmpty = true
    }
    line += isEmpty ? word : ` ${word}`
    isEmpty = false
  }
  return [...lines, line]
}

/** @param longest a command that is longer is split */
function partsOf(text: string, longest: number): string[] {
  const parts = text.match(/[^\s`]*`[^`]*`\S*|\S+/g) ?? []
  return parts.flatMap((part) => (part.length <= longest ? [part] : part.split(' ')))
}
