import { request, type RequestOptions } from 'node:http'
import { CLOCKS_DIFFER, ERRORS, SSHD_DOWN, UPPER_CASE } from '../cert/errors.ts'
import { hostAndPort, reasonOf, systemCodeOf } from '../cert/text.ts'
import { upperCaseWarning } from '../cert/verify-issued.ts'
import type { Config, HealthListen } from '../config/config.ts'
import { isStopped, SKEW_WARNING_SECONDS, type StatusDocument } from '../renewal/status-document.ts'

const TIMEOUT_MILLISECONDS = 3_000
const MAX_ANSWER_BYTES = 4 * 1024 * 1024

/** From connect(2): nothing listens on the port or the socket file; connecting is not permitted. */
const NOBODY = ['ECONNREFUSED', 'ENOENT']
const DENIED = ['EACCES', 'EPERM']

/** What is found where the daemon's health server should be. */
export type DaemonAnswer =
  /** `health.listen` is none. */
  | { readonly kind: 'not-asked' }
  /** The daemon, whose loop runs. `status` is null before its first pass, and from an older version, whose document has less. */
  | { readonly kind: 'runs'; readonly status: StatusDocument | null }
  /** The daemon, but its last pass is too long ago: its status is old. */
  | { readonly kind: 'hangs'; readonly lastTurn: string | null }
  /** Nothing listens. */
  | { readonly kind: 'nobody' }
  /** A program accepts the connection, but sends nothing for three seconds. */
  | { readonly kind: 'silent' }
  /** A program answers that is not the daemon. */
  | { readonly kind: 'stranger' }
  /** This user may not connect. */
  | { readonly kind: 'denied'; readonly why: string }

/** Where the daemon is asked, for people. */
export function placeOf(listen: HealthListen): string {
  if (listen.kind === 'none') return 'nowhere'
  if (listen.kind === 'unix') return listen.path
  return hostAndPort(listen.host, listen.port)
}

/** Ask the daemon for its status, and whether its loop runs; recognise other programs on that port. */
export async function askDaemon(listen: HealthListen, signal: AbortSignal): Promise<DaemonAnswer> {
  if (listen.kind === 'none') return { kind: 'not-asked' }
  const answer = await get(listen, '/status', signal)
  if (answer.kind !== 'answered') return answer
  const said = parse(answer.body)
  const isDaemon = answer.status === 200 ? isOfDaemon(said) : isStarting(answer.status, said)
  if (!isDaemon) return { kind: 'stranger' }
  const status = isStatusDocument(said) ? said : null
  const live = await get(listen, '/livez', signal)
  if (live.kind === 'answered' && live.status === 200) return { kind: 'runs', status }
  return { kind: 'hangs', lastTurn: live.kind === 'answered' ? lastTurnIn(parse(live.body)) : null }
}

/**
 * One of the daemon's routes.
 *
 * @returns the body, of at most 4 MiB; null without an answer with status 200 within three seconds
 */
export async function getFromDaemon(
  listen: HealthListen,
  path: string,
  signal: AbortSignal,
): Promise<string | null> {
  if (listen.kind === 'none') return null
  const answer = await get(listen, path, signal)
  return answer.kind === 'answered' && answer.status === 200 ? answer.body : null
}

type Got =
  | { readonly kind: 'answered'; readonly status: number; readonly body: string }
  | Extract<DaemonAnswer, { kind: 'nobody' | 'silent' | 'stranger' | 'denied' }>

async function get(
  listen: Exclude<HealthListen, { kind: 'none' }>,
  path: string,
  signal: AbortSignal,
): Promise<Got> {
  const target =
    listen.kind === 'unix' ? { socketPath: listen.path } : { host: listen.host, port: listen.port }
  const timeout = AbortSignal.timeout(TIMEOUT_MILLISECONDS)
  const limit = AbortSignal.any([signal, timeout])
  try {
    return { kind: 'answered', ...(await exchange({ ...target, path, agent: false, signal: limit })) }
  } catch (error) {
    signal.throwIfAborted()
    if (timeout.aborted) return { kind: 'silent' }
    const code = systemCodeOf(error) ?? ''
    if (NOBODY.includes(code)) return { kind: 'nobody' }
    return DENIED.includes(code) ? { kind: 'denied', why: reasonOf(error) } : { kind: 'stranger' }
  }
}

async function exchange(
  options: RequestOptions,
): Promise<{ readonly status: number; readonly body: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: string }>()
  const outgoing = request(options, (response) => {
    const chunks: Buffer[] = []
    let size = 0
    response.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > MAX_ANSWER_BYTES) outgoing.destroy(new Error('the answer is too large'))
      chunks.push(chunk)
    })
    response.on('end', () =>
      resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }),
    )
    response.on('error', reject)
  })
  outgoing.on('error', reject)
  outgoing.end()
  return promise
}

function parse(body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    return null
  }
}

/** What `/status` has in every version. */
function isOfDaemon(value: unknown): boolean {
  return isObject(value) && 'version' in value && 'enrolled' in value && Array.isArray(value['certificates'])
}

/** @returns null for what is not the status document of this version */
export function statusIn(text: string): StatusDocument | null {
  const said = parse(text)
  return isStatusDocument(said) ? said : null
}

/** What it has from this version on: after an upgrade the old daemon answers until it is restarted. */
function isStatusDocument(value: unknown): value is StatusDocument {
  if (!isOfDaemon(value) || !isObject(value)) return false
  const { sshd, waits, machine, login } = value
  return isObject(sshd) && Array.isArray(waits) && isObject(machine) && isObject(login)
}

