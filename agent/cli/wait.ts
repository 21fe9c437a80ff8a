import { setTimeout as sleep } from 'node:timers/promises'
import { readinessOf, type StatusDocument } from '../core/status-document.ts'
import { parseDuration } from '../core/time.ts'
import { EXIT, type CliContext } from './context.ts'
import { loadForVerb, type ConfigOption } from './load.ts'
import { lookOnce } from './look.ts'
import { askDaemon } from './status.ts'

const DEFAULT_TIMEOUT_SECONDS = 60
/** The daemon is asked often; sshd, where there is no daemon, seldom: it punishes whoever asks too much. */
const ASK_DAEMON_MILLISECONDS = 250
const ASK_SSHD_MILLISECONDS = 5_000

export interface WaitOptions extends ConfigOption {
  readonly timeout?: string
}

/** `wait`: until every host key's certificate is served. */
export async function wait(context: CliContext, options: WaitOptions, signal: AbortSignal): Promise<number> {
  const timeout = options.timeout === undefined ? DEFAULT_TIMEOUT_SECONDS : parseDuration(options.timeout)
  if (timeout === null) {
    context.err(`--timeout ${options.timeout}: not a duration: a whole number and s, m, h or d`)
    return EXIT.usage
  }
  const limit = AbortSignal.any([signal, AbortSignal.timeout(timeout * 1000)])
  const loaded = await loadForVerb(context, options)
  if (loaded.kind === 'not-enrolled') context.err(`not enrolled: there is no ${loaded.path}`)
  if (loaded.kind !== 'ok') return EXIT.failed
  const { config } = loaded
  let last: StatusDocument | null = null
  try {
    for (;;) {
      limit.throwIfAborted()
      const fromDaemon = await askDaemon(config.health.listen, limit)
      last = fromDaemon ?? (await lookOnce(context, config, config.sshd.address !== 'none', limit)).status
      if (isServed(last)) return EXIT.ok
      await sleep(fromDaemon === null ? ASK_SSHD_MILLISECONDS : ASK_DAEMON_MILLISECONDS, undefined, {
        signal: limit,
      })
    }
  } catch (error) {
    if (!limit.aborted) throw error
  }
  const open = last?.certificates.filter(({ state }) => state !== 'ignored' && state !== 'valid') ?? []
  const what = open.map(
    ({ host_key, state, reason }) => `${host_key} is ${state}${reason === null ? '' : ` (${reason})`}`,
  )
  context.err(
    `not every certificate is served after ${options.timeout ?? `${DEFAULT_TIMEOUT_SECONDS}s`}: ${what.join(', ')}`,
  )
  return EXIT.failed
}

function isServed(status: StatusDocument): boolean {
  const readiness = readinessOf(status, null)
  return readiness !== null && readiness.status !== 'fail'
}
