import { execFileSync } from 'node:child_process'
import { json } from 'node:stream/consumers'
import { AgentError } from '../../agent/cert/errors.ts'
import { parseCaKeys } from '../../agent/cert/public-key.ts'
import { failureLine } from '../../agent/cli/context.ts'
import { enrollAtBoot, nextAttempt } from '../../agent/enroll/first-boot.ts'
import { openJournal } from '../../agent/enroll/journal.ts'
import { prepareImage } from '../../agent/enroll/prepare-image.ts'
import type { EnrollOptions, EnrollTools } from '../../agent/enroll/wanted.ts'
import type { ExchangeClient } from '../../agent/issuer/exchange-client.ts'
import { signCertificate } from '../support/ssh-keygen.ts'
import { type Attempted, type Attempting, NAMES, type PreparedImage, type Preparing } from './boot-host.ts'
import { fileChange, fileState } from './small-host.ts'

/**
 * A program of boot-host.ts: runs where /etc, /var/lib and /run are a test's own; one start of the first boot's service, or
 * what makes the image.
 */

const { prepares, issuer, stopsAfter, isTemplateBusy } = (await json(process.stdin)) as Attempting
const hosts = { ...issuer.hosts }
const log: string[] = []
const sleeps: number[] = []
const asked: string[] = []
const stopped = new AbortController()
const never = (): never => {
  throw new Error('not expected')
}

let passed = 0
const clock: EnrollTools['clock'] = {
  now: () => Date.now() / 1000 + passed,
  uptime: () => passed,
  dice: () => 0,
  async sleep(milliseconds) {
    if (milliseconds > 1000) sleeps.push(milliseconds / 1000)
    if (stopsAfter !== undefined && sleeps.length === stopsAfter) stopped.abort(new Error('ended by SIGTERM'))
    stopped.signal.throwIfAborted()
    passed += milliseconds / 1000
  },
}

function failed(code: 'ISSUER_TIMEOUT' | 'ISSUER_NOT_FOUND', requestId: string | null) {
  const next = code === 'ISSUER_NOT_FOUND' ? 'administrator' : 'local'
  const failure = { code, message: 'fault', next, retryAfterSeconds: null, requestId } as const
  return { kind: 'failed', failure } as const
}

function hostOf(hostname: string, id: string) {
  return { id, projectId: NAMES.project, hostname, alias: null, hostCertTtl: null }
}

const exchange: Pick<ExchangeClient, 'findHost' | 'registerHost' | 'issue' | 'hostCa' | 'health' | 'end'> = {
  async findHost({ by }) {
    asked.push(`find by ${by.kind}`)
    if (by.kind === 'name') return never()
    const [name] = Object.entries(hosts).find(([, id]) => id === by.id) ?? []
    if (name === undefined) return failed('ISSUER_NOT_FOUND', issuer.isBehindProxy === true ? null : 'req-1')
    return { kind: 'found', project: null, host: hostOf(name, by.id), similar: [], visible: 1 }
  },
  async registerHost({ hostname }) {
    asked.push('register')
    const id = hosts[hostname]
    if (id !== undefined) return { kind: 'taken', what: 'hostname', host: hostOf(hostname, id) }
    hosts[hostname] = NAMES.otherId
    return issuer.losesAnswer === true
      ? { ...failed('ISSUER_TIMEOUT', null), mayBeRegistered: true }
      : { kind: 'registered', host: hostOf(hostname, NAMES.otherId) }
  },
  async issue({ publicKey }) {
    asked.push('issue')
    const wish = { keyId: `host-${hosts[NAMES.host]}`, principals: [NAMES.host] }
    const validity = issuer.validity ?? '-5m:+1h'
    const signedKey = await signCertificate({ ...wish, validity, ca: issuer.ca, publicKey })
    return { ok: true, signedKey, serialNumber: null, requestId: null }
  },
  hostCa: async () => ({ ok: true, keys: parseCaKeys(issuer.caKey) }),
  health: () => ({ reachable: true, lastSuccess: null, clockSkewSeconds: 0 }),
  end: () => {},
}

const openTools = async (): Promise<EnrollTools & AsyncDisposable> => {
  const journal = await openJournal({
    folder: '/var/lib/hostcertd-enroll',
    performers: {
      systemctl: async () => ({ status: 0, failure: null, stderr: '' }),
    },
  })
  const person = { isThere: false, show: () => {}, agrees: never, secret: never, input: never }
  return {
    version: 'test',
    environment: {},
    clock,
    person: { ...person, print: (text) => void log.push(text) },
    journal,
    hostNames: async () => [NAMES.host],
    openExchange: () => exchange as ExchangeClient,
    untilServed: async () => null,
    reloadSshd: never,
    testSshd: async () => null,
    [Symbol.asyncDispose]: async () => journal[Symbol.asyncDispose](),
  }
}

const OPTIONS: EnrollOptions = {
  url: 'https://issuer.example.com',
  hostId: null,
  project: 'ssh',
  hostname: null,
  register: { ttl: null, alias: null },
  fromCertificate: false,
  method: 'aws',
  login: { identity_id: '2b5dd1f5-7a4f-4b3a-9a0c-6e7e0b9d3c11' },
  adminTokenFile: null,
  caFile: null,
  caFingerprints: [],
  takeOver: false,
  onCopy: null,
  mode: 'yes',
  waitSeconds: 1,
}

const textOf = (error: unknown): string => (error instanceof AgentError ? failureLine(error) : String(error))

async function start(): Promise<Attempted> {
  const attempted = { log, sleeps, asked, hosts }
  try {
    const enrolled = await enrollAtBoot(
      { clock, log: (text) => void log.push(text), openTools },
      stopped.signal,
    )
    return { ...attempted, error: null, hostId: enrolled?.hostId ?? null, next: null }
  } catch (error) {
    return { ...attempted, error: textOf(error), hostId: null, next: await nextAttempt() }
  }
}

async function prepare(what: Preparing): Promise<PreparedImage> {
  await using tools = await openTools()
  try {
    if (what === 'interrupted') {
      await tools.journal.begin().make(fileChange('/etc/left', null, fileState('left\n')))
      return { error: null, changed: null, isDone: null, log }
    }
    const { changed, isDone } = await prepareImage({ ...OPTIONS, mode: what }, false, tools, stopped.signal)
    return { error: null, changed, isDone, log }
  } catch (error) {
    return { error: textOf(error), changed: null, isDone: null, log }
  }
}

// A mount point cannot be removed.
const template = '/etc/hostcertd/enroll.json'
if (isTemplateBusy === true) execFileSync('/usr/bin/mount', ['--bind', template, template])
process.stdout.write(JSON.stringify(prepares === null ? await start() : await prepare(prepares)))
