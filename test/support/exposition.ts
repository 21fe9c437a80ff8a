export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

const VALUE = String.raw`(NaN|[+-]Inf|[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)`
const LABEL = String.raw`([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"`

/**
 * Read the Prometheus text format 0.0.4, no more liberal than it is.
 *
 * @throws Error that quotes the line
 */
export function parseExposition(text: string): { samples: Sample[]; types: Map<string, string> } {
  if (!text.endsWith('\n')) throw new Error('the last line is not ended')
  const samples: Sample[] = []
  const types = new Map<string, string>()
  const seen = new Set<string>()
  for (const line of text.split('\n')) {
    if (line === '' || /^# HELP [a-z_]+ [^\n]+$/.test(line)) continue
    const type = /^# TYPE ([a-z_]+) (gauge|counter|histogram)$/.exec(line)
    if (type !== null) {
      if (types.has(type[1]!)) throw new Error(`twice: ${line}`)
      types.set(type[1]!, type[2]!)
      continue
    }
    const match = new RegExp(`^([a-z_]+)(?:\\{(${LABEL}(?:,${LABEL})*)\\})? ${VALUE}$`).exec(line)
    if (match === null) throw new Error(`not a sample: ${line}`)
    const [, name = '', labelText = ''] = match
    const value = Number(match.at(-1)!.replace('Inf', 'Infinity'))
    const labels = Object.fromEntries(
      [...labelText.matchAll(new RegExp(LABEL, 'g'))].map(([, key = '', raw = '']) => [key, unescape(raw)]),
    )
    if ([...types.keys()].at(-1) !== name.replace(/_(?:bucket|sum|count)$/, ''))
      throw new Error(`not with its type: ${line}`)
    const series = JSON.stringify([name, labels])
    if (seen.has(series)) throw new Error(`twice: ${line}`)
    seen.add(series)
    samples.push({ name, labels, value })
  }
  return { samples, types }
}

function unescape(raw: string): string {
  return raw.replace(/\\(.)/g, (_, character: string) => (character === 'n' ? '\n' : character))
}
