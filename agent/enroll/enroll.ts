import { AgentError, messageOf } from '../cert/errors.ts'
import { readHostName } from '../cert/host-name.ts'
import { parseCaKeys, type PublicKey } from '../cert/public-key.ts'
import { inOneLine } from '../cert/text.ts'
import { tryParse, verifyIssued } from '../cert/verify-issued.ts'
import type { Config, HttpIssuerConfig } from '../config/config.ts'
import { loadConfig, type LoadedConfig } from '../config/load.ts'
import { type Problem, problemLine } from '../config/problem.ts'
import { readConfigFiles } from '../config/read-files.ts'
import { readEnrollment } from '../host/enrollment.ts'
import { pathsMatching, readBoundedFile, SMALL_FILE_BYTES } from '../host/files.ts'
import { createHostKeys } from '../host/host-keys.ts'
import type { ExchangeClient } from '../issuer/exchange-client.ts'
import type { HostKeyFile } from '../renewal/ports.ts'
import type { Change } from './change.ts'
import { overridingIn, type Settings, withSettings } from './configuration.ts'
import { Obstacle } from './files.ts'
import { findHost, type FoundHost, Patience } from './find-host.ts'
import { type OpenRun, registeredIn } from './journal.ts'
import { flagOf, LOGIN_OPTIONS } from './login-options.ts'
import { loginSettings, readSecret } from './login-settings.ts'
import { NEEDS_REGISTER, planChanges, type Planned } from './plan.ts'
import {
  CONFIG_FILE,
  type Current,
  type EnrollOptions,
  type EnrollTools,
  HOST_CA_FILE,
  NO_HOST,
  settingsWithoutHost,
} from './wanted.ts'

export interface Enrolled {
  readonly changed: boolean
  readonly hostId: string | null
  readonly hostname: string
  readonly steps: readonly { readonly step: string; readonly changed: boolean; readonly detail: string }[]
  /** For clients; null when no certificate was issued. */
  readonly knownHosts: string | null
  /** False: nothing was changed because nothing was to be, or it was not permitted. */
  readonly isDone: boolean
}

const SSHD_FOLDER = '/etc/ssh/'

/**
 * Make this host a member: find or register it, have a certificate issued and verified, show what changes, change it,
 * and wait until sshd serves. Whatever fails or is interrupted is undone.
 *
 * @throws AgentError; the signal's reason
 */
export async function enroll(
  options: EnrollOptions,
  tools: EnrollTools,
  signal: AbortSignal,
): Promise<Enrolled> {
  const { journal, person } = tools
  if (options.ephemeral === true && (options.register === null || options.project === null))
    throw new AgentError('CONFIG_INVALID', NEEDS_REGISTER)
  const isLooking = options.mode === 'dry-run' || options.mode === 'check'
  const isInterrupted = journal.runs.some(({ isFinished }) => !isFinished)
  if (!isLooking) await undo(tools, 'an earlier call that was interrupted')
  else if (isInterrupted)
    person.tell('an earlier call was interrupted: what it changed would be undone first')
  const current = await readCurrent(tools)
  if (current.loaded.kind === 'not-enrolled') requireAll(options)
  const hostname = await hostnameOf(options, current, tools)
  const login = await loginSettings(options, current, tools.person, signal)
  const url = options.url ?? current.config?.url ?? null
  const withoutHost = settingsWithoutHost(options, url, login.settings, hostname)
  const configFor = async (
    hostId: string,
  ): Promise<{ text: string; config: Config; issuer: HttpIssuerConfig }> => {
    const text = withSettings(current.text, [...withoutHost, [['issuer', 'ssh_host_id'], hostId]])
    await refuseOverriding(text, [
      ...withoutHost,
      ...(hostId === NO_HOST ? [] : ([[['issuer', 'ssh_host_id'], hostId]] as const)),
    ])
    const loaded = await load(tools, text)
    if (loaded.kind !== 'ok') throw invalid(loaded)
    const { issuer } = loaded.config
    if (issuer.kind !== 'http')
      throw new AgentError('CONFIG_INVALID', 'issuer.command has no enrollment: remove it first')
    return { text, config: loaded.config, issuer }
  }

  const before = await configFor(NO_HOST)
  const patience = new Patience(tools.clock, person.tell)
  const found = await find(
    options,
    current,
    hostname,
    before.issuer,
    { ...tools, patience },
    login.secrets,
    signal,
  )
  if (found.kind === 'found' && found.isNew) {
    // It stays, whatever comes: who may register a host may not delete it, as a rule, and the next call finds it here.
    const registering = journal.begin()
    await registering.make({ kind: 'registration', step: `register ${hostname}`, hostId: found.id, hostname })
    await registering.finish()
    person.tell(`registered ${hostname} at the issuer, as ${found.id}`)
  }
  const hostId = found.kind === 'found' ? found.id : NO_HOST
  const planned = await configFor(hostId)
  const exchange = tools.openExchange(planned.issuer, login.secrets)
  let ca: readonly PublicKey[] = current.pins
  try {
    if (found.kind === 'found')
      ca = await provedCas(options, current, planned.config, exchange, { ...tools, patience }, signal)
  } finally {
    exchange.end()
  }
  const plan = await planChanges(
    { ...planned, secrets: login.secrets, pins: ca, hostId, hostname, options, current },
    tools,
    signal,
  ).catch((error: unknown) => {
    throw error instanceof Obstacle ? new AgentError('STORE_FAILED', error.message, { cause: error }) : error
  })
  for (const note of plan.notes) person.tell(`note: ${note}`)
  const [problem] = plan.problems
  if (problem !== undefined) throw new AgentError('SSHD_CONFIG_INVALID', plan.problems.join('; '))
  const enrolled = resultOf(plan, found, hostname, ca)
  if (plan.changes.length === 0) return { ...enrolled, changed: isInterrupted && isLooking, isDone: true }
  if (options.mode !== 'yes' || person.isThere) person.show(plan.changes)
  if (isLooking) return { ...enrolled, isDone: false }
  if (options.mode === 'ask' && !(await person.agrees('Make these changes?', signal)))
    return { ...enrolled, isDone: false }
  const run = journal.begin()
  try {
    await make(run, withReload(plan.changes), planned.config, options, tools, signal)
    await run.finish()
  } catch (error) {
    await undo(tools, 'what was changed').catch((other: unknown) =>
      person.tell(`the next call undoes what was changed; it failed now: ${messageOf(other)}`),
    )
    throw error
  }
  return { ...enrolled, isDone: true }
}

