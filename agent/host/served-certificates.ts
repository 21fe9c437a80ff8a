import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PublicKey } from '../cert/public-key.ts'
import { oneLine, hostAndPort } from '../cert/text.ts'
import { showsOneOf } from '../renewal/ask-sshd.ts'
import type { Presented, ServedCertificates, SshdAnswer } from '../renewal/ports.ts'
import { type Handshake, hostKeyAlgorithmsFor, readHandshake, SHOW_HOST_KEY } from './handshake.ts'
import { createPace, type Pace } from './machine.ts'
import { runProgram } from './programs.ts'

interface ServedCertificatesOptions {
  /** `auto`: where the helper says that sshd listens, else port 22 of the loopback addresses. */
  readonly address: 'auto' | 'none' | Address
  /** Looked up in PATH. */
  readonly program?: string
  /** Until the banner; the whole handshake gets one second more. */
  readonly timeoutSeconds?: number
  /** Default: one for the whole process. */
  readonly pace?: Pace
}

interface Address {
  readonly host: string
  readonly port: number
}

/** `silent`: it took all the time it had, and the next connection would too. */
type Ending = Handshake | { readonly kind: 'silent'; readonly reason: string }

/** What was seen at one address. */
interface Round {
  readonly presented: ReadonlyMap<string, Presented>
  readonly endings: ReadonlySet<Ending['kind']>
}

interface Question {
  readonly keys: readonly PublicKey[]
  /** Host key algorithms that this ssh knows. */
  readonly known: readonly string[]
  /** On the clock of `performance.now`: no connection is begun after. */
  readonly end: number
  readonly signal: AbortSignal
}

const TIMEOUT_SECONDS = 5
/** For one question; a connection that has begun may still end. */
const QUESTION_SECONDS = 45
/**
 * Before one more try, once at each address: sshd refuses connections for some 25 ms when it is reloaded, and may drop one
 * by chance (MaxStartups) or while it still counts the one before (PerSourceMaxStartups 1).
 */
const PAUSE_MILLISECONDS = 250
/** Of ssh's output; more than the largest certificate that its `sh` takes as an argument. */
const OUTPUT_BYTES = 256 * 1024
const LONGEST_REASON = 200
/**
 * Since OpenSSH 9.8 each connection without a login counts as a second, and an address that has 15 of them is shut out:
 * sshd_config(5), PerSourcePenalties.
 */
const sharedPace = createPace(12, 15_000)

const LOOPBACK: readonly Address[] = [
  { host: '127.0.0.1', port: 22 },
  { host: '::1', port: 22 },
]
const MOST_ADDRESSES = 4
/** What sshd calls any address of the host: sshd_config(5), ListenAddress. */
const ANY_ADDRESS: Readonly<Record<string, string>> = {
  '0.0.0.0': '127.0.0.1',
  '*': '127.0.0.1',
  '::': '::1',
}

/** With no known host keys, ssh ends the connection as soon as it has seen one. */
const SETTINGS = [
  'BatchMode=yes',
  'StrictHostKeyChecking=yes',
  'UserKnownHostsFile=/dev/null',
  'GlobalKnownHostsFile=/dev/null',
  'IdentityFile=none',
  'IdentitiesOnly=yes',
  `KnownHostsCommand=${SHOW_HOST_KEY}`,
]

/**
 * What sshd presents, asked by `ssh` in real handshakes that end before any login: one for each key, one after the other.
 * ssh looks for the key that came by a command of ours, which prints it.
 */
