import { expect, test } from 'vitest'
import { askSshd } from '../../agent/renewal/ask-sshd.ts'
import { Attempts } from '../../agent/renewal/attempts.ts'
import { judgeNow } from '../../agent/renewal/judge.ts'
import { observe } from '../../agent/renewal/observe.ts'
import { pass as makePass, ROUTINE_PASS } from '../../agent/renewal/pass.ts'
import type { CertificateStatus } from '../../agent/renewal/status-document.ts'
import { statusOf } from '../../agent/renewal/status.ts'
import { DAY, FakeHost, START } from '../fakes/fake-host.ts'

const NEVER = new AbortController().signal

async function attemptsOf(host: FakeHost): Promise<Attempts> {
  const attempts = new Attempts(host.records, host.clock)
  await attempts.load()
  return attempts
}

/** A host whose one certificate, of 30 days from {@link START}, was issued and is served. */
async function enrolled(): Promise<FakeHost> {
  const host = new FakeHost()
  await makePass(host, await attemptsOf(host), ROUTINE_PASS, NEVER)
  return host
}

/** What the status document says of the one host key, after sshd was asked. */
async function seen(host: FakeHost): Promise<CertificateStatus | undefined> {
  const attempts = await attemptsOf(host)
  const facts = await observe(host)
  await askSshd(host, attempts, judgeNow(host, attempts.record, facts), NEVER)
  const after = judgeNow(host, attempts.record, facts)
  const identity = { version: '1', issuerUrl: 'https://x', loginMethod: 'aws' }
  return statusOf(identity, after, attempts, host.issuer.health(), facts.machine).certificates[0]
}

test('an expired certificate that sshd still presents is served, and was due', async () => {
  const host = await enrolled()
  const before = await seen(host)
  host.clock.jump(START + 31 * DAY)
  expect(await seen(host)).toMatchObject({
    state: 'expired',
    reason: 'CERT_EXPIRED',
    serial: '1001',
    renewal_due: before?.renewal_due,
    served: { serial: '1001', matches: true },
  })
  expect(before?.renewal_due).toMatch(/Z$/)
})

test('so is one that is unusable for another reason, which was never due', async () => {
  const host = await enrolled()
  host.settings = { ...host.settings, wantedPrincipals: ['other.example.com'] }
  expect(await seen(host)).toMatchObject({
    state: 'invalid',
    reason: 'CERT_PRINCIPALS_MISMATCH',
    renewal_due: null,
    served: { serial: '1001', matches: true },
  })
})

test('an expired certificate is not served when sshd presents the one before it', async () => {
  const host = await enrolled()
  host.sshd.readsPerConnection = false
  host.settings = { ...host.settings, reload: 'never' }
  const again = { ...ROUTINE_PASS, force: true, byHand: true }
  await makePass(host, await attemptsOf(host), again, NEVER)
  host.clock.jump(START + 31 * DAY)
  expect(await seen(host)).toMatchObject({
    state: 'expired',
    serial: '1002',
    served: { serial: '1001', matches: false },
  })
})