/** When it is undone sshd reads its configuration again, and this is known before anything of sshd's is changed. */
function withReload(changes: readonly Change[]): readonly Change[] {
  const first = changes.findIndex(
    (change) => change.kind === 'copies' || (change.kind === 'file' && change.path.startsWith(SSHD_FOLDER)),
  )
  return first === -1 ? changes : changes.toSpliced(first, 0, { kind: 'sshd', step: 'reload sshd' })
}

async function make(
  run: OpenRun,
  changes: readonly Change[],
  config: Config,
  { waitSeconds }: EnrollOptions,
  { person, clock, testSshd, untilServed }: EnrollTools,
  signal: AbortSignal,
): Promise<void> {
  let since = clock.now()
  for (const change of changes) {
    if (change.kind === 'service') {
      const why = await testSshd(signal)
      if (why !== null) throw new AgentError('SSHD_CONFIG_INVALID', `sshd refuses its configuration: ${why}`)
    }
    signal.throwIfAborted()
    if (change.kind !== 'sshd') person.tell(change.step)
    since = clock.now()
    await run.make(change)
  }
  person.tell('waiting until sshd presents the certificates')
  const missing = await untilServed(config, { since, seconds: waitSeconds }, signal)
  if (missing !== null) throw new AgentError('SSHD_NOT_SERVING', missing)
}

/** What a first call needs, all at once. */
function requireAll({ url, method, hostId, project, fromCertificate }: EnrollOptions): void {
  const missing = [
    ...(url === null ? ['--url URL'] : []),
    ...(hostId === null && project === null && !fromCertificate
      ? ['one of --host-id ID, --project PROJECT or --from-certificate']
      : []),
    ...(method === null ? ['--auth METHOD with its settings'] : []),
  ]
  if (missing.length > 0)
    throw new AgentError('CONFIG_INVALID', `this host has no configuration yet; add: ${missing.join('; ')}`)
}

/** Undo what is not finished; what cannot be undone is said. */
async function undo({ journal, person }: EnrollTools, what: string): Promise<void> {
  const { changes, left } = await journal.undoUnfinished()
  if (changes.length > 0) person.tell(`undone: ${what} (${changes.map(({ step }) => step).join(', ')})`)
  for (const { path, why } of left) person.tell(`not undone: ${path}: ${why}`)
}

async function readCurrent(tools: EnrollTools): Promise<Current> {
  const text = await readBoundedFile(CONFIG_FILE, SMALL_FILE_BYTES).catch(() => null)
  const loaded = await load(tools)
  // What is wrong with a setting may be what enroll sets right; a file that cannot be read is not written over.
  if (loaded.kind === 'invalid' && loaded.problems.some(({ path }) => path.startsWith('/')))
    throw invalid(loaded)
  const config = loaded.kind === 'ok' && loaded.config.issuer.kind === 'http' ? loaded.config.issuer : null
  const principals = loaded.kind === 'ok' ? (loaded.config.verify.principals ?? []) : []
  const enrollment = await readEnrollment().catch(() => null)
  const pinned = await readBoundedFile(HOST_CA_FILE, SMALL_FILE_BYTES).catch(() => null)
  return {
    text,
    loaded,
    config,
    principals,
    enrollment,
    pins: pinned === null ? [] : parseCaKeys(pinned),
    pinsText: pinned,
  }
}

