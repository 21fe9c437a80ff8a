import * as v from 'valibot'
import { quote } from '../core/public-key.ts'

/** What became of one text of the configuration: a value, or what is wrong with it. */
export type Reading<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly problem: string }

export function value<T>(read: T): Reading<T> {
  return { ok: true, value: read }
}

/** `must be WHAT, is "TEXT"`. */
export function mustBe(what: string, text: string): Reading<never> {
  return { ok: false, problem: `must be ${what}, is ${quote(text)}` }
}

/** As {@link mustBe} for what may be a secret in the wrong place: says nothing of the text. */
export function mustBeUnquoted(what: string): Reading<never> {
  return { ok: false, problem: `must be ${what}` }
}

/** Any text. YAML turns `12` and `true` into something else, hence the advice. */
const text = v.string(({ input }) => {
  if (Array.isArray(input)) return 'must be one value, not a list'
  if (typeof input === 'object') return 'must be one value, not a map'
  return `must be a text, is a ${typeof input}: give its unit, or put it in quotes`
})

/** A text that `read` makes a value of. */
export function textAs<T>(read: (text: string) => Reading<T>) {
  return v.pipe(
    text,
    v.rawTransform<string, T>(({ dataset, addIssue, NEVER }) => {
      const reading = read(dataset.value)
      if (reading.ok) return reading.value
      addIssue({ message: reading.problem })
      return NEVER
    }),
  )
}

/** One of a few words. */
export function oneOf<const Words extends readonly string[]>(words: Words) {
  return v.picklist(words, ({ input }) => {
    const is = typeof input === 'string' ? `, is ${quote(input)}` : ''
    return `must be one of ${words.join(', ')}${is}`
  })
}

/** A list with something in it. */
export function listOf<T>(item: v.GenericSchema<unknown, T>) {
  return v.pipe(v.array(item, 'must be a list'), v.minLength(1, 'must not be empty'))
}
