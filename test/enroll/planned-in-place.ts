import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { text } from 'node:stream/consumers'
import { readFileState, undoingOf } from '../../agent/enroll/files.ts'
import { readSshdSetup } from '../../agent/enroll/sshd-facts.ts'
import { planSshd, type SshdPlan } from '../../agent/enroll/sshd.ts'
import { runProgram } from '../../agent/host/programs.ts'
import { makeRuntimeFolder, SshdConfiguration } from '../../agent/host/sshd-files.ts'
import type { Case, Planned } from './ssh-host.ts'

/** A program of ssh-host.ts: runs where /etc/ssh is a folder of the test, and does there what enroll will do. */

const MAIN = '/etc/ssh/sshd_config'
const SSHD = '/usr/sbin/sshd'
const signal = AbortSignal.timeout(110_000)

async function effective(): Promise<string[]> {
  const limits = { timeoutMilliseconds: 10_000, outputBytes: 1 << 20, signal }
  const { status, stdout, stderr } = await runProgram([SSHD, '-T', '-f', MAIN], limits)
  return status === 0 ? stdout.trimEnd().split('\n') : [`refused: ${stderr.trim()}`]
}

async function write(files: Case['files']): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, content, 'latin1')
  }
}

async function userCaInForce(): Promise<string> {
  return (await effective()).find((line) => /^(?:trustedusercakeys|refused:) /.test(line)) ?? ''
}

const NO_PLAN: SshdPlan = { changes: [], notes: [], problems: [] }

async function plan({ files, wanted, later = {}, isUndone = false }: Case): Promise<Planned> {
  await rm('/etc/ssh/sshd_config.d', { recursive: true, force: true })
  await write(files)
  const before = await effective()
  const planNow = async () =>
    wanted === null ? NO_PLAN : planSshd(await readSshdSetup(MAIN, signal), wanted)
  const { changes, notes, problems } = await planNow()
  const userCas = isUndone ? [await userCaInForce()] : []
  for (const { path, before: expected, after } of changes) {
    const found = await readFile(path).catch(() => null)
    if (expected === null ? found !== null : found?.equals(expected.content) !== true)
      throw new Error(`${path} is not as it was expected to be`)
    if (after !== null) await writeFile(path, after.content, { mode: after.mode })
    if (isUndone) userCas.push(await userCaInForce())
  }
  const main = await readFile(MAIN, 'latin1')
  await write(later)
  const sshd = new SshdConfiguration(SSHD, MAIN)
  const again = changes.length === 0 ? NO_PLAN : await planNow()
  const afterwards = await effective()
  const checked = await sshd.check(signal)
  for (const change of isUndone ? changes.toReversed() : []) {
    const { target } = undoingOf(change, await readFileState(change.path))
    await (target === null ? rm(change.path) : writeFile(change.path, target.content))
    userCas.push(await userCaInForce())
  }
  return {
    steps: changes.map(({ path, step }) => `${path}: ${step}`),
    modes: changes.map(({ after }) => after?.mode ?? null),
    notes,
    problems,
    before,
    after: afterwards,
    main,
    check: checked,
    userCas,
    undone: await readFile(MAIN, 'latin1'),
    again: [...again.changes.map(({ step }) => step), ...again.problems],
  }
}

await makeRuntimeFolder()
const planned: Planned[] = []
for (const one of JSON.parse(await text(process.stdin)) as Case[]) planned.push(await plan(one))
process.stdout.write(JSON.stringify(planned))
