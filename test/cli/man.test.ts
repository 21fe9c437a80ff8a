import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { ERROR_CODES } from '../../agent/cert/errors.ts'
import { EXIT } from '../../agent/cli/context.ts'
import { NEEDS_RENEWAL } from '../../agent/cli/renew.ts'
import type { Tree } from '../../agent/config/problem.ts'
import { checkTree } from '../../agent/config/schema.ts'
import { CERTIFICATE_STATES } from '../../agent/renewal/certificate-state.ts'
import { schemaSettings } from '../config/schema-settings.ts'
import { type CommandShape, flatten, hostcertdShape } from './command-shape.ts'
import { argumentsOf, entries, options, section } from './mdoc.ts'

const ROOT = join(import.meta.dirname, '../..')
const PAGES = ['hostcertd.8', 'hostcertd.yaml.5'].map((name) => join(ROOT, 'packaging/man', name))
const [PROGRAM_PAGE = '', CONFIG_PAGE = ''] = await Promise.all(
  PAGES.map(async (path) => readFile(path, 'utf8')),
)

const PROGRAM = hostcertdShape()
const VERBS = flatten(PROGRAM).filter(isVerb)

/** `config` alone is none, and what stands below `help` are names. */
function isVerb({ path, verbs }: CommandShape): boolean {
  return path[0] === 'help' ? path.length === 1 : path.length > 0 && verbs.length === 0
}

function nameOf({ path }: CommandShape): string {
  return path.join(' ')
}

function longOptions(command: CommandShape): string[] {
  return command.options.map(({ long }) => long).sort()
}

/** Told once for all verbs. */
const COMMON = ['--config', '--help', '--json']

describe('hostcertd(8)', () => {
  const told = entries(section(PROGRAM_PAGE, 'VERBS'))

  test('the synopsis has every verb with its options, and nothing more', () => {
    const lines = section(PROGRAM_PAGE, 'SYNOPSIS').join('\n').split('.Nm\n').slice(1)
    const synopsis = lines.map((block) => {
      const own = block.split('\n')
      return {
        verb: argumentsOf('Cm', own)[0],
        options: [...options(own), '--help'].sort(),
        operand: /^(?:\.Op )?\.?Ar\b/m.test(block),
      }
    })
    expect(synopsis).toEqual(
      VERBS.map((verb) => ({
        verb: nameOf(verb),
        options: longOptions(verb),
        operand: nameOf(verb) === 'help' || verb.operand !== null,
      })),
    )
  })

  test('every verb is told, with the options of its own, and nothing more', () => {
    expect(
      told.map(({ head, entries: below }) => ({
        head,
        options: options(below.map((entry) => `.It ${entry.head}`)),
      })),
    ).toEqual(
      VERBS.map((verb) => ({
        head: `Cm ${nameOf(verb)}`,
        options: verb.options
          .filter(({ long }) => !COMMON.includes(long))
          .flatMap(({ short, long }) => (short === null ? [long] : [short, long])),
      })),
    )
  })

  test('the options of all verbs and of the program are told', () => {
    const heads = entries(section(PROGRAM_PAGE, 'OPTIONS')).map(({ head }) => `.It ${head}`)
    const flags = new Set([...COMMON, ...PROGRAM.options.flatMap(({ short, long }) => [short ?? long, long])])
    expect([...options(heads)].sort()).toEqual([...flags].sort())
  })

  test('an option takes the value that it is said to take', () => {
    const heads = [
      ...told.flatMap(({ entries: below }) => below),
      ...entries(section(PROGRAM_PAGE, 'OPTIONS')),
    ]
    const values = new Map(
      heads.map(({ head }) => [options([`.It ${head}`]).at(-1), / Ar (\w+)$/.exec(head)?.[1]]),
    )
    for (const verb of VERBS)
      for (const { long, value } of verb.options)
        expect(`${long} ${values.get(long)}`).toBe(`${long} ${value?.name}`)
  })

  const withDefault = VERBS.flatMap((verb) =>
    verb.options.flatMap(({ long, byDefault }) =>
      byDefault === null ? [] : [{ verb: nameOf(verb), long, byDefault }],
    ),
  )

  test.each(withDefault)('the default of $verb $long is $byDefault', ({ verb, long, byDefault }) => {
    const below = told.find(({ head }) => head === `Cm ${verb}`)?.entries ?? []
    const entry = below.find(({ head }) => head.startsWith(`Fl ${long.slice(1)} `))
    expect(argumentsOf('Ql', entry?.lines ?? [])).toContain(byDefault)
  })

  test('it lists the states, the first that applies first', () => {
    const heads = entries(section(PROGRAM_PAGE, 'STATES')).map(({ head }) => head)
    expect(heads).toEqual(CERTIFICATE_STATES.map((state) => `Sy ${state}`))
  })

  const codes = entries(section(PROGRAM_PAGE, 'ERROR CODES'))

  test('it lists the error codes', () => {
    expect(codes.map(({ head }) => head)).toEqual(ERROR_CODES.map((code) => `Er ${code}`))
  })

  test.each(codes)('$head: cause and remedy', ({ lines }) => {
    // A sentence each, at the least.
    expect(lines.filter((line) => line.endsWith('.')).length).toBeGreaterThan(1)
  })

  test('it lists the exit statuses', () => {
    const heads = entries(section(PROGRAM_PAGE, 'EXIT STATUS')).map(({ head }) => Number(head))
    expect(new Set(heads)).toEqual(new Set([...Object.values(EXIT), ...Object.values(NEEDS_RENEWAL)]))
  })

  test('it lists the signals that the program listens to', async () => {
    const files = ['agent/main.ts', 'agent/signals.ts'].map((file) => readFile(join(ROOT, file), 'utf8'))
    const main = (await Promise.all(files)).join('\n')
    const heads = entries(section(PROGRAM_PAGE, 'SIGNALS')).flatMap(({ head }) => head.match(/SIG\w+/g) ?? [])
    expect(heads.sort()).toEqual([...new Set(main.match(/(?<=')SIG\w+(?=')/g))].sort())
  })

  test('it lists the files that the helper and the sockets have', async () => {
    const [helper, ...sockets] = await Promise.all(
      ['reload-helper', 'hostcertd-exchange.socket', 'hostcertd-reload.socket'].map(async (name) =>
        readFile(join(ROOT, 'systemd', name), 'utf8'),
      ),
    )
    const paths = [
      ...(helper ?? '').matchAll(/^(?:staged|copies|drop_in)=(\S+)$/gm),
      ...sockets.join('\n').matchAll(/^ListenStream=(\S+)$/gm),
    ].map((match) => match[1])
    const listed = entries(section(PROGRAM_PAGE, 'FILES')).map(({ head }) =>
      head.replace(/^Pa (.*?)\/?$/, '$1'),
    )
    expect(paths).toHaveLength(5)
    expect(listed).toEqual(expect.arrayContaining(paths))
  })
})

