import { request, type RequestOptions } from 'node:http'
import type { Config, HealthListen } from '../config/config.ts'
import type { StatusDocument } from '../core/status-document.ts'
import { notEnrolledStatus } from '../renewal/status.ts'
import { EXIT, type CliContext } from './context.ts'
import { configForVerb, type ConfigOption } from './load.ts'
import { lookOnce } from './look.ts'
import { formatStatus } from './status-text.ts'

const DAEMON_TIMEOUT_MILLISECONDS = 3_000
const MAX_ANSWER_BYTES = 4 * 1024 * 1024

export interface StatusOptions extends ConfigOption {
  readonly json?: boolean
}

/** `status`: a line per host key; from the daemon when it runs, else from what is on disk and what sshd serves. */
export async function status(
  context: CliContext,
  options: StatusOptions,
  signal: AbortSignal,
): Promise<number> {
  const config = await configForVerb(context, options)
  if (config !== null) await context.becomeOwnerOf(config.stateDirectory)
  const document =
    config === null
      ? notEnrolledStatus(context.version.version)
      : await currentStatus(context, config, signal)
  if (options.json === true) context.out(`${JSON.stringify(document, null, 2)}\n`)
  else context.out(formatStatus(document, Date.now() / 1000, context.terminal))
  return EXIT.ok
}

/** The daemon's status document, or one made here when it does not answer. */
export async function currentStatus(
  context: CliContext,
  config: Config,
  signal: AbortSignal,
): Promise<StatusDocument> {
  const fromDaemon = await askDaemon(config.health.listen, signal)
  return fromDaemon ?? (await lookOnce(context, config, true, signal)).status
}

/** @returns null when no daemon answers with a status document */
export async function askDaemon(listen: HealthListen, signal: AbortSignal): Promise<StatusDocument | null> {
  const text = await getFromDaemon(listen, '/status', signal)
  try {
    const document: unknown = JSON.parse(text ?? 'null')
    return isStatusDocument(document) ? document : null
  } catch {
    return null
  }
}

/**
 * Ask the daemon for one of its routes.
 *
 * @returns the body, of at most 4 MiB; null when nobody answers with status 200 within three seconds
 */
export async function getFromDaemon(
  listen: HealthListen,
  path: string,
  signal: AbortSignal,
): Promise<string | null> {
  if (listen.kind === 'none') return null
  const target =
    listen.kind === 'unix' ? { socketPath: listen.path } : { host: listen.host, port: listen.port }
  const limit = AbortSignal.any([signal, AbortSignal.timeout(DAEMON_TIMEOUT_MILLISECONDS)])
  try {
    return await get({ ...target, path, agent: false, signal: limit })
  } catch {
    signal.throwIfAborted()
    return null
  }
}

async function get(options: RequestOptions): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const outgoing = request(options, (response) => {
    const chunks: Buffer[] = []
    let size = 0
    if (response.statusCode !== 200) outgoing.destroy(new Error(`status ${response.statusCode}`))
    response.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > MAX_ANSWER_BYTES) outgoing.destroy(new Error('the answer is too large'))
      chunks.push(chunk)
    })
    response.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')))
    response.on('error', reject)
  })
  outgoing.on('error', reject)
  outgoing.end()
  return promise
}

/** Another program may answer on that port. */
function isStatusDocument(value: unknown): value is StatusDocument {
  return (
    typeof value === 'object' &&
    value !== null &&
    'version' in value &&
    'enrolled' in value &&
    'certificates' in value &&
    Array.isArray(value.certificates)
  )
}
