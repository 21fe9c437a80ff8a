import { setTimeout as sleep } from 'node:timers/promises'
import type { Trust } from './client.ts'
import type { Host } from './host.ts'

/** How one login ended. */
export interface Login {
  /** Milliseconds since the watching began, at its end. */
  readonly at: number
  /**
   * `in`: logged in. `distrusted`: the client refused the host's key, which certificates are to prevent.
   * `interrupted`: there was nobody to talk to, or not to the end: sshd was being reloaded or restarted.
   */
  readonly end: 'in' | 'distrusted' | 'interrupted'
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
}

/** Between two logins of one client; each takes a tenth of a second or two by itself. */
const PAUSE_MILLISECONDS = 100
const DISTRUSTED = /Host key verification failed|host key type|HOST IDENTIFICATION|host key is known/

/** Log in again and again, as two clients at the same time, while something is done. */
export async function loginsWhile(
  host: Host,
  work: () => Promise<unknown>,
  { port = 22, other = null }: WatchOptions = {},
): Promise<Logins> {
  const over = new AbortController()
  const start = performance.now()
  const logInOnAndOn = async (trust: Trust) => {
    const logins: Login[] = []
    while (!over.signal.aborted) {
      const { stdout, stderr } = await host.client.logIn(trust, ['-p', String(port)])
      const end = stdout === 'hello\n' ? 'in' : DISTRUSTED.test(stderr) ? 'distrusted' : 'interrupted'
      logins.push({ at: Math.round(performance.now() - start), end, words: stderr.trim() })
      await sleep(PAUSE_MILLISECONDS)
    }
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

/** For people: how many of each. */
export function summaryOf(logins: Logins): string {
  const count = (client: readonly Login[], end: Login['end']) =>
    client.filter((login) => login.end === end).length
  const lines = (['strict', 'other'] as const).map((name) => {
    const [well, distrusted, interrupted] = (['in', 'distrusted', 'interrupted'] as const).map((end) =>
      count(logins[name], end),
    )
    return `${name} client: ${well} in, ${distrusted} distrusted, ${interrupted} interrupted`
  })
  return `${lines.join('; ')}; longest gap ${longestGap(logins)} ms`
}
