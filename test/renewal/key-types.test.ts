import { describe, expect, test } from 'vitest'
import { parsePublicKeyLine, readPublicKey } from '../../agent/cert/public-key.ts'
import { Attempts } from '../../agent/renewal/attempts.ts'
import { askAgainSeconds } from '../../agent/renewal/backoff.ts'
import { nextPass } from '../../agent/renewal/pass.ts'
import { readRecord, recordDocument } from '../../agent/renewal/record.ts'
import { craftCompositeKey } from '../cert/craft.ts'
import { DAY, FakeHost, START } from '../fakes/fake-host.ts'
import { failureOf } from '../fakes/fake-issuer.ts'
import { pass, stateOf } from './one-pass.ts'

const USUAL = 'ssh_host_rsa_key'
const NEW = 'ssh_host_mldsa44_ed25519_key'
const TYPE = 'ssh-mldsa44-ed25519'

/** A host with a key that the issuer signs, and one that it may not sign, which is the first by its name. */
function hostWithNewKey(): { host: FakeHost; asked: string[]; refuse: (refuses: boolean) => void } {
  const host = new FakeHost(90 * DAY, [USUAL])
  host.keys.set(NEW, `${craftCompositeKey(TYPE).line} root@fake`)
  const asked: string[] = []
  let refuses = true
  const { issue } = host.issuer
  host.issuer.issue = async (request, signal) => {
    asked.push(request.hostKey)
    if (refuses && request.publicKey.startsWith(TYPE))
      return {
        ok: false,
        failure: { ...failureOf('ISSUER_REJECTED', 'key-backoff'), message: 'unsupported key type' },
      }
    return issue.call(host.issuer, request, signal)
  }
  return { host, asked, refuse: (value) => (refuses = value) }
}

const REFUSED = `ignored the issuer does not sign keys of type ${TYPE}: unsupported key type`

describe('a key type that the issuer refuses', () => {
  test('is asked for last, and ignored: no failure of the host', async () => {
    const { host, asked } = hostWithNewKey()
    const result = await pass(host)
    expect(asked).toEqual([USUAL, NEW])
    expect(result.outcomes).toMatchObject([{ kind: 'renewed' }, { kind: 'ignored', hostKey: NEW }])
    expect(stateOf(result, NEW)).toBe(REFUSED)
    expect(stateOf(result, USUAL)).toBe('valid null')
    expect(host.results).toContain(`${USUAL} ok`)
    expect(host.results.filter((text) => text.startsWith(NEW))).toEqual([])
    expect(host.log.lines.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([])
  })

  test('is asked for again after a week, half a day more or less, and no sooner', async () => {
    const { host, asked } = hostWithNewKey()
    const result = await pass(host)
    const attempts = new Attempts(host.records, host.clock)
    await attempts.load()
    const at = nextPass(result, attempts, host.clock.now()) ?? 0
    expect(at).toBeGreaterThan(START + 6.5 * DAY)
    expect(at).toBeLessThan(START + 7.5 * DAY + 60)
    asked.length = 0
    await host.clock.advance(at - 60 - host.clock.now())
    expect((await pass(host)).outcomes).toEqual([])
    await host.clock.advance(at - host.clock.now())
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'ignored' }])
    expect(asked).toEqual([NEW])
  })

  test('is asked for at another time than another key, but at the same time again', () => {
    const keys = Array.from({ length: 20 }, () => ({
      ...readPublicKey(parsePublicKeyLine(craftCompositeKey(TYPE).line)),
      name: NEW,
    }))
    const times = keys.map(askAgainSeconds)
    expect(keys.map(askAgainSeconds)).toEqual(times)
    expect(new Set(times.map((seconds) => Math.floor(seconds / 60))).size).toBeGreaterThan(10)
    expect(Math.min(...times)).toBeGreaterThanOrEqual(6.5 * DAY)
    expect(Math.max(...times)).toBeLessThanOrEqual(7.5 * DAY)
  })

  test('the day the issuer signs it, the host has it, and from then on it is a key like any other', async () => {
    const { host, refuse } = hostWithNewKey()
    await pass(host)
    refuse(false)
    await host.clock.advance(8 * DAY)
    const signed = await pass(host)
    expect(signed.outcomes).toMatchObject([{ kind: 'renewed', hostKey: NEW, reason: 'absent' }])
    expect(stateOf(signed, NEW)).toBe('valid null')
    host.files.delete(NEW)
    refuse(true)
    await host.clock.advance(DAY)
    const refused = await pass(host)
    expect(refused.outcomes).toMatchObject([{ kind: 'failed', failure: { code: 'ISSUER_REJECTED' } }])
    expect(stateOf(refused, NEW)).toBe('absent ISSUER_REJECTED')
  })

  test('SIGHUP asks again, and so does `renew` that names the key or forces all', async () => {
    const { host, asked } = hostWithNewKey()
    await pass(host)
    asked.length = 0
    await pass(host, { byHand: true })
    expect(asked).toEqual([])
    await pass(host, { byHand: true, only: NEW })
    expect(asked.splice(0)).toEqual([NEW])
    await pass(host, { byHand: true, force: true })
    expect(asked.splice(0)).toEqual([USUAL, NEW])
    const attempts = new Attempts(host.records, host.clock)
    await attempts.load()
    attempts.endWaits()
    await attempts.save()
    await pass(host)
    expect(asked).toEqual([NEW])
  })

  test('an issuer that cannot be asked makes no failure of it either', async () => {
    const { host, refuse } = hostWithNewKey()
    await pass(host)
    refuse(false)
    host.issuer.failures.push(failureOf('ISSUER_UNREACHABLE', 'issuer-backoff'))
    host.issuer.failsForGood = true
    await host.clock.advance(8 * DAY)
    const result = await pass(host)
    expect(result.outcomes).toMatchObject([{ kind: 'failed', failure: { code: 'ISSUER_UNREACHABLE' } }])
    expect(stateOf(result, NEW)).toMatch(/^ignored no key .* made to fail: ISSUER_UNREACHABLE/)
    expect(host.log.messages('error')).toEqual([])
  })

  test('a refusal is on record over a restart, and a record of an earlier version has none', async () => {
    const { host } = hostWithNewKey()
    await pass(host)
    const document = structuredClone(recordDocument(host.record)) as {
      hostKeys: Record<string, { refused?: unknown }>
    }
    expect(readRecord(document)).toEqual(host.record)
    expect(document.hostKeys[NEW]?.refused).toMatchObject({ why: 'unsupported key type' })
    delete document.hostKeys[NEW]?.refused
    expect(readRecord(document).hostKeys[NEW]?.refused).toBeNull()
  })
})

