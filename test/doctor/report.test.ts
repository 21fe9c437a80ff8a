import { expect, test } from 'vitest'
import { failure, formatFindings, ok, skipped, unknown, warning } from '../../agent/doctor/finding.ts'

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

test.each([
  { rest: [], summary: 'no problems found' },
  {
    rest: [unknown('served', 'who knows'), unknown('served', 'why'), unknown('login', 'x')],
    summary: 'no problems found; could not check: served, login',
  },
  {
    rest: [unknown('served', 'x'), failure('tls', 'x', 'y'), warning('daemon', 'x', 'y')],
    summary: '1 failure, 1 warning; could not check: served',
  },
  { rest: [skipped('selinux', 'there is none')], summary: 'no problems found' },
])('sums up: $summary', ({ rest, summary }) => {
  const text = formatFindings([ok('name', 'x'), ...rest], { colour: false, columns: Infinity })
  expect(text.trimEnd().split('\n').at(-1)).toBe(summary)
})

test('in a pipe none is, and only the status is coloured', () => {
  expect(formatFindings(FINDINGS, { colour: true, columns: Infinity })).toBe(`\
\u001B[32mok\u001B[0m       name           issuer.example.com: 192.0.2.17
\u001B[31mfailure\u001B[0m  daemon         no hostcertd answers: nothing is renewed
         -> \`systemctl start hostcertd\`, at once
1 failure
`)
})
