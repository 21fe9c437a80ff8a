import { AgentError } from '../../cert/errors.ts'
import { quoteUpTo } from '../../cert/text.ts'
import { formatTime } from '../../cert/time.ts'
import type { JwtSource } from '../../config/config.ts'
import { runProgram } from '../../host/programs.ts'
import { readCredential } from './credential-file.ts'
import { expiryOf, looksLikeJwt } from './jwt-claims.ts'
import type { LoginTools } from './login.ts'

/** Enough for a request to a service nearby; the renewal waits for it. */
const COMMAND_MILLISECONDS = 10_000
/** An HTTP header of more is refused anyway; a file of more is not read either. */
const LIMIT_BYTES = 16 * 1024
const LONGEST_LINE_CHARACTERS = 200

/** What the program gets of our environment. */
const VARIABLES = /^(?:PATH|LANG|HOME|CREDENTIALS_DIRECTORY|(?:HTTPS?|ALL|NO)_PROXY|(?:https?|all|no)_proxy)$/

/** A JWT somewhere in a text: a JSON object in base64url begins so. */
const JWT_WITHIN = /eyJ[\w-]+\.[\w-]+\.[\w-]+/g

/**
 * The JWT of `jwt_file` or `jwt_command`, now. It is a secret from then on.
 *
 * @param what its name in messages: `JWT`
 * @throws AgentError CREDENTIAL_UNREADABLE for a file that cannot be read; LOGIN_PLATFORM when there is no JWT in it, the
 *   program gives none, or it has expired; the signal's reason
 */
export async function jwtFrom(
  source: JwtSource,
  what: string,
  tools: LoginTools,
  signal: AbortSignal,
): Promise<string> {
  if ('command' in source) return jwtOfCommand(source.command, what, tools, signal)
  const { file } = source
  const text = (await readCredential(file, what, tools.readFile)).trim()
  addJwt(text, tools)
  if (!looksLikeJwt(text)) {
    throw unavailable(`${file} does not hold a ${what}: three parts in base64url, separated by dots`)
  }
  refuseExpired(
    text,
    { what: `${what} in ${file}`, remedy: 'the program that writes the file must replace it' },
    tools,
  )
  return text
}

/** Nothing that leaves the process may hold this JWT from now on, nor its signature. */
export function addJwt(jwt: string, { secrets }: Pick<LoginTools, 'secrets'>): void {
  secrets.add(jwt)
  secrets.add(jwt.split('.')[2] ?? '')
}

/**
 * Refuse a JWT that has expired by our clock. One that does not say when it expires is accepted.
 *
 * @throws AgentError LOGIN_PLATFORM
 */
export function refuseExpired(
  jwt: string,
  { what, remedy }: { readonly what: string; readonly remedy: string },
  { clock }: Pick<LoginTools, 'clock'>,
): void {
  const expiry = expiryOf(jwt)
  if (expiry === null || clock.now() < expiry) return
  throw unavailable(`the ${what} expired at ${formatTime(expiry)}; ${remedy}`)
}

async function jwtOfCommand(
  command: readonly string[],
  what: string,
  tools: LoginTools,
  signal: AbortSignal,
): Promise<string> {
  const result = await runProgram(command, {
    timeoutMilliseconds: COMMAND_MILLISECONDS,
    ownGroup: true,
    // One byte more shows that there is too much.
    outputBytes: LIMIT_BYTES + 1,
    environment: environmentOf(tools.environment),
    signal,
  })
  const { status, failure, stdout, stderr } = result
  const output = stdout.trim()
  for (const word of output.split(/\s+/)) addJwt(word, tools)
  for (const [jwt] of stderr.matchAll(JWT_WITHIN)) addJwt(jwt, tools)
  const program = `jwt_command ${quoteUpTo(LONGEST_LINE_CHARACTERS, command[0] ?? '').slice(1, -1)}`
  const failed = (flaw: string): AgentError => unavailable(`${program} ${flaw}${lastLineOf(stderr, tools)}`)
  if (failure !== null) throw unavailable(`jwt_command failed: ${failure}${lastLineOf(stderr, tools)}`)
  if (status !== 0) throw failed(`failed with exit status ${status}`)
  if (output === '') throw failed(`wrote no ${what} to its standard output`)
  if (Buffer.byteLength(stdout) > LIMIT_BYTES) throw failed(`wrote more than ${LIMIT_BYTES / 1024} KiB`)
  if (/\s/.test(output)) throw failed(`wrote more than one word; expected a ${what} and nothing else`)
  if (!looksLikeJwt(output)) {
    throw failed(`wrote something that is not a ${what}: three parts in base64url, separated by dots`)
  }
  refuseExpired(output, { what: `${what} of ${program}`, remedy: 'the program must get a new one' }, tools)
  return output
}

function environmentOf(all: LoginTools['environment']): Record<string, string> {
  return Object.fromEntries(
    Object.entries(all).flatMap(([name, value]) =>
      value !== undefined && VARIABLES.test(name) ? [[name, value]] : [],
    ),
  )
}

/** What the program said last to its standard error, behind a colon; empty if it said nothing. */
function lastLineOf(stderr: string, { secrets }: Pick<LoginTools, 'secrets'>): string {
  const line = secrets.redact(stderr).trim().split('\n').at(-1)?.trim() ?? ''
  return line === '' ? '' : `: ${quoteUpTo(LONGEST_LINE_CHARACTERS, line)}`
}

function unavailable(message: string): AgentError {
  return new AgentError('LOGIN_PLATFORM', message)
}
