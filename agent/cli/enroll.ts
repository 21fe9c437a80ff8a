import { AgentError, type ErrorCode } from '../cert/errors.ts'
import type { Deletion } from '../enroll/delete-host.ts'
import type { Unenrolled } from '../enroll/unenroll.ts'
import type { EnrollOptions } from '../enroll/wanted.ts'
import { type CliContext, EXIT, failureLine, linesOf, VerbError } from './context.ts'
import { enrollOptionsOf, type Given, issuerOptionsOf, modeOf } from './enroll-usage.ts'

/** `enroll`: make this host a member. */
export async function enrollVerb(context: CliContext, given: Given, signal: AbortSignal): Promise<number> {
  if (given['fromTemplate'] === true) return enrollAtBootVerb(context, signal)
  const { enroll } = await import('../enroll/enroll.ts')
  const options = enrollOptionsOf(given)
  mustBeRoot()
  await using tools = await context.enrollTools(options.mode, signal)
  mayAsk(options.mode, tools.person.isThere)
  if (given['template'] === true) {
    const { prepareImage } = await import('../enroll/prepare-image.ts')
    const prepared = await prepareImage(options, given['sharedSecret'] === true, tools, signal)
    const { changed, steps, isDone } = prepared
    const nothing = { host_id: null, hostname: null, known_hosts: null }
    if (given['json'] === true) context.out(`${JSON.stringify({ changed, ...nothing, steps }, null, 2)}\n`)
    else if (isDone)
      context.err(changed ? 'each copy of this machine enrolls itself at its first boot' : 'nothing changed')
    return statusOf(context, options.mode, prepared)
  }
  const result = await enroll(options, tools, signal).catch((error: unknown) => {
    throw withAdvice(error)
  })
  const { changed, hostId, hostname, steps, knownHosts } = result
  if (given['json'] === true)
    context.out(
      `${JSON.stringify({ changed, host_id: hostId, hostname, steps, known_hosts: knownHosts[0] ?? null }, null, 2)}\n`,
    )
  else if (result.isDone) {
    context.err(
      changed
        ? `${hostname} is enrolled: sshd presents its certificates, and hostcertd renews them`
        : `${hostname} is enrolled already: nothing changed`,
    )
    if (knownHosts.length > 0) {
      context.err(
        knownHosts.length === 1
          ? 'Clients with this line in their known_hosts connect without a host key question:'
          : 'Clients with these lines in their known_hosts connect without a host key question; the first is for the CA that signs now:',
      )
      context.out(knownHosts.map((line) => `${line}\n`).join(''))
    }
  }
  return statusOf(context, options.mode, result)
}

/** What to do about a failure, in terms of the options of enroll. */
const ADVICE: Readonly<Partial<Record<ErrorCode, string>>> = {
  ISSUER_UNREACHABLE:
    "check --url, and the network of this host with `curl -v`; if a private CA signed the issuer's TLS certificate, add --ca-file FILE",
  ISSUER_TIMEOUT: 'check --url, and that no firewall or proxy drops the connection',
  ISSUER_UNAUTHORIZED:
    'check the options of --auth; after three failures, the issuer locks the login for five minutes',
  ISSUER_FORBIDDEN:
    'at the issuer, grant the identity `issue-host-cert` for this host, `read` for --project, and `create` for --register',
  ISSUER_NOT_FOUND:
    'check --url and --host-id or --project; to register a host that was deleted: --project PROJECT --register',
  CERT_PRINCIPALS_MISMATCH:
    'if this machine is that host, pass its name by --hostname; if not, check --host-id',
  CERT_CA_MISMATCH: 'ask an administrator of the issuer for the fingerprint of the host CA',
  CERT_NOT_YET_VALID: 'check the clock of this host with `timedatectl`',
  CERT_EXPIRED: 'check the clock of this host with `timedatectl`',
  HOST_KEY_UNREADABLE: 'run `ssh-keygen -A` to generate missing host keys',
  SSHD_NOT_SERVING:
    'check that sshd is running (`systemctl status ssh sshd`) and `journalctl -u hostcertd`; if it is only slow, use a longer --wait',
}

