import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { json } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { findHost, type HostWish } from '../../agent/enroll/find-host.ts'
import { Patience } from '../../agent/enroll/patience.ts'
import { createIssuer, openWay } from '../../agent/issuer/client.ts'
import { createHosts } from '../../agent/issuer/hosts.ts'
import { Attempts } from '../../agent/renewal/attempts.ts'
import type { Clock } from '../../agent/renewal/ports.ts'
import { EMPTY_RECORD } from '../../agent/renewal/record.ts'
import { NEVER, requestFor, sendJson, startRawServer } from '../issuer/harness.ts'
import { RateLimits } from '../support/local-issuer/rate-limits.ts'

const PROJECT = randomUUID()
const HOST_KEYS = ['ssh_host_ed25519_key', 'ssh_host_ecdsa_key', 'ssh_host_rsa_key']
const PUBLIC_KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVubmVjZXNzYXJ5IGZvciB0aGlzIHRlc3QhIQ host'
/** All begin within it, as when the power comes back. */
const BEGIN_SECONDS = 10
/** Of the issuer, to answer. */
const ANSWER_SECONDS = 0.5
const MINUTE = 60

/**
 * A clock for many at once, which goes on when all of them sleep. One is awake at a time: what a request takes in real
 * time is nothing here.
 */
class SharedClock {
  #now = 1_800_000_000
  #awake = 0
  #random = 1
  readonly #began = this.#now
  /** By the second; the order within one is that of going to sleep. */
  readonly #sleepers = new Map<number, { until: number; wake: () => void }[]>()

