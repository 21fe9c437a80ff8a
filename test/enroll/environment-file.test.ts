import { expect, test } from 'vitest'
import { withVariables } from '../../agent/enroll/environment-file.ts'

const PROXY = 'http://proxy.example.com:3128'
const WANTED = new Map([['HTTPS_PROXY', PROXY]])

test.each([
  { name: 'no file', text: '', want: `HTTPS_PROXY=${PROXY}\n` },
  { name: 'the last line has no end', text: 'A=1', want: `A=1\nHTTPS_PROXY=${PROXY}\n` },
  { name: 'a comment', text: '#HTTPS_PROXY=old\n', want: `#HTTPS_PROXY=old\nHTTPS_PROXY=${PROXY}\n` },
  {
    name: 'in its place, and once',
    text: '# one\n\nHTTPS_PROXY=old\n; two\nB=2\nHTTPS_PROXY=older\n',
    want: `# one\n\nHTTPS_PROXY=${PROXY}\n; two\nB=2\n`,
  },
  {
    name: 'lower case, which would count first',
    text: `HTTPS_PROXY=${PROXY}\nhttps_proxy=\n`,
    want: `HTTPS_PROXY=${PROXY}\n`,
  },
  {
    name: 'a value of several lines',
    text: 'A="\nHTTPS_PROXY=no\n"\nHTTPS_PROXY="a\\\nb"\nC=\\\nHTTPS_PROXY=no\n',
    want: `A="\nHTTPS_PROXY=no\n"\nHTTPS_PROXY=${PROXY}\nC=\\\nHTTPS_PROXY=no\n`,
  },
  {
    name: 'an apostrophe within a value is no quote',
    text: "A=it's\nB=1\n",
    want: `A=it's\nB=1\nHTTPS_PROXY=${PROXY}\n`,
  },
])('set: $name', ({ text, want }) => {
  expect(withVariables(text, WANTED)).toBe(want)
  expect(withVariables(want, WANTED)).toBe(want)
})

test.each([
  `  HTTPS_PROXY = ${PROXY}  \n`,
  `HTTPS_PROXY="${PROXY}"`,
  `HTTPS_PROXY='http://'"proxy.example.com":3128\n`,
  `HTTPS_PROXY=x\nhttps_proxy=${PROXY}\n`,
])('has it already: %j', (text) => {
  expect(withVariables(text, WANTED)).toBe(text)
})

test('a quote that is not closed would take in what follows', () => {
  expect(() => withVariables('# one\nA="x\nB=1\n', WANTED)).toThrow(
    'line 2 opens a quote and does not close it',
  )
})
