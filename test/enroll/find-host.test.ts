import { expect, test } from 'vitest'
import { findHost, type HostWish } from '../../agent/enroll/find-host.ts'
import { Patience } from '../../agent/enroll/patience.ts'
import type { ExchangeClient } from '../../agent/issuer/exchange-client.ts'
import type { RegisteredHost } from '../../agent/issuer/host-questions.ts'
import type { IssuerFailure } from '../../agent/renewal/ports.ts'
import { ManualClock } from '../fakes/manual-clock.ts'

const OURS = '8c1efcfc-434c-4c43-80e3-53c9eae6672a'
const PROJECT = '41ea2756-88ac-43bf-8929-42b71ec7742e'
const HOST = { id: OURS, projectId: PROJECT, hostname: 'web1.example.com', alias: null, hostCertTtl: null }

const WISH: HostWish = {
  hostId: null,
  project: 'servers',
  hostname: 'web1.example.com',
  register: null,
  takeOver: false,
  ownIds: [],
  configuredId: null,
  registeredId: null,
  isUnanswered: () => false,
}
const REGISTER = { ttl: null, alias: null }

type Found = Awaited<ReturnType<ExchangeClient['findHost']>>
type Registered = Awaited<ReturnType<ExchangeClient['registerHost']>>

function found(host: RegisteredHost | null, visible: number, similar: string[] = []): Found {
  return { kind: 'found', project: { id: PROJECT, slug: 'servers' }, host, similar, visible }
}

function failed(
  code: IssuerFailure['code'],
  next: IssuerFailure['next'],
  retryAfterSeconds: number | null = null,
  requestId: string | null = null,
): Extract<Found, { kind: 'failed' }> {
  const failure = { code, message: `the issuer says ${code}`, next, retryAfterSeconds, requestId }
  return { kind: 'failed', failure }
}

const FORBIDDEN = failed('ISSUER_FORBIDDEN', 'administrator')
const NO_PROJECT = failed('ISSUER_NOT_FOUND', 'administrator')

/**
 * Look for a host, at an issuer that gives these answers, the last again and again, and with a clock that goes on as
 * soon as somebody waits for it.
 */
async function look(
  wish: Partial<HostWish>,
  answers: { readonly found?: readonly Found[]; readonly registered?: readonly Registered[] },
  mayRegister = true,
) {
  const clock = new ManualClock(0)
  const said: string[] = []
  const asked: string[] = []
  const next = <Answer>(what: string, of: readonly Answer[] = []): Answer => {
    const answer = of[Math.min(asked.filter((one) => one === what).length, of.length - 1)]
    asked.push(what)
    if (answer === undefined) throw new Error(`nobody was to ask for ${what}`)
    return answer
  }
  const exchange = {
    findHost: async () => next('find', answers.found),
    registerHost: async () => next('register', answers.registered),
  }
  const patience = new Patience(clock, (text) => said.push(text))
  const { signal } = new AbortController()
  const state = { isOver: false }
  const result = findHost({ ...WISH, ...wish }, exchange, patience, mayRegister, signal)
    .then(
      (host) => ({ host, error: null }),
      (error: Error) => ({ host: null, error: error.message }),
    )
    .finally(() => (state.isOver = true))
  while (!state.isOver) await clock.advance(1)
  return { ...(await result), asked: asked.join(' '), waited: clock.now(), said }
}

const isOurs = { kind: 'found', id: OURS, isNew: false, notes: [] }

test('a grant that takes effect after ten seconds is waited for, whichever way the issuer lacks it', async () => {
  for (const lacking of [FORBIDDEN, NO_PROJECT, found(null, 0)]) {
    const { host, asked, said } = await look(
      {},
      { found: [lacking, lacking, lacking, lacking, found(HOST, 1)] },
    )
    expect({ host, asked }).toEqual({ host: isOurs, asked: 'find find find find find' })
    expect(said[0]).toMatch(/; trying again in 3 s$/)
  }
})

test('after 15 seconds a grant is not to be expected any more', async () => {
  for (const [lacking, message] of [
    [FORBIDDEN, /^the issuer says ISSUER_FORBIDDEN$/],
    [NO_PROJECT, /^the issuer says ISSUER_NOT_FOUND$/],
    [
      found(null, 0),
      /shows no host of the project "servers": .* no permission to read them, or there is none/,
    ],
  ] as const) {
    const { error, waited } = await look({}, { found: [lacking] })
    expect(error).toMatch(message)
    expect(waited).toBeGreaterThanOrEqual(15)
    expect(waited).toBeLessThan(20)
  }
})

test('a name that is not among visible hosts is known not to be there: no wait', async () => {
  const answer = await look({}, { found: [found(null, 7, ['WEB1.example.com'])] })
  expect(answer).toMatchObject({ asked: 'find', said: [] })
  expect(answer.error).toBe(
    'web1.example.com is not among the 7 hosts of the project "servers" (similar: "WEB1.example.com"; names are in lower case): add --register',
  )
})