  get minutes(): number {
    return (this.#now - this.#began) / MINUTE
  }

  readonly clock: Clock = {
    now: () => this.#now,
    uptime: () => this.#now - this.#began,
    // The generator of Park and Miller: each run is the same.
    dice: () => (this.#random = (this.#random * 48_271) % 2_147_483_647) / 2_147_483_647,
    sleep: async (milliseconds) => {
      const { promise, resolve } = Promise.withResolvers<void>()
      const until = this.#now + milliseconds / 1000
      const second = Math.floor(until)
      this.#sleepers.set(second, [...(this.#sleepers.get(second) ?? []), { until, wake: resolve }])
      this.#pause()
      await promise
    },
  }

  /** Let all of them run to their ends. */
  async run(all: readonly (() => Promise<void>)[]): Promise<void> {
    this.#awake = all.length
    await Promise.all(all.map(async (one) => one().finally(() => this.#pause())))
  }

  #pause(): void {
    this.#awake -= 1
    if (this.#awake > 0 || this.#sleepers.size === 0) return
    const second = Math.min(...this.#sleepers.keys())
    const due = this.#sleepers.get(second)?.toSorted((a, b) => a.until - b.until) ?? []
    const [first, ...others] = due
    if (others.length === 0) this.#sleepers.delete(second)
    else this.#sleepers.set(second, others)
    if (first === undefined) return
    this.#now = first.until
    this.#awake = 1
    first.wake()
  }
}

/** The issuer of the cloud, with its limits for one address. What it signs is nobody's business here. */
async function startIssuer({ clock }: SharedClock) {
  const limits = new RateLimits({})
  const granted: Record<string, number> = {}
  const refused: Record<string, number> = {}
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = (await json(request)) as { projectId: string; hostname: string }
    const route = (request.url ?? '').replace(/[0-9a-f-]{36}/, 'ID')
    const { headers, retryAfterSeconds } = limits.count(route, 'write', 'NAT', clock.now() * 1000)
    const counts = retryAfterSeconds === null ? granted : refused
    counts[route] = (counts[route] ?? 0) + 1
    if (retryAfterSeconds !== null) {
      sendJson(
        response,
        429,
        { reqId: 'req-1', error: 'RateLimitExceeded', message: 'Rate limit exceeded' },
        headers,
      )
    } else if (route.endsWith('/login')) {
      const token = { accessToken: `token-${randomUUID()}`, expiresIn: 2_592_000, tokenType: 'Bearer' }
      sendJson(response, 200, { ...token, accessTokenMaxTTL: 2_592_000 }, headers)
    } else if (route.endsWith('/issue-host-cert')) {
      sendJson(response, 200, { signedKey: 'a certificate', serialNumber: '1' }, headers)
    } else {
      const { projectId, hostname } = body
      sendJson(
        response,
        200,
        { id: randomUUID(), projectId, hostname, alias: null, hostCertTtl: '1y' },
        headers,
      )
    }
  }
  const server = await startRawServer((request, response) => void answer(request, response))
  return { server, granted, refused }
}

/** What an exchange asks with. */
function openExchange(url: string, clock: Clock, sshHostId: string) {
  const silent = { debug() {}, info() {}, warn() {}, error() {} }
  const options = {
    url,
    sshHostId,
    caFile: null,
    timeoutMilliseconds: 60_000,
    auth: {
      method: 'universal-auth',
      organization: null,
      clientId: { value: randomUUID() },
      clientSecretFile: 'credential:client-secret',
    },
    readCredentialFile: async () => 'secret',
    version: '1.2.3',
    clock,
    log: silent,
    metrics: { issuerRequest() {}, loginFailed() {} },
  } as const
  const way = openWay(options)
  return { ...createHosts(way), issue: createIssuer(options, way).issue }
}

/** As `enroll` does it: log in, register, have one certificate issued. @returns the id */
async function enrollHost(
  hostname: string,
  url: string,
  clock: Clock,
  registered: () => void,
): Promise<string> {
  const exchange = openExchange(url, clock, '')
  const patience = new Patience(clock, () => {})
  const wish: HostWish = {
    hostId: null,
    project: PROJECT,
    hostname,
    register: { ttl: null, alias: null },
    takeOver: false,
    ownIds: [],
    configuredId: null,
    registeredId: null,
    isUnanswered: () => false,
  }
  const found = await findHost(wish, exchange, patience, true, NEVER)
  if (found.kind !== 'found') throw new Error('not registered')
  registered()
  await clock.sleep(ANSWER_SECONDS * 1000, NEVER)
  await patience.ask(async (limit) => {
    const answer = await exchange.issue(requestFor(PUBLIC_KEY), limit)
    return answer.ok ? { kind: 'issued' as const } : { kind: 'failed' as const, failure: answer.failure }
  }, NEVER)
  return found.id
}

/** As the daemon does it: a certificate for each host key, and after a failure the wait of the attempt record. */
async function firstCertificates(hostId: string, url: string, clock: Clock): Promise<void> {
  const exchange = openExchange(url, clock, hostId)
  const attempts = new Attempts({ load: async () => EMPTY_RECORD, save: async () => {} }, clock)
  const left = HOST_KEYS.map((name) => ({ name, fingerprint: name }))
  while (left.length > 0) {
    const answer = await exchange.issue(requestFor(PUBLIC_KEY), NEVER)
    if (answer.ok) left.shift()
    const wait = answer.ok ? null : attempts.issuerFailed(left, answer.failure, null)
    if (answer.ok) attempts.issuerAnswered()
    const pause = wait === null ? ANSWER_SECONDS : wait.until - clock.now()
    await clock.sleep(pause * 1000, NEVER)
  }
}

/** @returns minutes after which the last was registered, had its first certificate, and had all; and the requests */
async function simulate(hosts: number, isWithDaemons: boolean) {
  const shared = new SharedClock()
  const { clock } = shared
  const { server, granted, refused } = await startIssuer(shared)
  await using _ = server
  const last = { registered: 0, enrolled: 0, certified: 0 }
  const failures: unknown[] = []
  const one = (index: number) => async () => {
    try {
      await clock.sleep(clock.dice() * BEGIN_SECONDS * 1000, NEVER)
      const hostname = `web${index}.example.com`
      const hostId = await enrollHost(hostname, server.url, clock, () => {
        last.registered = shared.minutes
      })
      last.enrolled = shared.minutes
      if (isWithDaemons) await firstCertificates(hostId, server.url, clock)
      last.certified = shared.minutes
    } catch (error) {
      failures.push(error)
    }
  }
  await shared.run(Array.from({ length: hosts }, (__, index) => one(index)))
  const sum = (counts: Record<string, number>): number =>
    Object.values(counts).reduce((all, count) => all + count, 0)
  const result = { hosts, ...last, granted, refused, refusedEach: sum(refused) / hosts }
  console.log(JSON.stringify(result, null, 2))
  return { ...result, failures }
}

const LOGIN = '/api/v1/auth/universal-auth/login'
const REGISTER = '/api/v1/ssh/hosts'
const ISSUE = '/api/v1/ssh/hosts/ID/issue-host-cert'

test('5,000 hosts behind one address enroll within half an hour, and ask for nothing twice', async () => {
  const { registered, enrolled, granted, refusedEach, failures } = await simulate(5000, false)
  expect(failures).toEqual([])
  expect(registered).toBeLessThan(30)
  expect(enrolled).toBeLessThan(30)
  expect(granted).toEqual({ [LOGIN]: 5000, [REGISTER]: 5000, [ISSUE]: 5000 })
  // Nobody knows how many others there are: some requests are refused, and count for nothing at the issuer.
  expect(refusedEach).toBeLessThan(5)
})

const HOSTS = process.env['HOSTCERTD_FAULTS'] === 'all' ? 5000 : 300

test('with their daemons they are certified as fast as the limit allows, and nobody gives up', async () => {
  const { certified, granted, failures } = await simulate(HOSTS, true)
  expect(failures).toEqual([])
  expect(granted).toEqual({ [LOGIN]: 2 * HOSTS, [REGISTER]: HOSTS, [ISSUE]: 4 * HOSTS })
  const fastest = (4 * HOSTS) / 200
  expect(certified).toBeLessThan(fastest * 1.1 + 5)
})