/** With a line that says what to do, unless the message names an option itself. */
function withAdvice(error: unknown): unknown {
  if (!(error instanceof AgentError) || / --[a-z]/.test(error.message)) return error
  const advice = ADVICE[error.code]
  return advice === undefined ? error : new VerbError(failureLine(error), advice)
}

/** `enroll --from-template`, as hostcertd-enroll.service runs it. */
async function enrollAtBootVerb(context: CliContext, signal: AbortSignal): Promise<number> {
  mayAsk('yes', false)
  const { enrollAtBoot, nextAttempt } = await import('../enroll/first-boot.ts')
  const { enrollTools, err: log } = context
  const openTools = async (until: AbortSignal) => enrollTools('yes', until)
  const enrolled = await enrollAtBoot({ log, openTools }, signal).catch(async (error: unknown) => {
    throw signal.aborted ? error : new VerbError(...linesOf(error, signal), await nextAttempt())
  })
  if (enrolled !== null) log(`${enrolled.hostname} is enrolled, and sshd serves its certificates`)
  return EXIT.ok
}

/** With `--check`. */
const WOULD_CHANGE = 2

function statusOf(
  { err }: CliContext,
  mode: EnrollOptions['mode'],
  { changed, isDone }: { readonly changed: boolean; readonly isDone: boolean },
): number {
  if (mode === 'check') return changed ? WOULD_CHANGE : EXIT.ok
  if (isDone || mode !== 'ask') return EXIT.ok
  err('nothing on this machine was changed')
  return EXIT.failed
}

function mustBeRoot(): void {
  if (process.geteuid?.() !== 0)
    throw new VerbError('this must be run as root: it writes to /etc/hostcertd and /etc/ssh')
}

/** Without a person there is nobody to ask. */
function mayAsk(mode: EnrollOptions['mode'], isThere: boolean): void {
  if (mode === 'ask' && !isThere)
    throw new VerbError('there is no terminal to ask on: add --yes, or --dry-run to see what would change')
}

/** An earlier call may have been interrupted before it deleted the host. */
const NO_HOST_HERE =
  '; nothing on this machine names a host at an issuer: to delete one, add --url URL and --host-id ID'

/** `unenroll`: take it back. */
export async function unenrollVerb(context: CliContext, given: Given, signal: AbortSignal): Promise<number> {
  const { deleteHost, unenroll } = await import('../enroll/unenroll.ts')
  const mode = modeOf(given)
  const isDeleting = given['deleteHost'] === true
  const options = issuerOptionsOf(given)
  const report = (result: Unenrolled, done: string): number => {
    const { changed, steps, left, isDone } = result
    if (given['json'] === true) context.out(`${JSON.stringify({ changed, steps, left }, null, 2)}\n`)
    else if (isDone && left.length === 0) context.err(done)
    return left.length > 0 ? EXIT.failed : statusOf(context, mode, result)
  }

  if (isDeleting && options.hostId !== null) {
    const { readDeletion } = await import('../enroll/delete-host.ts')
    const tools = await context.issuerTools()
    mayAsk(mode, tools.person.isThere)
    const deletion = await readDeletion(options, [], tools, signal)
    const result = await deleteHost({ mode, deletion }, tools.person, signal)
    return report(result, 'nothing was changed on this machine')
  }
  mustBeRoot()
  await using tools = await context.enrollTools(mode, signal)
  mayAsk(mode, tools.person.isThere)
  let deletion: Deletion | null = null
  if (isDeleting) {
    const { mayHaveHost, readDeletion } = await import('../enroll/delete-host.ts')
    // A second call has nothing to delete any more.
    if (options.url !== null || (await mayHaveHost(tools)))
      deletion = await readDeletion(options, tools.journal.runs, tools, signal)
  }
  const result = await unenroll({ mode, deletion, keepsUserCa: given['keepUserCa'] === true }, tools, signal)
  return report(
    result,
    result.changed
      ? 'what enroll did was taken back'
      : `there is nothing of enroll on this host to take back: nothing changed${isDeleting && deletion === null ? NO_HOST_HERE : ''}`,
  )
}
