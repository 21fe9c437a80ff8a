import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { AUTH_SECTIONS } from '../../agent/config/auth-section.ts'
import { hasPath, type Tree, type TreeValue } from '../../agent/config/config.ts'
import { loadConfig } from '../../agent/config/load.ts'
import { configSchema } from '../../agent/config/schema.ts'
import { defaultOf, entriesOf, type AnySchema } from '../../agent/config/unknown-keys.ts'
import { INTERFACE_EXAMPLE } from './interface-example.ts'

const EXAMPLE = join(import.meta.dirname, '../../config.example.yaml')

interface Setting {
  readonly keys: readonly string[]
  /** As it would be written; undefined when there is none. */
  readonly value: unknown
}

/** Every key of the schema that holds a value, with its default. */
function settingsOf(schema: AnySchema, above: readonly string[]): Setting[] {
  return Object.entries(entriesOf(schema, {}) ?? {}).flatMap(([key, below]) => {
    const keys = [...above, key]
    if (key === 'auth') return Object.values(AUTH_SECTIONS).flatMap((section) => settingsOf(section, keys))
    return entriesOf(below, {}) === null ? [{ keys, value: defaultOf(below) }] : settingsOf(below, keys)
  })
}

const SETTINGS = settingsOf(configSchema, [])
const WITH_DEFAULT = SETTINGS.filter(({ value }) => value !== undefined)

/** With each commented setting in force; text has a space behind its `#`. */
async function uncommented(): Promise<Tree> {
  const text = await readFile(EXAMPLE, 'utf8')
  return parse(text.replaceAll(/^( *)#(?=\w)/gm, '$1')) as Tree
}

function valueAt(tree: Tree, keys: readonly string[]): TreeValue | undefined {
  return keys.reduce<TreeValue | undefined>((value, key) => (value as Tree | undefined)?.[key], tree)
}

test('the example can be loaded as it is, and sets nothing but what is required', async () => {
  const loaded = await loadConfig({ path: EXAMPLE, environment: {} })
  expect(loaded).toMatchObject({ kind: 'ok', files: [EXAMPLE] })
  expect(parse(await readFile(EXAMPLE, 'utf8'))).toEqual({
    issuer: { url: expect.any(String), ssh_host_id: expect.any(String) },
    auth: { client_id: expect.any(String) },
  })
})

test('the walk over the schema finds the keys', () => {
  expect(SETTINGS.length).toBe(27)
  const known = parse(INTERFACE_EXAMPLE) as Tree
  const inInterface = SETTINGS.filter(({ keys }) => hasPath(known, keys))
  expect(
    SETTINGS.filter((setting) => !inInterface.includes(setting)).map(({ keys }) => keys.join('.')),
  ).toEqual(['issuer.command', 'auth.client_id_file', 'auth.token_file'])
})

test.each(SETTINGS)('$keys is in it', async ({ keys }) => {
  expect(hasPath(await uncommented(), keys)).toBe(true)
})

test.each(WITH_DEFAULT)('it says the default of $keys: $value', async ({ keys, value }) => {
  expect(valueAt(await uncommented(), keys)).toEqual(value)
})

test.each(WITH_DEFAULT)('the interface says the same default of $keys: $value', ({ keys, value }) => {
  expect(valueAt(parse(INTERFACE_EXAMPLE) as Tree, keys)).toEqual(value)
})

test('it has no key that the schema does not know', async () => {
  const tree = await uncommented()
  const known = new Set(SETTINGS.map(({ keys }) => keys.join('.')))
  for (const [name, value] of Object.entries(tree)) {
    const paths = typeof value === 'object' ? Object.keys(value).map((key) => `${name}.${key}`) : [name]
    for (const path of paths) expect(known).toContain(path)
  }
})