/** Defaults that are not in the schema, for they depend on something. */
const DEFAULTS_BY_HAND: ReadonlyMap<string, RegExp> = new Map([
  ['verify.host_ca_file', /^Default:$/],
  ['auth.client_id', /^Required for universal-auth, or else/],
  ['auth.identity_id', /^Required there, or else/],
  ['auth.username', /^Required there, or else/],
  ['auth.access_key_id', /^Required there, or else/],
])

describe('hostcertd.yaml(5)', () => {
  const settings = schemaSettings()
  const keys = entries(section(CONFIG_PAGE, 'KEYS'))

  function linesOf(key: string): readonly string[] {
    return keys.find(({ head }) => head === `Cm ${key}`)?.lines ?? []
  }

  test('it has the keys of the schema, and nothing more', () => {
    expect(settings.length).toBeGreaterThan(20)
    expect(keys.map(({ head }) => head).sort()).toEqual(settings.map(({ key }) => `Cm ${key}`).sort())
  })

  test.each(settings.filter(({ byDefault }) => byDefault !== undefined))(
    'the default of $key is $byDefault',
    ({ key, byDefault }) => {
      const lines = linesOf(key)
      expect(argumentsOf('Ql', lines.slice(lines.lastIndexOf('Default:')))).toEqual([String(byDefault)])
    },
  )

  test.each(settings.filter(({ byDefault }) => byDefault === undefined))(
    '$key has no default, and it is said whether it is required: $isRequired',
    ({ key, isRequired }) => {
      const last = linesOf(key).findLast((line) => /^(?:Required|Default)/.test(line))
      expect(last).toMatch(isRequired ? /^Required/ : (DEFAULTS_BY_HAND.get(key) ?? /^Default: none[.;]/))
    },
  )

  test.each(settings.filter(({ words }) => words.length > 0))(
    '$key: the words are $words',
    ({ key, words }) => {
      const lines = linesOf(key)
      const named = argumentsOf('Ql', lines.slice(0, lines.lastIndexOf('Default:')))
      expect(named.toSorted()).toEqual(words.toSorted())
    },
  )

  test.each(settings.filter(({ methods }) => methods.length > 0))(
    '$key: the methods are $methods',
    ({ key, methods }) => {
      const text = linesOf(key).slice(
        0,
        linesOf(key).findLastIndex((line) => line === '.Pp'),
      )
      const all = settings.find(({ key: one }) => one === 'auth.method')?.methods ?? []
      const named = argumentsOf('Ql', text).filter((word) => all.includes(word))
      const others = all.filter((method) => !named.includes(method))
      const takes = text.some((line) => line.includes('for all methods except'))
        ? others
        : text.some((line) => line.includes('for all methods'))
          ? all
          : named
      expect([...new Set(takes)].sort()).toEqual(methods.toSorted())
    },
  )

  test('its examples are good', () => {
    const text = section(CONFIG_PAGE, 'EXAMPLES').join('\n')
    const [whole = '', part = ''] = [...text.matchAll(/^\.Bd .*\n([^]*?)^\.Ed$/gm)].map((match) => match[1])
    const tree = parse(whole) as Tree
    expect(checkTree(tree)).toMatchObject({ ok: true })
    expect(checkTree({ ...tree, ...(parse(part) as Tree) })).toMatchObject({ ok: true })
  })
})

describe.each(PAGES)('%s', (path) => {
  test('names no option that the program does not have', async () => {
    const known = new Set(
      flatten(PROGRAM).flatMap((verb) => verb.options.flatMap(({ short, long }) => [short ?? long, long])),
    )
    const named = options((await readFile(path, 'utf8')).split('\n'))
    expect(named.filter((option) => !known.has(option))).toEqual([])
  })
})
