import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { cpus, release, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type KeptRow, ROWS } from './rows.ts'

/** `npm run faults:table`: write docs/reliability.md from the rows of `npm run test:faults`. */

const TABLE = fileURLToPath(new URL('../../docs/reliability.md', import.meta.url))

const INTRODUCTION = `# Reliability

What the fault suite measured. It runs hostcertd, a real sshd and an issuer that imitates Infisical, injects one fault
at a time, and then checks the result. Faults are injected from outside; the program has no hooks for them:

- **system calls**: a library loaded with \`LD_PRELOAD\` kills the process before or after the n-th file or network
  call, makes the call fail, or delays it;
- **disk**: small and read-only file systems, folders that are removed or replaced;
- **network**: servers and proxies that misbehave, network namespaces without replies;
- **time**: libfaketime changes the clock of a running process; SIGSTOP and SIGCONT stand in for a suspend;
- **input**: random and mutated certificates, answers, configuration files and requests, from fixed seeds.

| column | meaning |
| --- | --- |
| tried | how often the fault was injected, or how many inputs were tried |
| lost | usable certificates that were in place before and are not there afterwards |
| wrong | any other deviation: a torn file, a wrong mode, a file left over, too many requests, an undocumented error, or input accepted that had to be refused |
| recovered within | the longest time from the end of the fault until a new certificate was served |

The suite fails if any *lost* or *wrong* is not 0. To run it yourself, as root on Debian:

\`\`\`sh
npm run test:faults                       # the short form, part of every CI run
HOSTCERTD_FAULTS=all npm run test:faults  # the whole form: every point, more seeds
npm run faults:table                      # write this page from the last run
\`\`\`

The short form tries a sample of the points of each fault, the whole form all of them, and 20 times as many random
inputs. \`npm run fuzz\` is a separate, coverage-guided run for as long as you like.
`

/** The page for these rows; a later row of the same part and name replaces an earlier one. */
export function pageFor(rows: readonly KeptRow[], facts: readonly (readonly [string, string])[]): string {
  const latest = new Map(rows.map((row) => [`${row.part}\n${row.fault}`, row]))
  const kept = [...latest.values()]
  const unique = (values: readonly string[]): string => [...new Set(values)].join(', ')
  const days = kept.map(({ at }) => at.slice(0, 10)).sort()
  const run: readonly (readonly [string, string])[] = [
    ['form', unique(kept.map(({ form }) => form))],
    ['date', unique([days[0] ?? '', days.at(-1) ?? ''])],
    ['hostcertd', unique(kept.map(({ commit }) => commit))],
    ...facts,
  ]
  const isMixed = new Set(kept.map(({ form }) => form)).size > 1
  const parts = [...new Set(kept.map(({ part }) => part))].sort()
  return [
    INTRODUCTION,
    `## This run\n\n| | |\n| --- | --- |\n${run.map(([name, value]) => line([name, value])).join('\n')}\n`,
    ...parts.map((part) => {
      const own = kept.filter((row) => row.part === part)
      return `## ${part}\n\n${HEAD}\n${own.map((row) => line(cellsOf(row, isMixed))).join('\n')}\n`
    }),
  ].join('\n')
}

const HEAD =
  '| fault | tried | lost | wrong | recovered within | remark |\n| --- | --: | --: | --: | --: | --- |'

function cellsOf({ fault, tried, lost, wrong, recoveredSeconds, remark, form }: KeptRow, isMixed: boolean) {
  const recovered = recoveredSeconds === null ? '' : `${recoveredSeconds.toFixed(1)} s`
  const name = isMixed ? `${fault} (${form} form)` : fault
  return [name, tried.toLocaleString('en'), String(lost), String(wrong), recovered, remark ?? '']
}

function line(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`
}

/** What the last run of it was on: this machine. */
async function factsHere(): Promise<readonly (readonly [string, string])[]> {
  const firstLine = async (program: string, ...args: string[]): Promise<string> => {
    const { stdout, stderr } = await promisify(execFile)(program, args).catch(() => ({
      stdout: 'not installed',
      stderr: '',
    }))
    return (stdout || stderr).split('\n')[0] ?? ''
  }
  return [
    ['Node', process.version],
    ['OpenSSH', await firstLine('ssh', '-V')],
    ['systemd', await firstLine('systemctl', '--version')],
    ['kernel', release()],
    ['machine', `${cpus().length} cores, ${(totalmem() / 2 ** 30).toFixed(1)} GiB of memory`],
  ]
}

const text = await readFile(ROWS, 'utf8').catch(() => '')
const rows = text
  .split('\n')
  .filter((row) => row !== '')
  .map((row) => JSON.parse(row) as KeptRow)
if (rows.length === 0) throw new Error(`${ROWS} has no rows: first \`npm run test:faults\``)
await writeFile(TABLE, pageFor(rows, await factsHere()))
console.log(`${TABLE}: ${rows.length} rows`)
