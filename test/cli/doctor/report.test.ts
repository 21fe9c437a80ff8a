import { expect, test } from 'vitest'
import { failure, ok } from '../../../agent/cli/doctor/finding.ts'
import { formatFindings } from '../../../agent/cli/doctor/report.ts'

const FINDINGS = [
  ok('name', 'issuer.example.com: 192.0.2.17'),
  failure('daemon', 'no hostcertd answers: nothing is renewed', '`systemctl start hostcertd`, at once'),
]

test('at 40 columns each line is broken between words, and a command is not', () => {
  expect(formatFindings(FINDINGS, { colour: false, columns: 40 })).toBe(`\
ok       name           issuer.example.com:
         192.0.2.17
failure  daemon         no hostcertd
         answers: nothing is renewed
         -> \`systemctl start hostcertd\`,
            at once
1 failure
`)
})

test('in a pipe none is, and only the status is coloured', () => {
  expect(formatFindings(FINDINGS, { colour: true, columns: Infinity })).toBe(`\
\u001B[32mok\u001B[0m       name           issuer.example.com: 192.0.2.17
\u001B[31mfailure\u001B[0m  daemon         no hostcertd answers: nothing is renewed
         -> \`systemctl start hostcertd\`, at once
1 failure
`)
})
