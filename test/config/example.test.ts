import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { AUTH_METHODS, authSectionOf } from '../../agent/config/auth-section.ts'
import type { Login } from '../../agent/config/config.ts'
import { loadConfig } from '../../agent/config/load.ts'
import { hasPath, type Tree, type TreeValue } from '../../agent/config/problem.ts'
import { type AnySchema, defaultOf, entriesOf } from '../../agent/config/unknown-keys.ts'
import { INTERFACE_EXAMPLE, INTERFACE_LOGINS } from './interface-example.ts'
import { schemaSettings } from './schema-settings.ts'

const EXAMPLE = join(import.meta.dirname, '../../config.example.yaml')

const SETTINGS = schemaSettings()
const WITH_DEFAULT = SETTINGS.filter(({ byDefault }) => byDefault !== undefined)
const OF_LOGINS = SETTINGS.filter(({ methods }) => methods.length > 0)

/** What the interface says that a method takes, and its defaults. */
const LOGINS = INTERFACE_LOGINS.trim()
  .split('\n')
  .flatMap((row) => {
    const [, names = '', settings = ''] = row.split(/ ?\| ?/)
    const named = settings.matchAll(/`(?<key>[a-z_]+)`(?: \(`(?<byDefault>[^`]+)`\))?/g)
    const own = [...named].map(({ groups }) => ({
      key: groups?.['key'] ?? '',
      byDefault: groups?.['byDefault'],
    }))
    return names.split(', ').map((method) => ({ method, settings: own }))
  })

function keysOf(key: string): readonly string[] {
  return key.split('.')
}

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
  expect(SETTINGS.length).toBe(55)
  const known = parse(INTERFACE_EXAMPLE) as Tree
  const others = SETTINGS.filter(({ key, methods }) => !hasPath(known, keysOf(key)) && methods.length === 0)
  expect(others.map(({ key }) => key)).toEqual(['issuer.command'])
})

test('each method takes what the interface says, with its defaults', () => {
  expect(LOGINS.map(({ method }) => method).sort()).toEqual(AUTH_METHODS.toSorted())
  for (const { method, settings } of LOGINS) {
    const section: AnySchema = authSectionOf(method as Login['method'])
    const { method: _, organization, identity_id, identity_id_file, ...own } = entriesOf(section, {}) ?? {}
    expect(organization).toBeDefined()
    const hasIdentity = method !== 'universal-auth' && method !== 'token'
    expect([identity_id, identity_id_file].map((entry) => entry !== undefined)).toEqual([
      hasIdentity,
      hasIdentity,
    ])
    expect(Object.keys(own).sort()).toEqual(settings.map(({ key }) => key).sort())
    for (const { key, byDefault } of settings) {
      // The example above the table has this one.
      const want = key === 'client_secret_file' ? 'credential:client-secret' : byDefault
      expect(own[key] && defaultOf(own[key])).toBe(want)
    }
  }
})

test.each(SETTINGS)('$key is in it', async ({ key }) => {
  expect(hasPath(await uncommented(), keysOf(key))).toBe(true)
})

test.each(WITH_DEFAULT)('it says the default of $key: $byDefault', async ({ key, byDefault }) => {
  expect(valueAt(await uncommented(), keysOf(key))).toEqual(byDefault)
})

test.each(WITH_DEFAULT.filter(({ key }) => hasPath(parse(INTERFACE_EXAMPLE) as Tree, key.split('.'))))(
  'the interface says the same default of $key: $byDefault',
  ({ key, byDefault }) => {
    expect(valueAt(parse(INTERFACE_EXAMPLE) as Tree, keysOf(key))).toEqual(byDefault)
  },
)

test.each(OF_LOGINS.filter(({ key }) => key !== 'auth.method'))(
  'the explanation of $key begins with its methods',
  async ({ key, methods }) => {
    const lines = (await readFile(EXAMPLE, 'utf8')).split('\n')
    const at = lines.findIndex((line) => new RegExp(`^  #?${keysOf(key)[1]}:`).test(line))
    const above = lines.slice(0, at)
    const comment = above.slice(above.findLastIndex((line) => !line.startsWith('  # ')) + 1)
    const named = comment.flatMap((line) => /^  # ([^:.]+?)(?:: |\. Example)/.exec(line)?.[1] ?? [])
    const all: readonly string[] = AUTH_METHODS
    const list = named.flatMap((text) => {
      const except = /^All methods(?: except (.+) and (.+))?$/.exec(text)
      if (except !== null) return all.filter((method) => !except.slice(1).includes(method))
      return text.split(', ').filter((word) => all.includes(word))
    })
    expect(list.sort()).toEqual([...methods].sort())
  },
)

test('it has no key that the schema does not know', async () => {
  const tree = await uncommented()
  const known = new Set(SETTINGS.map(({ key }) => key))
  for (const [name, value] of Object.entries(tree)) {
    const paths = typeof value === 'object' ? Object.keys(value).map((key) => `${name}.${key}`) : [name]
    for (const path of paths) expect(known).toContain(path)
  }
})
