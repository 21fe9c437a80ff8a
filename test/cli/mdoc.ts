/** An entry of a `.Bl` list in a page of mdoc(7). */
export interface Entry {
  /** What stands behind `.It`. */
  readonly head: string
  /** The lines below it, without those of lists in it. */
  readonly lines: readonly string[]
  readonly entries: readonly Entry[]
}

/** The lines of a section; throws when there is none of that name. */
export function section(page: string, name: string): readonly string[] {
  const lines = page.split('\n')
  const start = lines.indexOf(`.Sh ${name}`)
  if (start === -1) throw new Error(`the page has no section ${name}`)
  const length = lines.slice(start + 1).findIndex((line) => line.startsWith('.Sh '))
  return lines.slice(start + 1, length === -1 ? undefined : start + 1 + length)
}

/** The entries of all lists in these lines, those of lists within lists below theirs. */
export function entries(lines: readonly string[]): readonly Entry[] {
  const open: { head: string; lines: string[]; entries: Entry[] }[][] = []
  const found: Entry[] = []
  for (const line of lines) {
    const list = open.at(-1)
    if (line.startsWith('.Bl ')) open.push([])
    else if (line === '.El') {
      open.pop()
      const above = open.at(-1)?.at(-1)
      ;(above?.entries ?? found).push(...(list ?? []))
    } else if (line.startsWith('.It '))
      list?.push({ head: line.slice('.It '.length), lines: [], entries: [] })
    else list?.at(-1)?.lines.push(line)
  }
  return found
}

/** The options that these lines name, as they are typed: `.Fl -json` is `--json`. */
export function options(lines: readonly string[]): readonly string[] {
  return lines
    .filter((line) => line.startsWith('.'))
    .flatMap((line) => [...line.matchAll(/\bFl (-?\w[\w-]*)/g)].map((match) => `-${match[1]}`))
}

/** The arguments of a macro, those in quotes without them. */
export function argumentsOf(macro: string, lines: readonly string[]): readonly string[] {
  return lines
    .filter((line) => line.startsWith(`.${macro} `))
    .map((line) =>
      line
        .slice(macro.length + 2)
        .replace(/^"(.*)"/, '$1')
        .replace(/ [.,;:]$/, ''),
    )
}