export function createServedCertificates(options: ServedCertificatesOptions): ServedCertificates {
  const { address, program = 'ssh', timeoutSeconds = TIMEOUT_SECONDS, pace = sharedPace } = options

  const ask: ServedCertificates['ask'] = async ({ keys, listen }, signal) => {
    if (address === 'none') return nothingKnown('unknown', keys, () => 'sshd.address is none')
    const end = performance.now() + QUESTION_SECONDS * 1000
    // Anew each time: ssh may be upgraded under a running daemon.
    const known = await namesOf('HostKeyAlgorithms', signal)
    if (!known.ok) return nothingKnown('unknown', keys, () => known.reason)
    const question = { keys, known: known.names, end, signal }
    const rounds: Round[] = []
    const addresses = address === 'auto' ? addressesOf(listen) : [address]
    for (const to of addresses.length === 0 ? LOOPBACK : addresses) {
      const round = await askAt(to, question)
      if (showsOneOf(keys, round.presented)) return { state: 'up', presented: round.presented }
      rounds.push(round)
    }
    return answerOf(keys, rounds, addresses.length > 0)
  }

  const askAt = async (to: Address, question: Question): Promise<Round> => {
    const presented = new Map<string, Presented>()
    const endings = new Set<Ending['kind']>()
    let widened: readonly string[] = []
    let wasRepeated = false
    let last: Ending | null = null
    for (const key of question.keys) {
      const algorithms = hostKeyAlgorithmsFor(key, question.known)
      if (algorithms.length === 0) {
        const reason = `ssh on this host does not know ${key.type} with its certificates`
        presented.set(key.fingerprint, { kind: 'unknown', reason })
        continue
      }
      const wish = `HostKeyAlgorithms=${algorithms.join(',')}`
      if (last === null || !isFinal(last)) last = await connect(to, key, [wish, ...widened], question)
      if ((last.kind === 'unknown' || last.kind === 'refused') && !wasRepeated) {
        wasRepeated = true
        await sleep(PAUSE_MILLISECONDS, undefined, { signal: question.signal }).catch(() => undefined)
        last = await connect(to, key, [wish, ...widened], question)
      }
      if (last.kind === 'nothing-in-common' && widened.length === 0) {
        widened = await everythingKnown(question.signal)
        if (widened.length > 0) last = await connect(to, key, [wish, ...widened], question)
      }
      endings.add(last.kind)
      presented.set(key.fingerprint, presentedIn(last, to))
    }
    return { presented, endings }
  }

  const connect = async (
    { host, port }: Address,
    key: PublicKey,
    settings: readonly string[],
    { end, signal }: Question,
  ): Promise<Ending> => {
    await pace(signal)
    const startedAt = performance.now()
    if (startedAt >= end) return { kind: 'silent', reason: `not asked within ${QUESTION_SECONDS} s` }
    const nonce = randomBytes(16).toString('hex')
    const given = [...SETTINGS, `ConnectTimeout=${timeoutSeconds}`, ...settings]
    const argv = [program, '-F', 'none', '-T', ...given.flatMap((setting) => ['-o', setting])]
    const target = ['-p', String(port), '-l', 'probe', '--', host, 'true']
    const result = await runProgram([...argv, ...target], {
      timeoutMilliseconds: (timeoutSeconds + 1) * 1000,
      outputBytes: OUTPUT_BYTES,
      environment: environmentWith({ HOSTCERTD_NONCE: nonce }),
      signal,
    })
    const handshake = readHandshake(result, nonce, key)
    const tookAllTime = performance.now() - startedAt >= timeoutSeconds * 1000
    return handshake.kind === 'unknown' && tookAllTime ? { ...handshake, kind: 'silent' } : handshake
  }

  /** What `ssh -Q` lists. */
  const namesOf = async (
    what: 'HostKeyAlgorithms' | 'cipher' | 'mac' | 'kex',
    signal: AbortSignal,
  ): Promise<{ ok: true; names: readonly string[] } | { ok: false; reason: string }> => {
    const { status, failure, stdout, stderr } = await runProgram([program, '-Q', what], {
      timeoutMilliseconds: timeoutSeconds * 1000,
      environment: environmentWith({}),
      signal,
    })
    const names = stdout.split(/\r?\n/).filter((line) => /^[\w@.-]+$/.test(line))
    if (failure === null && status === 0 && names.length > 0) return { ok: true, names }
    return { ok: false, reason: failure ?? oneLine(`ssh -Q ${what} ended with status ${status}: ${stderr}`) }
  }

  /** Settings that allow whatever this ssh knows; none when it does not say. */
  const everythingKnown = async (signal: AbortSignal): Promise<readonly string[]> => {
    const [ciphers, macs, kex] = [
      await namesOf('cipher', signal),
      await namesOf('mac', signal),
      await namesOf('kex', signal),
    ]
    if (!ciphers.ok || !macs.ok || !kex.ok) return []
    return [
      `Ciphers=${ciphers.names.join(',')}`,
      `MACs=${macs.names.join(',')}`,
      `KexAlgorithms=${kex.names.join(',')}`,
    ]
  }

  return { enabled: address !== 'none', ask }
}

/** Each address once, any-address as loopback. */
function addressesOf(listen: readonly string[]): readonly Address[] {
  const addresses = new Map<string, Address>()
  for (const entry of listen) {
    const match = /^(?:\[([0-9A-Fa-f:.%\w-]+)\]|([\w.*-]+)):(\d{1,5})$/.exec(entry)
    const port = Number(match?.[3])
    if (match === null || port < 1 || port > 65_535) continue
    const named = match[1] ?? match[2] ?? ''
    const host = ANY_ADDRESS[named] ?? named
    addresses.set(`${host} ${port}`, { host, port })
  }
  return [...addresses.values()].slice(0, MOST_ADDRESSES)
}

function environmentWith(more: Readonly<Record<string, string>>): Record<string, string> {
  const path = process.env['PATH']
  return { ...(path === undefined ? {} : { PATH: path }), LC_ALL: 'C', ...more }
}

/** Whether another connection to the same address would end no better. */
function isFinal({ kind }: Ending): boolean {
  return ['refused', 'no-address', 'silent', 'nothing-in-common'].includes(kind)
}

function presentedIn(ending: Ending, { host, port }: Address): Presented {
  if (!('reason' in ending)) return ending
  return {
    kind: 'unknown',
    reason: `${hostAndPort(host, port)}: ${oneLine(ending.reason).slice(0, LONGEST_REASON)}`,
  }
}

/**
 * When no address showed a key of ours: the first that showed anything, else why there is nothing.
 *
 * @param areKnown whether sshd is known to listen there: that nothing listens where it might proves nothing
 */
function answerOf(keys: readonly PublicKey[], rounds: readonly Round[], areKnown: boolean): SshdAnswer {
  for (const { presented } of rounds) {
    if ([...presented.values()].some(({ kind }) => kind !== 'unknown')) return { state: 'up', presented }
  }
  const isClosed = ({ endings }: Round) =>
    endings.size > 0 && [...endings].every((kind) => kind === 'refused' || kind === 'no-address')
  const isDown = areKnown && rounds.every(isClosed) && rounds.some(({ endings }) => endings.has('refused'))
  return nothingKnown(isDown ? 'down' : 'unknown', keys, ({ fingerprint }) => {
    const seen = rounds.map(({ presented }) => presented.get(fingerprint))
    const reasons = seen.flatMap((one) => (one?.kind === 'unknown' ? [one.reason] : []))
    const why = [...new Set(reasons)].join('; ')
    return areKnown ? why : `where sshd listens is not known; ${why}`
  })
}

function nothingKnown(
  state: 'down' | 'unknown',
  keys: readonly PublicKey[],
  reasonFor: (key: PublicKey) => string,
): SshdAnswer {
  const unknown = (key: PublicKey): Presented => ({ kind: 'unknown', reason: reasonFor(key) })
  return { state, presented: new Map(keys.map((key) => [key.fingerprint, unknown(key)])) }
}