/** The answer of `/status` before the first pass. */
function isStarting(status: number, value: unknown): boolean {
  return status === 503 && isObject(value) && value['error'] === 'starting'
}

function lastTurnIn(value: unknown): string | null {
  const at = isObject(value) ? value['last_turn'] : null
  return typeof at === 'string' ? at : null
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null
}

/** Something that concerns the host as a whole: `status` and `check` print it below the host keys. */
export interface Remark {
  readonly text: string
  /** What to do about it, commands between backticks; null if the text has it. */
  readonly remedy: string | null
}

/** In one line: the text, and behind an arrow what to do. */
export function remarkLine({ text, remedy }: Remark): string {
  return remedy === null ? text : `${text} -> ${remedy}`
}

export const START_DAEMON =
  '`systemctl enable --now hostcertd`; `journalctl -u hostcertd` shows why it stopped'
export const RESTART_DAEMON =
  '`systemctl restart hostcertd`; `journalctl -u hostcertd` shows its last messages'

/** Remarks on the daemon, the machine, sshd, the root helper, the issuer and the clock. */
export function remarksOn(document: StatusDocument, answer: DaemonAnswer, { health }: Config): Remark[] {
  return [
    ...onDaemon(answer, health.listen),
    ...onMachine(document),
    ...onSshd(document),
    ...onHelper(document),
    ...onIssuer(document),
    ...onClock(document),
    ...onNames(document),
  ]
}

/** `sshd has been down since TIME`; null unless it is. */
export function sshdDown({ sshd: { state, since } }: StatusDocument): string | null {
  if (state !== 'down') return null
  return since === null ? 'sshd is down' : `sshd has been down since ${since}`
}

function onDaemon(answer: DaemonAnswer, listen: Config['health']['listen']): Remark[] {
  const place = placeOf(listen)
  const without = 'these results come from a direct check'
  switch (answer.kind) {
    case 'not-asked':
    case 'runs':
      return []
    case 'nobody':
      return [{ text: `the daemon does not respond; ${without}`, remedy: START_DAEMON }]
    case 'hangs':
      return [{ text: `the daemon ${hangingSince(answer.lastTurn)}; ${without}`, remedy: RESTART_DAEMON }]
    case 'silent':
      return [
        { text: `the program listening on ${place} does not respond; ${without}`, remedy: findOut(listen) },
      ]
    case 'stranger':
      return [
        {
          text: `another program is listening on ${place}, not the daemon; ${without}`,
          remedy: takenBy(listen),
        },
      ]
    case 'denied':
      return [
        {
          text: `cannot connect to the daemon at ${place}: ${answer.why}; ${without}`,
          remedy: 'run this as root, or make the folders above the socket accessible (`chmod o+x`)',
        },
      ]
  }
}

/** `hangs: no pass completed since TIME`. */
export function hangingSince(lastTurn: string | null): string {
  return `hangs: no pass completed${lastTurn === null ? ' yet' : ` since ${lastTurn}`}`
}

/** For a listener that may be the daemon, if it hangs, or another program. */
export function findOut(listen: Config['health']['listen']): string {
  return `\`${listeners(listen)}\` shows which program it is: if it is hostcertd, ${RESTART_DAEMON}`
}

/** For another program in the daemon's place. */
export function takenBy(listen: Config['health']['listen']): string {
  return `\`${listeners(listen)}\` shows which program it is: stop it, or set another health.listen and \`systemctl reload hostcertd\``
}

function listeners({ kind }: Config['health']['listen']): string {
  return kind === 'unix' ? 'ss -lxp' : 'ss -ltnp'
}

function onMachine(document: StatusDocument): Remark[] {
  if (document.machine.copied !== true) return []
  const text = isStopped(document)
    ? 'not enrolled: this machine was copied, and nothing is renewed here (enrollment.on_copy: stop)'
    : 'this machine was copied after it was enrolled'
  return [{ text, remedy: ERRORS.MACHINE_COPIED.remedy }]
}

function onSshd(document: StatusDocument): Remark[] {
  const text = sshdDown(document)
  return text === null ? [] : [{ text, remedy: SSHD_DOWN.remedy }]
}

function onHelper({ notes }: StatusDocument): Remark[] {
  return notes.map((note) => ({ text: `the root helper reported: ${note}`, remedy: null }))
}

function onIssuer({ issuer: { url, reachable } }: StatusDocument): Remark[] {
  if (reachable !== false) return []
  return [
    {
      text: `the issuer ${url ?? ''} did not respond to the last request`,
      remedy: '`hostcertd doctor` shows where the connection to it fails',
    },
  ]
}

function onNames({ certificates }: StatusDocument): Remark[] {
  const text = upperCaseWarning([...new Set(certificates.flatMap(({ principals }) => principals))])
  return text === null ? [] : [{ text, remedy: UPPER_CASE.remedy }]
}

function onClock({ issuer: { clock_skew_seconds: skew } }: StatusDocument): Remark[] {
  if (skew === null || Math.abs(skew) <= SKEW_WARNING_SECONDS) return []
  return [
    {
      text: `the issuer's clock and this host's differ by ${Math.round(Math.abs(skew))} s`,
      remedy: CLOCKS_DIFFER.remedy,
    },
  ]
}
