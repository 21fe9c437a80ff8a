import { writeFileSync } from 'node:fs'
import type { Reporter, TestCase, TestModule, TestSuite } from 'vitest/node'
import { isRoot } from './skip.ts'

type Outcome = 'passed' | 'failed' | 'retried' | 'skipped'

interface Line {
  readonly outcome: Outcome
  /** `FILE > SUITE > TEST`. */
  readonly name: string
  /** Empty for what passed. */
  readonly reason: string
}

/**
 * Says at the end of a run which tests needed their retry, and which were skipped and why; vitest counts them at best.
 *
 * @param file for `.ci/run`: gets a line for each result, `OUTCOME <tab> NAME <tab> REASON`. A test that passed at its
 *   retry has two, `passed` and `retried`
 */
export class HonestReporter implements Reporter {
  readonly #file: string | undefined

  constructor(file: string | undefined) {
    this.#file = file
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    const lines = modules.flatMap(linesOf)
    const rest = lines.filter(({ outcome, reason }) => /retried|skipped/.test(outcome) && reason !== '')
    for (const { outcome, name, reason } of rest) process.stdout.write(`${outcome}: ${name}: ${reason}\n`)
    if (this.#file === undefined) return
    const text = lines.map(({ outcome, name, reason }) => `${outcome}\t${name}\t${reason}\n`)
    writeFileSync(this.#file, text.join(''))
  }
}

function linesOf(module: TestModule): Line[] {
  // A file that cannot be loaded, or a suite whose set-up fails, has failed without a failed test.
  const broken = [module, ...module.children.allSuites()].flatMap((suite) =>
    suite.errors().map(({ message }) => line('failed', suite, firstLine(message))),
  )
  const tests = [...module.children.allTests()].flatMap(linesOfTest)
  const lines = [...broken, ...tests, ...wholesaleSkips(module)]
  const isUnexplained = !module.ok() && !lines.some(({ outcome }) => outcome === 'failed')
  return isUnexplained ? [...lines, line('failed', module, 'no message')] : lines
}

function linesOfTest(test: TestCase): Line[] {
  const result = test.result()
  switch (result.state) {
    case 'passed': {
      const passed = line('passed', test, '')
      const retried = line('retried', test, firstLine(result.errors?.[0]?.message))
      return test.diagnostic()?.flaky === true ? [passed, retried] : [passed]
    }
    case 'skipped': {
      const reason = result.note ?? skipReason(test)
      if (reason !== '') return [line('skipped', test, reason)]
      return hasBrokenSuite(test) ? [] : [line('failed', test, 'skipped without a reason')]
    }
    case 'failed':
      return [line('failed', test, firstLine(result.errors[0]?.message))]
    case 'pending':
      return [line('failed', test, 'did not end')]
  }
}

/** As root everything can run: the outermost suites of which nothing did. */
function wholesaleSkips(suite: TestModule | TestSuite): Line[] {
  const tests = [...suite.children.allTests()]
  if (!isRoot || tests.length === 0) return []
  if (suite.ok() && tests.every((test) => test.result().state === 'skipped'))
    return [line('failed', suite, 'each of its tests was skipped, as root')]
  return [...suite.children.suites()].flatMap(wholesaleSkips)
}

function skipReason(from: TestCase | TestSuite | TestModule): string {
  if (from.type === 'module') return ''
  return from.meta().skipReason ?? skipReason(from.parent)
}

/** Then it did not run, which is no choice of its own. */
function hasBrokenSuite({ parent }: TestCase | TestSuite): boolean {
  return parent.errors().length > 0 || (parent.type !== 'module' && hasBrokenSuite(parent))
}

function line(outcome: Outcome, task: TestCase | TestSuite | TestModule, reason: string): Line {
  const file = task.type === 'module' ? task : task.module
  const name = task.type === 'module' ? file.relativeModuleId : `${file.relativeModuleId} > ${task.fullName}`
  return { outcome, name: oneLine(name), reason: oneLine(reason) }
}

function firstLine(message: string | undefined): string {
  return (message ?? 'no message').split('\n', 1)[0] ?? ''
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ')
}
