import { setTimeout as sleep } from 'node:timers/promises'
import type { Trust } from './client.ts'
import type { Host } from './host.ts'

/** How one login ended. */
export interface Login {
  /** Milliseconds since the watching began, at its end. */
  readonly at: number
  /**
   * `in`: logged in. `distrusted`: the client refused the host's key, which certificates are to prevent. `denied`: the host
   * refused the user. Each of them may be a question where somebody can answer. `interrupted`: there was nobody to talk to, or not to the end: sshd was being reloaded or restarted.
   */
  readonly end: 'in' | 'distrusted' | 'denied' | 'interrupted'
  /** What ssh said. */
  readonly words: string
}

/** What two clients saw that logged in again and again at the same time, oldest first. */
export interface Logins {
  /** Knows the CA and nothing else. */
  readonly strict: readonly Login[]
  /** By default one that takes any key: what it cannot reach either is no matter of certificates. */
  readonly other: readonly Login[]
}

export interface WatchOptions {
  /** Default 22. */
  readonly port?: number
  readonly other?: Trust
  /** How many logins of one client there may be at the same time; default 1. Sshd drops some when there are ten in all. */
  readonly atOnce?: number
}

/** From the beginning of one login to that of the next of one client; longer while as many as may be have not ended. */
const EVERY_MILLISECONDS = 100
const DISTRUSTED = /Host key verification failed|host key type|HOST IDENTIFICATION|host key is known/

function endOf(stdout: string, stderr: string): Login['end'] {
  if (stdout === 'hello\n') return 'in'
  if (DISTRUSTED.test(stderr)) return 'distrusted'
  return stderr.includes('Permission denied') ? 'denied' : 'interrupted'
}

/** Log in again and again, as two clients at the same time, while something is done. */
export async function loginsWhile(
  host: Host,
  work: () => Promise<unknown>,
  { port = 22, other = null, atOnce = 1 }: WatchOptions = {},
): Promise<Logins> {
  const over = new AbortController()
  const start = performance.now()
  const logInOnAndOn = async (trust: Trust) => {
    const logins: Login[] = []
    const inTurn = async (first: number): Promise<void> => {
      await sleep(first)
      while (!over.signal.aborted) {
        const begun = performance.now()
        const { stdout, stderr } = await host.client.logIn(trust, ['-p', String(port)])
        const at = Math.round(performance.now() - start)
        logins.push({ at, end: endOf(stdout, stderr), words: stderr.trim() })
        await sleep(Math.max(0, begun + atOnce * EVERY_MILLISECONDS - performance.now()))
      }
    }
    await Promise.all(Array.from({ length: atOnce }, async (_, turn) => inTurn(turn * EVERY_MILLISECONDS)))
    return logins
  }
  const watching = Promise.all([logInOnAndOn('any'), logInOnAndOn(other)])
  try {
    await work()
  } finally {
    over.abort()
    await watching
  }
  const [byCertificate, byOther] = await watching
  return { strict: byCertificate, other: byOther }
}

/** Those that the strict client refused although it had been let in before. */
export function newlyDistrusted({ strict }: Logins): readonly Login[] {
  const first = strict.findIndex(({ end }) => end === 'in')
  return first === -1 ? strict : strict.slice(first).filter(({ end }) => end === 'distrusted')
}

/** The longest time that the strict client was not let in, after it once was, in milliseconds. */
export function longestGap({ strict }: Logins): number {
  const times = strict.filter(({ end }) => end === 'in').map(({ at }) => at)
  const ends = [...times, strict.at(-1)?.at ?? 0]
  return Math.max(0, ...times.map((time, index) => (ends[index + 1] ?? time) - time))
}

const ENDS = ['in', 'distrusted', 'denied', 'interrupted'] as const

/** For people: how many of each. */
export function summaryOf(logins: Logins): string {
  const count = (client: readonly Login[], end: Login['end']) =>
    client.filter((login) => login.end === end).length
  const lines = (['strict', 'other'] as const).map((name) => {
    const [well, distrusted, denied, interrupted] = ENDS.map((end) => count(logins[name], end))
    return `${name} client: ${well} in, ${distrusted} distrusted, ${denied} denied, ${interrupted} interrupted`
  })
  return `${lines.join('; ')}; longest gap ${longestGap(logins)} ms`
}
