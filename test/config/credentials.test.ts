import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { credentialPath, readCredentialReference } from '../../agent/config/credential-reference.ts'
import { outcome } from './outcome.ts'

describe('credentials', () => {
  test.each([
    ['/run/secret', { kind: 'path', path: '/run/secret' }],
    ['credential:client-secret', { kind: 'credential', name: 'client-secret' }],
    ['credential:a.b_C-1', { kind: 'credential', name: 'a.b_C-1' }],
    ['credential:', 'PROBLEM'],
    ['credential:.', 'PROBLEM'],
    ['credential:..', 'PROBLEM'],
    ['credential:a..b', 'PROBLEM'],
    ['credential:a/b', 'PROBLEM'],
    ['credential:a b', 'PROBLEM'],
    ['secret', 'PROBLEM'],
    ['', 'PROBLEM'],
  ])('%j: %j', (text, want) => {
    expect(outcome(readCredentialReference(text))).toEqual(want)
  })

  test('a secret in the place of its file is not repeated', () => {
    expect(JSON.stringify(readCredentialReference('hunter2'))).not.toContain('hunter2')
    expect(JSON.stringify(readCredentialReference('credential:hunter2!'))).not.toContain('hunter2')
  })

  test.each([
    {
      directory: '/run/credentials/hostcertd.service',
      want: '/run/credentials/hostcertd.service/hostcertd_x',
    },
    { directory: undefined, want: '/etc/hostcertd/credentials/x' },
    { directory: '', want: '/etc/hostcertd/credentials/x' },
    { directory: 'relative', want: '/etc/hostcertd/credentials/x' },
  ])('credential:x with CREDENTIALS_DIRECTORY=$directory is $want', ({ directory, want }) => {
    const environment = { CREDENTIALS_DIRECTORY: directory }
    const reference = { kind: 'credential', name: 'x' } as const
    expect(credentialPath(reference, '/etc/hostcertd', environment, () => false)).toBe(want)
    expect(credentialPath({ kind: 'path', path: '/x' }, '/etc/hostcertd', environment)).toBe('/x')
  })

  const [OWN, IN_STORE] = ['/etc/hostcertd/credentials/x', '/etc/credstore/hostcertd_x'] as const
  test.each([
    { there: [OWN, IN_STORE], want: OWN },
    { there: [IN_STORE], want: IN_STORE },
    { there: ['/run/credstore/hostcertd_x'], want: '/run/credstore/hostcertd_x' },
    { there: ['/run/credstore/hostcertd_x', IN_STORE], want: IN_STORE },
    { there: [], want: OWN },
    { there: [IN_STORE], folder: '/home/me', want: '/home/me/credentials/x' },
    { there: [IN_STORE], directory: '/run/c', want: '/run/c/hostcertd_x' },
  ])('by hand, with $there in place, it is $want', ({ there, folder, directory, want }) => {
    const reference = { kind: 'credential', name: 'x' } as const
    const environment = { CREDENTIALS_DIRECTORY: directory }
    const isThere = (path: string) => there.some((file) => file === path)
    expect(credentialPath(reference, folder ?? '/etc/hostcertd', environment, isThere)).toBe(want)
  })

  test('no name leads out of the folder', () => {
    fc.assert(
      fc.property(fc.record({ name: fc.string() }), ({ name }) => {
        const reference = readCredentialReference(`credential:${name}`)
        if (!reference.ok) return
        const path = credentialPath(reference.value, '/etc/hostcertd', { CREDENTIALS_DIRECTORY: '/run/c' })
        expect(path).toBe(`/run/c/hostcertd_${name}`)
        expect(credentialPath(reference.value, '/e', {})).toBe(`/e/credentials/${name}`)
      }),
    )
  })
})
