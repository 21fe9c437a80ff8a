import { test, expect } from 'vitest'
import { needsRoot } from '../support/skip.ts'
import { troubles, type Step } from './findings.ts'
import { makeWard, type Ward } from './ward.ts'

/** Nobody's: a number that needs no account. */
export const OWNER = 65_534

/** One thing that is wrong, and what `doctor` must say of it. */
export interface Broken {
  readonly name: string
  readonly options?: Parameters<typeof makeWard>[0]
  readonly breakIt: (ward: Ward) => Promise<void>
  readonly args?: readonly string[]
  /** Every step that fails or is warned of. */
  readonly troubles: readonly string[]
  /** Of the first of them. */
  readonly message: RegExp
  readonly remedy: RegExp
  /** Of the first finding of further steps. */
  readonly remedies?: Partial<Readonly<Record<Step, RegExp>>>
  readonly onlyRoot?: boolean
}

/**
 * A test for each: the right steps fail and no other, the first names cause and remedy, there is one login at the most,
 * and nothing is changed.
 */
export function testBroken(rows: readonly Broken[]): void {
  const forRoot = rows.filter(({ onlyRoot }) => onlyRoot === true)
  test.each(rows.filter((row) => !forRoot.includes(row)))('$name', expectDiagnosis)
  test.each(forRoot)('$name', needsRoot, expectDiagnosis)
}

async function expectDiagnosis({ options, breakIt, args = [], ...want }: Broken): Promise<void> {
  await using ward = await makeWard(options)
  await breakIt(ward)
  const before = await ward.files()
  const logins = (): number => ward.issuer.requests.filter(({ path }) => path.endsWith('/login')).length
  const loginsBefore = logins()
  const { status, findings } = await ward.diagnose(...args)
  expect(troubles(findings)).toEqual(want.troubles)
  const first = findings.find(({ status: is }) => is === 'failure' || is === 'warning')
  expect(first?.message).toMatch(want.message)
  expect(first?.remedy).toMatch(want.remedy)
  for (const [step, remedy] of Object.entries(want.remedies ?? {}))
    expect(findings.find((finding) => finding.step === step)?.remedy).toMatch(remedy)
  for (const { remedy } of findings) {
    // Each remedy says what to do, and none changes which host this is: there is a private half in each of these hosts.
    expect(remedy ?? '').not.toMatch(/\babove$|\bsee [a-z-]+(?:, [a-z-]+)*(?: and [a-z-]+)? above/)
    expect(remedy ?? '').not.toMatch(/ssh-keygen -A/)
  }
  expect(status).toBe(want.troubles.some((trouble) => trouble.endsWith('failure')) ? 1 : 0)
  expect(logins() - loginsBefore).toBeLessThanOrEqual(1)
  expect(await ward.files()).toEqual(before)
}