/** @param mainText instead of what the main file holds */
async function load({ environment }: EnrollTools, mainText?: string): Promise<LoadedConfig> {
  return loadConfig({
    path: CONFIG_FILE,
    environment,
    checkPinnedCas: false,
    mainText,
    keepsCredentialNames: true,
  })
}

/** What conf.d sets counts, whatever the main file says. */
async function refuseOverriding(text: string, settings: Settings): Promise<void> {
  const { files } = await readConfigFiles(CONFIG_FILE, text)
  const others = files.filter(({ file }) => file !== CONFIG_FILE)
  const lines = overridingIn(others, settings)
  if (lines.length > 0) throw new AgentError('CONFIG_INVALID', lines.join('; '))
}

function invalid(loaded: LoadedConfig): AgentError {
  const problems = loaded.kind === 'invalid' ? loaded.problems.map(problemWithOption) : ['there is none']
  return new AgentError('CONFIG_INVALID', problems.join('; '))
}

/** `auth.identity_id: is required; the option is --identity-id`. */
function problemWithOption(problem: Problem): string {
  const [, setting = ''] = /^auth\.(\w+)$/.exec(problem.path) ?? []
  const isOption = Object.values(LOGIN_OPTIONS).some((options) =>
    options.some((one) => one.setting === setting),
  )
  return isOption ? `${problemLine(problem)}; the option is ${flagOf(setting)}` : problemLine(problem)
}

async function hostnameOf(
  { hostname }: EnrollOptions,
  { principals }: Current,
  tools: EnrollTools,
): Promise<string> {
  if (hostname !== null) return hostname
  const [configured] = principals
  if (configured !== undefined) return configured
  const full = (await tools.hostNames()).at(-1) ?? ''
  const read = readHostName(full)
  if (read.ok) return read.value
  throw new AgentError('CONFIG_INVALID', `this host's name ${read.why}; give --hostname`)
}

