import { execFile } from 'node:child_process'
import { appendFile, mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

/** Where the rows of a run are kept for `table.ts`. */
export const ROWS = fileURLToPath(new URL('../../reports/faults.jsonl', import.meta.url))

/** One kind of fault, and the result of injecting it. */
export interface Row {
  /** The heading of its table. */
  readonly part: string
  readonly fault: string
  readonly tried: number
  /** Usable certificates that were in place and are no more. */
  readonly lost: number
  /** Anything else that is not as it must be: a torn file, a wrong mode, a temporary file left, too many requests. */
  readonly wrong: number
  /** The longest time to the next certificate that is served, in seconds; null where nothing had to recover. */
  readonly recoveredSeconds: number | null
  /** What else was measured. */
  readonly remark?: string
}

/** A line of {@link ROWS}. */
export interface KeptRow extends Row {
  readonly form: 'short' | 'whole'
  /** Abbreviated; with `-dirty` when the working tree differs from it. */
  readonly commit: string
  /** RFC 3339. */
  readonly at: string
}

/** The whole suite, instead of the form that is a part of each run of all tests. */
export const isWhole = process.env['HOSTCERTD_FAULTS'] === 'all'

/** Of many points, all of them in the whole suite, else so many, spread evenly, the first and the last among them. */
export function pointsOf(count: number, some: number): number[] {
  const all = Array.from({ length: count }, (_, index) => index + 1)
  if (isWhole || count <= some) return all
  return [
    ...new Set(
      Array.from({ length: some }, (_, index) => 1 + Math.round((index * (count - 1)) / (some - 1))),
    ),
  ]
}

const COMMIT = promisify(execFile)('git', ['describe', '--always', '--dirty', '--exclude=*'])
  .then(({ stdout }) => stdout.trim())
  .catch(() => 'unknown')

/** Print a row, and keep it for `npm run faults:table`. */
export async function report(row: Row): Promise<void> {
  const { fault, tried, lost, wrong, recoveredSeconds, remark } = row
  const recovered = recoveredSeconds === null ? '' : `, recovered within ${recoveredSeconds.toFixed(1)} s`
  console.log(
    `${fault}: ${tried} tried, ${lost} lost, ${wrong} wrong${recovered}${remark === undefined ? '' : `; ${remark}`}`,
  )
  const form = isWhole ? 'whole' : 'short'
  const kept: KeptRow = { ...row, form, commit: await COMMIT, at: new Date().toISOString() }
  await mkdir(dirname(ROWS), { recursive: true })
  await appendFile(ROWS, `${JSON.stringify(kept)}\n`)
}

/** Report a row from what was found wrong, each `WHERE: WHAT`; `lost: ` in front of WHAT is a certificate that is gone. */
export async function reportFlaws(row: Omit<Row, 'lost' | 'wrong'>, flaws: readonly string[]): Promise<void> {
  const lost = flaws.filter((flaw) => flaw.includes(': lost: ')).length
  await report({ ...row, lost, wrong: flaws.length - lost })
}
