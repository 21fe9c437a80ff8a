/**
 * Break a text between words, so that no line is longer than it may be; a word that is longer stands alone. A command
 * between backticks stays in one line if it fits into one: somebody will copy it.
 *
 * @param columns how long a line may be, what it begins with included; `Infinity` for any length
 * @param first what the first line begins with
 * @param others what the others begin with; blanks of the same length when left out
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
  for (const word of wordsOf(text, columns - others.length)) {
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

/** @param longest a command that is longer is taken apart */
function wordsOf(text: string, longest: number): string[] {
  const words = text.match(/[^\s`]*`[^`]*`\S*|\S+/g) ?? []
  return words.flatMap((word) => (word.length <= longest ? [word] : word.split(' ')))
}