async function find(
  options: EnrollOptions,
  current: Current,
  hostname: string,
  issuer: HttpIssuerConfig,
  tools: EnrollTools & { readonly patience: Patience },
  secrets: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<FoundHost> {
  const certificateIds = await idsInCertificates()
  const [fromCertificate] = certificateIds
  if (options.fromCertificate && fromCertificate === undefined)
    throw new AgentError(
      'CERT_UNPARSABLE',
      'no certificate in /etc/ssh or /etc/ssh/hostcertd has a key id of the form host-ID; name the host by --host-id or --project',
    )
  const { config } = current
  const isSame = config !== null && config.url === issuer.url && current.principals.includes(hostname)
  const wish = {
    ...options,
    hostId: options.hostId ?? (options.fromCertificate && !isSame ? (fromCertificate ?? null) : null),
    hostname,
    ownIds: [
      ...certificateIds,
      ...registeredIn(tools.journal.runs),
      current.enrollment?.host_id ?? '',
      config?.sshHostId ?? '',
    ],
    configuredId: isSame && options.atBoot?.isGone !== true ? config.sshHostId : null,
  }
  const exchange = await openForHosts(options.adminTokenFile, { ...issuer, sshHostId: '' }, secrets, tools)
  try {
    const mayRegister = options.mode === 'ask' || options.mode === 'yes'
    return await findHost(wish, exchange, tools.patience, mayRegister, signal)
  } finally {
    exchange.end()
  }
}

/** As an administrator, if there is a token of one, else as this host itself. */
export async function openForHosts(
  adminTokenFile: string | null,
  issuer: HttpIssuerConfig,
  secrets: Readonly<Record<string, string>>,
  { openExchange, person }: Pick<EnrollTools, 'openExchange' | 'person'>,
): Promise<ExchangeClient> {
  if (adminTokenFile === null) return openExchange(issuer, secrets)
  const auth = { method: 'token', tokenFile: 'credential:admin-token' } as const
  return openExchange(
    { ...issuer, auth },
    { 'admin-token': (await readSecret(adminTokenFile, '--admin-token-file', person)).trim() },
  )
}

/** Ids of certificates of this host that lie where sshd or another agent has them. */
async function idsInCertificates(): Promise<string[]> {
  const ids: string[] = []
  for (const pattern of ['/etc/ssh/hostcertd/*-cert.pub', '/etc/ssh/*-cert.pub']) {
    for (const path of await pathsMatching(pattern).catch(() => [])) {
      const text = await readBoundedFile(path, SMALL_FILE_BYTES).catch(() => '')
      const parsed = tryParse(text)
      const id = parsed.ok ? /^host-([0-9a-f-]{36})$/i.exec(parsed.certificate.keyId)?.[1] : undefined
      if (id !== undefined) ids.push(id)
    }
  }
  return [...new Set(ids)]
}

/** Has one certificate issued and verified; the CA that signed it is one that may. */
async function provedCas(
  { caFingerprints, mode }: EnrollOptions,
  { pins }: Current,
  config: Config,
  exchange: ExchangeClient,
  { clock, patience, person }: EnrollTools & { readonly patience: Patience },
  signal: AbortSignal,
): Promise<readonly PublicKey[]> {
  const hostKey = await aHostKey(config)
  const { key, comment } = hostKey.content
  const request = {
    publicKey: `${key.type} ${key.blob.toString('base64')} ${inOneLine(comment) || hostKey.name}`,
    hostKey: hostKey.name,
    principals: config.verify.principals ?? [],
  }
  const issued = await patience.ask(async (limit) => {
    const answer = await exchange.issue(request, limit)
    return answer.ok
      ? { kind: 'issued' as const, ...answer }
      : { kind: 'failed' as const, failure: answer.failure }
  }, signal)
  const requirements = { hostKey: key, trustedCas: null, wantedPrincipals: config.verify.principals }
  const verified = verifyIssued(issued.signedKey, requirements, null, comment, clock.now())
  if (!verified.ok)
    throw new AgentError(
      verified.failure.code,
      `the issuer signed a certificate that cannot be used: ${verified.failure.message}`,
    )
  const { ca } = verified.value.certificate
  const isPinned = pins.some(({ blob }) => blob.equals(ca.blob))
  if (caFingerprints.length > 0 && !caFingerprints.includes(ca.fingerprint))
    throw new AgentError(
      'CERT_CA_MISMATCH',
      `the certificate is signed by the CA ${ca.fingerprint}, not by ${caFingerprints.join(' or ')}`,
    )
  if (isPinned) return pins
  if (pins.length > 0 && caFingerprints.length === 0)
    throw new AgentError(
      'CERT_CA_MISMATCH',
      `the certificate is signed by the CA ${ca.fingerprint}, not by one that is pinned; if the CA was changed on purpose, add --ca-fingerprint ${ca.fingerprint}`,
    )
  if (caFingerprints.length === 0) {
    const named = await exchange.hostCa(signal)
    if (named.ok && !named.keys.some(({ blob }) => blob.equals(ca.blob)))
      throw new AgentError(
        'CERT_CA_MISMATCH',
        `the certificate is signed by the CA ${ca.fingerprint}, and the issuer names another one`,
      )
    person.tell(`this host's certificates are signed by the CA ${ca.fingerprint} (${ca.type})`)
    person.tell(
      mode === 'yes'
        ? 'it is trusted because the issuer was verified by TLS; compare it with the CA that your clients trust'
        : 'compare it with the CA that your clients trust',
    )
  }
  return [...pins, ca]
}

type KeyFile = HostKeyFile & { readonly content: Extract<HostKeyFile['content'], { kind: 'key' }> }

async function aHostKey({ hostKeys }: Config): Promise<KeyFile> {
  const files = await createHostKeys({ patterns: hostKeys }).list()
  const file = files.find((one): one is KeyFile => one.content.kind === 'key')
  if (file !== undefined) return file
  throw new AgentError(
    'HOST_KEY_UNREADABLE',
    `no host key that the issuer signs matches ${hostKeys.join(', ')}`,
  )
}

function resultOf(
  { changes }: Planned,
  found: FoundHost,
  hostname: string,
  cas: readonly PublicKey[],
): Omit<Enrolled, 'isDone'> {
  const steps = changes.map((change) => ({
    step: change.step,
    changed: true,
    detail: change.kind === 'file' ? change.path : change.kind,
  }))
  const ca = cas.at(-1)
  return {
    changed: changes.length > 0,
    hostId: found.kind === 'found' ? found.id : null,
    hostname,
    steps,
    knownHosts: ca === undefined ? null : knownHostsLine(hostname, ca),
  }
}

/** All hosts of the domain, never all hosts. */
function knownHostsLine(hostname: string, { type, blob }: PublicKey): string {
  const domain = hostname.slice(hostname.indexOf('.') + 1)
  return `@cert-authority ${domain.includes('.') ? `*.${domain}` : hostname} ${type} ${blob.toString('base64')}`
}
