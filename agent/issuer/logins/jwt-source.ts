import { AgentError } from '../../cert/errors.ts'
import { oneLine } from '../../cert/text.ts'
import { formatTime } from '../../cert/time.ts'
import type { JwtSource } from '../../config/config.ts'
import { runProgram } from '../../host/programs.ts'
import { environmentOfProgram } from '../command-issuer.ts'
import { REDACTED } from '../secrets.ts'
import { readCredential } from './credential-file.ts'
import { expiryOf, looksLikeJwt } from './jwt-claims.ts'
import type { LoginTools } from './login.ts'

/** Enough for a request to a service nearby; the renewal waits for it. */
const COMMAND_MILLISECONDS = 10_000
/** Servers refuse a longer HTTP header, and a longer file is not read. */
const LIMIT_BYTES = 16 * 1024
/** Of its standard error: the last ones, which most likely say why it failed. */
const MOST_LOG_LINES = 5

/** A JWT somewhere in a text: `{"`, `{ ` and `{` at the end of a line, in base64url, and what may follow. */
const JWT_WITHIN = /\be(?:y[A-DI-L]|w[k-r0-3])[\w-]{6,}\.[\w-]{8,}\.[\w-]+/g

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
 * Refuse a JWT that has expired by this host's clock. One that does not say when it expires is accepted.
 *
 * @throws AgentError LOGIN_PLATFORM
 */
export function refuseExpired(
  jwt: string,
  { what, remedy }: { readonly what: string; readonly remedy: string },
  { clock }: Pick<LoginTools, 'clock'>,
): void {
  const expiry = expiryOf(jwt)
  const now = clock.now()
  if (expiry === null || now < expiry) return
  throw unavailable(
    `the ${what} expired at ${formatTime(expiry)}: by this host's clock it is ${formatTime(now)}; ${remedy}`,
  )
}

async function jwtOfCommand(
  command: readonly string[],
  what: string,
  tools: LoginTools,
  signal: AbortSignal,
): Promise<string> {
  const { environment } = tools
  const { HOME: home } = environment
  const { status, failure, stdout, stderr } = await runProgram(command, {
    timeoutMilliseconds: COMMAND_MILLISECONDS,
    leavesNothing: true,
    // One byte more shows that there is too much.
    outputBytes: LIMIT_BYTES + 1,
    environment: { ...environmentOfProgram(environment), ...(home === undefined ? {} : { HOME: home }) },
    signal,
  })
  const output = stdout.trim()
  const isJwt = looksLikeJwt(output)
  // Also one among other things: the program may repeat it in its standard error.
  for (const jwt of isJwt ? [output] : (stdout.match(JWT_WITHIN) ?? [])) addJwt(jwt, tools)
  const program = oneLine(command[0] ?? '')
  const isLogged = logErrors(program, stderr, tools)
  const failed = (flaw: string): AgentError =>
    unavailable(`jwt_command ${flaw}${isLogged ? '; see the log' : ''}`)
  if (failure !== null) throw failed(`failed: ${failure}`)
  if (status !== 0) throw failed(`${program} failed with exit status ${status}`)
  if (!isJwt) {
    throw failed(
      `${program} must print a ${what} (three parts in base64url, separated by dots) and nothing else; it wrote ${shapeOf(stdout)}`,
    )
  }
  const name = `${what} of jwt_command ${program}`
  refuseExpired(output, { what: name, remedy: 'the program must get a new one' }, tools)
  return output
}

/** What a program wrote, without its content: what is no JWT may still be a secret. */
function shapeOf(output: string): string {
  const bytes = Buffer.byteLength(output)
  if (bytes > LIMIT_BYTES) return `more than ${LIMIT_BYTES / 1024} KiB`
  const text = output.trim()
  if (text === '') return 'nothing'
  const lines = text.split('\n').length
  if (lines > 1) return `${lines} lines`
  return `${Buffer.byteLength(text)} bytes${/\s/.test(text) ? ' with spaces between them' : ''}`
}

/** Log the last lines of a program's standard error, without JWTs. @returns whether there was anything to log */
function logErrors(program: string, stderr: string, { log, secrets }: LoginTools): boolean {
  // One line, whose beginning is not known: it may be the middle of a JWT.
  const isPart = Buffer.byteLength(stderr) > LIMIT_BYTES && !stderr.includes('\n')
  const known = isPart ? `one line of more than ${LIMIT_BYTES / 1024} KiB` : stderr
  const all = secrets.redact(known).replaceAll(JWT_WITHIN, REDACTED).split('\n').map(oneLine)
  const lines = all.filter((line) => line !== '')
  for (const line of lines.slice(-MOST_LOG_LINES)) log.info({ program }, line)
  return lines.length > 0
}

function unavailable(message: string): AgentError {
  return new AgentError('LOGIN_PLATFORM', message)
}