test('one request registers, by the id of a project and by its slug; a name that is taken may be its own', async () => {
  const registered = [{ kind: 'registered', host: HOST } as const]
  for (const project of ['servers', PROJECT])
    expect(await look({ project, register: REGISTER }, { registered })).toMatchObject({
      host: { kind: 'found', id: OURS, isNew: true },
      asked: 'register',
      said: [],
    })
  const taken = [{ kind: 'taken', what: 'hostname', host: HOST } as const]
  const other = await look({ register: REGISTER }, { registered: taken })
  expect(other.error).toContain(`is registered already, as ${OURS}, and nothing on this machine shows`)
  const lost = await look({ register: REGISTER, isUnanswered: () => true }, { registered: taken })
  expect(lost.error).toMatch(
    /got no answer, so it may be its own, but .*: if no other machine uses that name, add --take-over$/,
  )
  const own = { register: REGISTER, ownIds: [OURS.toUpperCase()] }
  expect(await look(own, { registered: taken })).toMatchObject({ host: isOurs })
})

test('nothing is registered when nothing may be changed', async () => {
  const wish = { project: PROJECT, register: REGISTER }
  expect(await look(wish, { found: [found(null, 0)] }, false)).toMatchObject({
    asked: 'find',
    host: { kind: 'would-register' },
  })
})

const DELETED = failed('ISSUER_NOT_FOUND', 'administrator', null, 'req-1')

test('a configured host that was deleted at the issuer is registered again, if that is asked for', async () => {
  const NEW = { ...HOST, id: '0c1efcfc-434c-4c43-80e3-53c9eae6672a' }
  const registered = [{ kind: 'registered', host: NEW } as const]
  const wish = { configuredId: OURS, register: REGISTER }
  expect(await look(wish, { found: [DELETED], registered })).toMatchObject({
    host: { kind: 'found', id: NEW.id, isNew: true },
    asked: 'find register',
    said: [],
  })
  expect(await look(wish, { found: [DELETED, found(null, 3)] }, false)).toMatchObject({
    host: { kind: 'would-register' },
  })
  // It is there, or it may not be read.
  for (const one of [found(HOST, 1), FORBIDDEN])
    expect(await look(wish, { found: [one] })).toMatchObject({ host: isOurs, asked: 'find', said: [] })
  // A proxy does not know.
  expect(await look(wish, { found: [NO_PROJECT] })).toMatchObject({
    error: 'the issuer says ISSUER_NOT_FOUND',
  })
  expect(await look({ configuredId: OURS }, {})).toMatchObject({ host: isOurs, asked: '' })
})

test('what this machine registered is its own, without the right to read it, until the issuer says that it was deleted', async () => {
  const NEW = { ...HOST, id: '0c1efcfc-434c-4c43-80e3-53c9eae6672a' }
  const registered = [{ kind: 'registered', host: NEW } as const]
  for (const register of [REGISTER, null])
    for (const one of [FORBIDDEN, found(HOST, 1)])
      expect(await look({ registeredId: OURS, register }, { found: [one] })).toMatchObject({
        host: isOurs,
        asked: 'find',
        said: [],
      })
  expect(
    await look({ registeredId: OURS, register: REGISTER }, { found: [DELETED], registered }),
  ).toMatchObject({
    host: { kind: 'found', id: NEW.id, isNew: true },
    asked: 'find register',
  })
  // A proxy does not know.
  expect(await look({ registeredId: OURS, register: REGISTER }, { found: [NO_PROJECT] })).toMatchObject({
    error: 'the issuer says ISSUER_NOT_FOUND',
    asked: expect.not.stringContaining('register') as string,
  })
  // The configured one was deleted, and this took its place in a call that failed then.
  const both = { configuredId: NEW.id, registeredId: OURS, register: REGISTER }
  expect(await look(both, { found: [DELETED, FORBIDDEN] })).toMatchObject({
    host: isOurs,
    asked: 'find find',
  })
  expect(await look(both, { found: [FORBIDDEN] })).toMatchObject({ host: { id: NEW.id }, asked: 'find' })
  const same = { configuredId: OURS, registeredId: OURS, register: REGISTER }
  expect(await look(same, { found: [DELETED], registered })).toMatchObject({ asked: 'find register' })
})

