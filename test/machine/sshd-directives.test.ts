import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { linesOf, readDirectives, readUnreadDropIns } from '../../agent/host/sshd-directives.ts'
import { makeRuntimeFolder } from '../../agent/host/sshd-files.ts'
import { needsRoot } from '../support/skip.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

const run = promisify(execFile)

/** What a file is to be read as, `|` between the values. `D/` is the folder of the other files. */
const AS_SSHD: readonly {
  readonly name: string
  readonly main: string
  readonly files?: Readonly<Record<string, string>>
  readonly want: string
}[] = [
  {
    name: 'equals signs',
    main: 'HostCertificate=/a\nHostCertificate =/b\nHostCertificate= /c\nHostCertificate = /d\n',
    want: '/a|/b|/c|/d',
  },
  { name: 'a keyword in quotes, with nothing behind it', main: '"HostCertificate"/a\n', want: '/a' },
  { name: 'a keyword in quotes, and an equals sign', main: '"HostCertificate"=/a\n', want: '/=/a' },
  { name: 'any case', main: 'hOsTcErTiFiCaTe /a\n', want: '/a' },
  { name: 'tabs', main: '\tHostCertificate\t/a\t\n \t HostCertificate \t /b\n', want: '/a|/b' },
  { name: 'CRLF', main: 'HostCertificate /a\r\n\r\nHostCertificate "/b" # why\r\n', want: '/a|/b' },
  { name: 'a form feed at the end', main: 'HostCertificate /a\f\n', want: '/a' },
  {
    name: 'spaces that are none for sshd',
    main: 'HostCertificate /a\u00a0b\u2003c\n',
    want: '/a\u00a0b\u2003c',
  },
  { name: 'no newline at the end', main: 'HostCertificate /a', want: '/a' },
  {
    name: 'comments',
    main: 'HostCertificate /a # c\nHostCertificate /b#c\nHostCertificate "/c # d"\n  # HostCertificate /no\n',
    want: '/a|/b#c|/c # d',
  },
  {
    name: 'quotes and escapes',
    main: `HostCertificate '/a b'\nHostCertificate /a' 'b\nHostCertificate "/q\\"x"\nHostCertificate /s\\ t\n`,
    want: '/a b|/a b|/q"x|/s t',
  },
  {
    name: 'below Match all, however it is written',
    main: 'Match user x\nX11Forwarding no\nMatch=all # why\nHostCertificate /a\nMATCH "ALL"\nHostCertificate /b\n',
    want: '/a|/b',
  },
  {
    name: 'several patterns, by name, with a Match at the end of a file',
    main: 'Include D/*.conf D/none "D/sp ace" # D/z\nHostCertificate /z\n',
    files: {
      '20.conf': 'HostCertificate /20\nMatch User x\nX11Forwarding no\n',
      '10.conf': 'HostCertificate /10',
      'sp ace': 'HostCertificate /sp\n',
      z: 'HostCertificate /no\n',
    },
    want: '/10|/20|/sp|/z',
  },
  {
    name: 'a file that is included twice',
    main: 'Include=D/10.conf\nInclude D/./../d/*.conf\n',
    files: { '10.conf': 'HostCertificate /10\r\n' },
    want: '/10|/10',
  },
  {
    name: 'included by an included file',
    main: 'Include D/a\nHostCertificate /m\n',
    files: { a: 'Include D/b\nHostCertificate /a\n', b: 'HostCertificate /b\n' },
    want: '/b|/a|/m',
  },
  {
    name: 'Match all in a file that is included below Match',
    main: 'Match User x\nInclude D/a\nMatch all\nHostCertificate /m\n',
    files: { a: 'Match all\nX11Forwarding yes\n' },
    want: '/m',
  },
  {
    name: 'sets in a pattern',
    main: 'Include D/[[:digit:]]?.conf D/[!1-9b].conf\n',
    files: {
      '10.conf': 'HostCertificate /10\n',
      'a.conf': 'HostCertificate /a\n',
      'b.conf': 'HostCertificate /b\n',
    },
    want: '/10|/a',
  },
  {
    name: 'hidden files, and folders',
    main: 'Include D/* D\n',
    files: { '.h': 'HostCertificate /h\n', 'a~': 'HostCertificate /a~\n' },
    want: '/a~',
  },
]

