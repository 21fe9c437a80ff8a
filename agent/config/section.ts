import * as v from 'valibot'
import { isTree } from './problem.ts'

type Entries = v.ObjectEntries

/**
 * A map with known keys. What is unknown is found by `findUnknownKeys`, not here: valibot's strict object tells of
 * the first unknown key only.
 */
export function section<const E extends Entries>(entries: E) {
  return v.pipe(v.custom<object>(isTree, 'must be a map of keys'), v.object(entries, 'is required'))
}

/** A section none of whose keys is required, so it may be left out. */
export function optionalSection<const E extends Entries>(entries: E) {
  return v.optional(section(entries), () => ({}))
}

/** What {@link entriesOf} can look into: a schema, of whichever kind. */
export type AnySchema = v.GenericSchema

/**
 * The keys that a section knows; null for the schema of a plain value, and for one that takes any key.
 *
 * @param input decides which section is meant where that depends on a value (`auth.method`)
 */
export function entriesOf(schema: AnySchema, input: unknown): Readonly<Record<string, AnySchema>> | null {
  if (isOptional(schema)) return entriesOf(schema.wrapped, input)
  if (isLazy(schema)) return entriesOf(schema.getter(input), input)
  if (isObject(schema)) return schema.entries
  if (!isPipe(schema)) return null
  for (const part of schema.pipe) {
    const entries = entriesOf(part, input)
    if (entries !== null) return entries
  }
  return null
}

/** The value that a key has when it is left out, as it would be written; undefined when there is none. */
export function defaultOf(schema: AnySchema): unknown {
  return isOptional(schema) ? schema.default : undefined
}

function isOptional(schema: AnySchema): schema is v.OptionalSchema<AnySchema, unknown> {
  return schema.type === 'optional'
}

function isLazy(schema: AnySchema): schema is v.LazySchema<AnySchema> {
  return schema.type === 'lazy'
}

function isPipe(schema: AnySchema): schema is AnySchema & { readonly pipe: readonly AnySchema[] } {
  return 'pipe' in schema && Array.isArray(schema.pipe)
}

function isObject(schema: AnySchema): schema is v.ObjectSchema<Record<string, AnySchema>, undefined> {
  return schema.type === 'object' && 'entries' in schema
}
