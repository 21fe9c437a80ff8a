import type * as v from 'valibot'
import { AUTH_METHODS, authSectionOf } from '../../agent/config/auth-section.ts'
import { configSchema } from '../../agent/config/schema.ts'
import { defaultOf, entriesOf, type AnySchema } from '../../agent/config/unknown-keys.ts'

export interface Setting {
  /** `auth.method`. */
  readonly key: string
  /** As it would be written; undefined when there is none. */
  readonly byDefault: unknown
  readonly isRequired: boolean
  /** All that may be written there, when these are a few words; else empty. */
  readonly words: readonly string[]
  /** The values of `auth.method` with which it may be set; empty outside of `auth`. */
  readonly methods: readonly string[]
}

/** Every key of the schema that holds a value, once. */
export function schemaSettings(): readonly Setting[] {
  const byKey = Map.groupBy(settingsOf(configSchema, ''), ({ key }) => key)
  // A key may be in the sections of several methods.
  return [...byKey].map(([key, alike]) => ({
    key,
    byDefault: alike.find(({ byDefault }) => byDefault !== undefined)?.byDefault,
    isRequired: alike.every(({ isRequired }) => isRequired),
    words: alike.flatMap(({ words }) => words),
    methods: alike.flatMap(({ methods }) => methods),
  }))
}

function settingsOf(schema: AnySchema, above: string, methods: readonly string[] = []): Setting[] {
  return Object.entries(entriesOf(schema, {}) ?? {}).flatMap(([name, below]) => {
    const key = `${above}${name}`
    if (key === 'auth')
      return AUTH_METHODS.flatMap((method) => settingsOf(authSectionOf(method), 'auth.', [method]))
    if (entriesOf(below, {}) !== null) return settingsOf(below, `${key}.`)
    const isRequired = !isOptional(below)
    return [
      {
        key,
        byDefault: defaultOf(below),
        isRequired,
        words: wordsOf(isRequired ? below : below.wrapped),
        methods,
      },
    ]
  })
}

function wordsOf(schema: AnySchema): readonly string[] {
  if (isPicklist(schema)) return schema.options
  return isLiteral(schema) ? [schema.literal] : []
}

function isOptional(schema: AnySchema): schema is v.OptionalSchema<AnySchema, unknown> {
  return schema.type === 'optional'
}

function isPicklist(schema: AnySchema): schema is v.PicklistSchema<readonly string[], undefined> {
  return schema.type === 'picklist'
}

function isLiteral(schema: AnySchema): schema is v.LiteralSchema<string, undefined> {
  return schema.type === 'literal'
}