test.each([
  {
    name: 'as asked for',
    ttl: '30d',
    alias: 'web',
    host: { hostCertTtl: '2592000s', alias: 'web' },
    want: [],
  },
  { name: 'not asked for', ttl: null, alias: null, host: { hostCertTtl: '1y', alias: 'www' }, want: [] },
  {
    name: 'another lifetime and another alias',
    ttl: '30d',
    alias: 'web',
    host: { hostCertTtl: '1y', alias: 'www' },
    want: [
      "certificates of web1.example.com are valid for 1y by the issuer's settings, not for 30d",
      'web1.example.com has the alias "www" at the issuer, not "web"',
    ],
  },
  {
    name: 'neither',
    ttl: '30d',
    alias: 'web',
    host: { hostCertTtl: null, alias: null },
    want: [
      'the issuer does not say whether certificates of web1.example.com are valid for 30d',
      'the issuer does not say whether web1.example.com has the alias "web"',
    ],
  },
  { name: 'a lifetime in other words', ttl: '30d', alias: null, host: { hostCertTtl: '1 month' }, want: [] },
  {
    name: 'another project',
    ttl: null,
    alias: null,
    host: { projectId: OURS },
    want: [`web1.example.com is in the project ${OURS} at the issuer, not in ${PROJECT}`],
  },
])(
  'what the issuer registered otherwise is noted, and no failure: $name',
  async ({ ttl, alias, host, want }) => {
    const wish = { project: PROJECT, register: { ttl, alias } }
    const given = { ...HOST, ...host }
    expect(await look(wish, { registered: [{ kind: 'registered', host: given }] })).toMatchObject({
      host: { kind: 'found', id: OURS, isNew: true, notes: want },
    })
    const taken = [{ kind: 'taken', what: 'hostname', host: given } as const]
    expect(await look({ ...wish, ownIds: [OURS] }, { registered: taken })).toMatchObject({
      host: { kind: 'found', id: OURS, isNew: false, notes: want },
    })
    // It is there, by its id in the configuration or in the journal.
    for (const known of [{ configuredId: OURS }, { registeredId: OURS }])
      expect(await look({ ...wish, ...known }, { found: [found(given, 1)] })).toMatchObject({
        asked: 'find',
        host: { kind: 'found', id: OURS, isNew: false, notes: want },
      })
  },
)

test('what the configuration or an option names is not asked for', async () => {
  expect(await look({ hostId: OURS }, {})).toMatchObject({ asked: '', host: isOurs })
  expect(await look({ configuredId: OURS }, {})).toMatchObject({ asked: '', host: isOurs })
})

const LONGEST_SECONDS = 4 * 3600

test('an issuer that says when is asked then, for as long as it says so', async () => {
  const later = failed('ISSUER_BUSY', 'issuer-backoff', 60)
  const waited = await look({}, { found: [...Array<Found>(20).fill(later), found(HOST, 1)] })
  expect(waited).toMatchObject({ host: isOurs })
  expect(waited.waited).toBeGreaterThanOrEqual(20 * 60)
  const endless = await look({}, { found: [later] })
  expect(endless.error).toBe('the issuer says ISSUER_BUSY')
  expect(endless.waited).toBeGreaterThan(LONGEST_SECONDS - 3600)
  expect(endless.waited).toBeLessThanOrEqual(LONGEST_SECONDS)
})

test('a time that is too far away is not waited for', async () => {
  const tomorrow = failed('ISSUER_BUSY', 'issuer-backoff', 24 * 3600)
  expect(await look({}, { found: [tomorrow] })).toMatchObject({ asked: 'find', said: [] })
  const hours = failed('ISSUER_BUSY', 'issuer-backoff', 3 * 3600)
  const twice = await look({}, { found: [hours] })
  expect(twice).toMatchObject({ error: 'the issuer says ISSUER_BUSY', asked: 'find find' })
  expect(twice.waited).toBeLessThanOrEqual(LONGEST_SECONDS)
})

test.each(['ISSUER_BUSY', 'ISSUER_TIMEOUT', 'ISSUER_UNREACHABLE'] as const)(
  '%s: asked three times more, whatever is said in between',
  async (code) => {
    const fault = failed(code, 'issuer-backoff')
    const always = await look({}, { found: [fault] })
    expect(always).toMatchObject({ error: `the issuer says ${code}`, asked: 'find find find find' })
    expect(always.waited).toBeLessThan(40)
    const later = failed('ISSUER_BUSY', 'issuer-backoff', 60)
    const three = [later, fault, later, fault, later, fault, later]
    expect(await look({}, { found: [...three, found(HOST, 1)] })).toMatchObject({ host: isOurs })
    const four = await look({}, { found: [...three, fault, found(HOST, 1)] })
    expect(four).toMatchObject({ host: null, error: `the issuer says ${code}` })
    expect(four.asked.split(' ')).toHaveLength(8)
  },
)

test('what a grant is waited for is no fault', async () => {
  const fault = failed('ISSUER_BUSY', 'issuer-backoff')
  const answers = [FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, fault, found(HOST, 1)]
  expect(await look({}, { found: answers })).toMatchObject({ host: isOurs })
})

test('a login that is refused is not tried again: it would lock the identity', async () => {
  const refused = failed('ISSUER_UNAUTHORIZED', 'login-backoff')
  expect(await look({}, { found: [refused] })).toMatchObject({ asked: 'find', said: [] })
})
