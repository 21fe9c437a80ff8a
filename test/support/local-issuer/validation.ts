import { Refusal } from './error-rows.ts'

/**
 * Check that a body is an object of exactly these texts.
 *
 * @throws Refusal 422 with one entry for each that is missing, of another type or too many
 */
export function checkStrings<Name extends string>(
  body: unknown,
  names: readonly Name[],
): Record<Name, string> {
  const content = objectIn(body)
  const problems: object[] = names
    .filter((name) => typeof content[name] !== 'string')
    .map((name) => wrongType(name, content[name]))
  const surplus = Object.keys(content).filter((key) => !names.some((name) => name === key))
  if (surplus.length > 0) problems.push(unrecognized(surplus))
  if (problems.length > 0) throw new Refusal('validation', { message: problems })
  return Object.fromEntries(names.map((name) => [name, String(content[name])])) as Record<Name, string>
}

/** @throws Refusal 422 when the body is no JSON object */
export function objectIn(body: unknown): Readonly<Record<string, unknown>> {
  if (typeof body === 'object' && body !== null && !Array.isArray(body)) return { ...body }
  throw new Refusal('validation', {
    message: [{ code: 'invalid_type', expected: 'object', path: ['body'], message: 'Expected object' }],
  })
}

function wrongType(name: string, value: unknown): object {
  const received = value === undefined ? 'undefined' : typeof value
  const message = value === undefined ? 'Required' : `Expected string, received ${received}`
  return { code: 'invalid_type', expected: 'string', received, path: ['body', name], message }
}

function unrecognized(keys: readonly string[]): object {
  const list = keys.map((key) => `'${key}'`).join(', ')
  return {
    code: 'unrecognized_keys',
    keys,
    path: ['body'],
    message: `Unrecognized key(s) in object: ${list}`,
  }
}