test.each(AS_SSHD)('as sshd reads it: $name', needsRoot, async ({ main, files = {}, want }) => {
  await using folder = await makeTemporaryFolder()
  const at = (name: string): string => join(folder.path, name)
  const here = (text: string): string =>
    text.replaceAll('D/', `${at('d')}/`).replaceAll(' D\n', ` ${at('d')}\n`)
  await mkdir(at('d'))
  await generateKey(at('key'), 'ed25519', '')
  for (const [name, text] of Object.entries(files)) await writeFile(at(join('d', name)), here(text))
  await writeFile(at('sshd_config'), `HostKey ${at('key')}\n${here(main)}`)
  await makeRuntimeFolder()
  const { stdout } = await run('/usr/sbin/sshd', ['-T', '-f', at('sshd_config')], { cwd: '/' })
  const printed = [...stdout.matchAll(/^hostcertificate (.*)$/gim)].map(([, path]) => path)
  // It prints a relative path behind the folder that it runs in.
  const asPath = (path = ''): string => resolve('/', path)
  expect(printed.map(asPath).join('|')).toBe(want)
  const read = linesOf(await readDirectives(at('sshd_config')), 'hostcertificate')
  expect(read.map(({ value }) => asPath(value)).join('|')).toBe(want)
})

test('lines with their places: includes where they are, in the order of their names', async () => {
  await using folder = await makeTemporaryFolder()
  const at = (name: string): string => join(folder.path, name)
  await mkdir(at('sshd_config.d'))
  await writeFile(
    at('sshd_config'),
    `# HostKey /no
Include ${at('sshd_config.d')}/*.conf "${at('more')}"
  HOSTKEY = /a
HostKey "/with space" # by hand
HostKey '/single#quoted'
HostKey /a#b
"HostKey" "/with"\\ 'two parts'/"a \\"quote\\""
Match User x
HostCertificate /c
MATCH ALL
HostCertificate /d
`,
  )
  await writeFile(at('sshd_config.d/20-b.conf'), 'HostCertificate /b\nMatch user x\nHostKey /in-match\n')
  await writeFile(at('sshd_config.d/10-a.conf'), 'HostCertificate /a\r\n')
  await writeFile(at('sshd_config.d/.hidden.conf'), 'HostCertificate /hidden\n')
  await writeFile(at('more'), 'HostKey /more\n')
  const lines = (await readDirectives(at('sshd_config')))
    .filter(({ keyword }) => keyword.startsWith('host'))
    .map(({ file, line, keyword, value, inMatch }) => {
      const place = `${file.replace(`${folder.path}/`, '')}:${line}`
      return `${place} ${keyword} ${value}${inMatch ? ' in match' : ''}`
    })
  expect(lines).toEqual([
    'sshd_config.d/10-a.conf:1 hostcertificate /a',
    'sshd_config.d/20-b.conf:1 hostcertificate /b',
    'sshd_config.d/20-b.conf:3 hostkey /in-match in match',
    'more:1 hostkey /more',
    'sshd_config:3 hostkey /a',
    'sshd_config:4 hostkey /with space',
    'sshd_config:5 hostkey /single#quoted',
    'sshd_config:6 hostkey /a#b',
    'sshd_config:7 hostkey /with two parts/a "quote"',
    'sshd_config:9 hostcertificate /c in match',
    'sshd_config:11 hostcertificate /d',
  ])
})

test('drop-ins that no Include reaches are read for themselves', async () => {
  await using folder = await makeTemporaryFolder()
  const at = (name: string): string => join(folder.path, name)
  await mkdir(at('sshd_config.d'))
  await writeFile(at('sshd_config'), `Include ${at('sshd_config.d')}/1*.conf\n`)
  await writeFile(at('sshd_config.d/10-a.conf'), 'HostKey /a\n')
  await writeFile(at('sshd_config.d/20-b.conf'), 'HostKey /b\n')
  const unread = await readUnreadDropIns(at('sshd_config'), await readDirectives(at('sshd_config')))
  expect(unread.map(({ file, value }) => [file, value])).toEqual([[at('sshd_config.d/20-b.conf'), '/b']])
})
