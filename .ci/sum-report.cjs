// Usage: node sum-report.cjs REPORT FAILURES
// Prints `PASSED FAILED` of one of vitest's JSON reports, and adds a line for each failed test to the file FAILURES.
// Run by whatever Node the machine has.
const { appendFileSync, readFileSync } = require('node:fs')
const { relative } = require('node:path')

const [report, failures] = process.argv.slice(2)
const { numPassedTests, numFailedTests, testResults } = JSON.parse(readFileSync(report, 'utf8'))
const firstLine = (text) => (text ?? '').split('\n', 1)[0]
const tell = (file, name, why) => appendFileSync(failures, `${relative('.', file)} > ${name}: ${why}\n`)

// A file that could not be loaded, or whose set-up failed, has failed without a failed test.
let broken = 0
for (const { name: file, status, message, assertionResults } of testResults) {
  const failed = assertionResults.filter((test) => test.status === 'failed')
  for (const { fullName, failureMessages } of failed) tell(file, fullName, firstLine(failureMessages[0]))
  if (status === 'failed' && failed.length === 0) {
    broken++
    tell(file, 'the file', firstLine(message))
  }
}
process.stdout.write(`${numPassedTests} ${numFailedTests + broken}\n`)