test('a certificate that was refused for what is in it is a failure of the usual kind, with its wait', async () => {
  const { host, refuse } = hostWithNewKey()
  refuse(false)
  const { issue } = host.issuer
  host.issuer.issue = async (request, signal) => {
    const answer = await issue.call(host.issuer, request, signal)
    return request.hostKey === NEW && answer.ok ? { ...answer, signedKey: 'garbage' } : answer
  }
  const result = await pass(host)
  expect(result.outcomes).toMatchObject([
    { kind: 'renewed' },
    { kind: 'failed', failure: { code: 'CERT_UNPARSABLE' } },
  ])
  expect(stateOf(result, NEW)).toMatch(
    /^ignored no key of type ssh-mldsa44-ed25519 has been signed yet: .*not an OpenSSH certificate/,
  )
  expect((await pass(host)).outcomes).toMatchObject([{ kind: 'waiting', hostKey: NEW }])
})

test('an issuer that fails on it in another way, three times in a row, is not asked again before a week is over', async () => {
  const { host, asked } = hostWithNewKey()
  const { issue } = host.issuer
  host.issuer.issue = async (request, signal) => {
    if (request.hostKey !== NEW) return issue.call(host.issuer, request, signal)
    asked.push(request.hostKey)
    return {
      ok: false,
      failure: { ...failureOf('ISSUER_INVALID_RESPONSE', 'key-backoff'), message: 'exit status 2' },
    }
  }
  const results = []
  for (let times = 0; times < 3; times++) {
    results.push(...(await pass(host)).outcomes.filter(({ hostKey }) => hostKey === NEW))
    await host.clock.advance(3600)
  }
  expect(results.map(({ kind }) => kind)).toEqual(['failed', 'failed', 'ignored'])
  asked.length = 0
  await host.clock.advance(6 * DAY)
  await pass(host)
  expect(asked).toEqual([])
})
