import { AgentError, messageOf } from '../../cert/errors.ts'
import { oneLine } from '../../cert/text.ts'
import { parseObject } from '../answer.ts'
import { authorityOf, openDirectly, type RawReply, sendBy } from '../http.ts'
import type { LoginTools } from './login.ts'

/** A metadata service is on the same machine, or next to it. */
const LIMIT_MILLISECONDS = 2000

/** Of a token or a key; the redaction of a longer one would take too much memory. */
const LONGEST_TEXT = 16 * 1024

export const BUSY = 'the service is busy; hostcertd tries again'

interface PlatformQuestion {
  readonly url: URL
  readonly method?: 'GET' | 'PUT'
  readonly headers: Readonly<Record<string, string>>
  /** `the metadata service of AWS`. */
  readonly service: string
  /** What to look at where nothing answers. */
  readonly remedy: string
}

/**
 * Ask a service of the host's platform: plain http, never through a proxy, within two seconds and 64 KiB.
 *
 * @returns an answer of any status
 * @throws AgentError LOGIN_PLATFORM; the signal's reason
 */
export async function askPlatform(
  { url, method = 'GET', headers, service, remedy }: PlatformQuestion,
  signal: AbortSignal,
): Promise<RawReply> {
  const timeout = AbortSignal.timeout(LIMIT_MILLISECONDS)
  const limit = AbortSignal.any([signal, timeout])
  let reply: RawReply
  try {
    reply = await sendBy(openDirectly(limit), { url, method, headers, body: null }, limit)
  } catch (error) {
    signal.throwIfAborted()
    const why = timeout.aborted
      ? `no answer within ${LIMIT_MILLISECONDS / 1000} s`
      : oneLine(messageOf(error))
    const message = `cannot reach ${service} at ${authorityOf(url)}: ${why}; ${remedy}`
    throw new AgentError('LOGIN_PLATFORM', message, { cause: error })
  }
  if (reply.complete) return reply
  throw new AgentError('LOGIN_PLATFORM', `${service} at ${authorityOf(url)} answered with more than 64 KiB`)
}

/** The address of a platform's service; a test's on loopback takes its place. */
export function platformUrl(address: string, { environment }: Pick<LoginTools, 'environment'>): URL {
  const url = new URL(address)
  const given = environment['HOSTCERTD_TEST_METADATA'] ?? ''
  return /^http:\/\/127\.0\.0\.1:\d+$/.test(given) ? new URL(url.pathname + url.search, given) : url
}

/**
 * The texts of a JSON answer.
 *
 * @param names of the fields, each of which has to be there
 * @param service as in {@link askPlatform}
 * @throws AgentError LOGIN_PLATFORM
 */
export function textsIn<const Name extends string>(
  text: string,
  names: readonly Name[],
  service: string,
): Readonly<Record<Name, string>> {
  const document = parseObject(text)
  const found = names.map((name) => {
    const value = document?.[name]
    if (typeof value === 'string' && value !== '' && value.length <= LONGEST_TEXT)
      return [name, value] as const
    throw new AgentError('LOGIN_PLATFORM', `${service} answered without a usable ${name}`)
  })
  return Object.fromEntries(found) as Record<Name, string>
}

/**
 * The error of a platform that refuses.
 *
 * @param what `the metadata service of Azure gives no token`
 * @param remedies by status, where the platform documents what it means
 */
export function platformRefusal(
  what: string,
  reply: RawReply,
  remedies: Readonly<Record<number, string>>,
  tools: Pick<LoginTools, 'secrets'>,
): AgentError {
  const { status } = reply
  const remedy = remedies[status] ?? (status === 429 || status >= 500 ? BUSY : null)
  const message = `${what} (${refusalOf(reply, tools)})${remedy === null ? '' : `; ${remedy}`}`
  return new AgentError('LOGIN_PLATFORM', message)
}

/** What a platform says about a refusal, for a message: in one line, cut, without secrets. */
export function refusalOf({ status, text }: RawReply, { secrets }: Pick<LoginTools, 'secrets'>): string {
  const words = oneLine(secrets.redact(text))
  return words === '' || words.startsWith('<') ? String(status) : `${status}: ${words}`
}
