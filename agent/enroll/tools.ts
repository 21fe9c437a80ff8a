import { AgentError, messageOf } from '../cert/errors.ts'
import type { Config } from '../config/config.ts'
import { createHostNames, systemClock } from '../host/machine.ts'
import { findProgram } from '../host/programs.ts'
import { makeRuntimeFolder, SshdConfiguration } from '../host/sshd-files.ts'
import { createSshd } from '../host/sshd.ts'
import { createExchangeClient, type ExchangeClientOptions } from '../issuer/exchange-client.ts'
import { openJournal } from './journal.ts'
import type { Person } from './show.ts'
import type { EnrollTools } from './wanted.ts'

const FOLDER = '/var/lib/hostcertd-enroll'
const SSHD_CONFIG = '/etc/ssh/sshd_config'
/** For another `enroll` or `unenroll` that is at work. */
const LOCK_MILLISECONDS = 60_000
/** The lock is free at once, as a rule. */
const TELL_MILLISECONDS = 3_000
/** A little more than the minute over which the root helper limits reloads. */
const LONGEST_RELOAD_SECONDS = 90

/** What the verb gives to it. */
export interface ToolsOptions extends Pick<
  ExchangeClientOptions,
  'program' | 'socket' | 'mayBeChild' | 'metrics'
> {
  readonly version: string
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly person: Person
  readonly log: Config['log']
  readonly untilServed: EnrollTools['untilServed']
}

/** The real ones, without the journal: they hold nothing and have touched nothing. */
export function hostTools({
  version,
  environment,
  person,
  log,
  untilServed,
  ...way
}: ToolsOptions): Omit<EnrollTools, 'journal'> {
  const proxy = proxiesIn(environment)
  const openExchange: EnrollTools['openExchange'] = (issuer, credentials) =>
    createExchangeClient({ ...way, settings: { issuer, log, credentials, proxy }, clock: systemClock })
  return {
    version,
    environment,
    clock: systemClock,
    person,
    hostNames: createHostNames(),
    openExchange,
    untilServed,
    testSshd,
  }
}

/** The real ones, of this host. Dispose of them: they hold the lock of the journal. */
export async function openTools(
  options: ToolsOptions,
  signal: AbortSignal,
): Promise<EnrollTools & AsyncDisposable> {
  const { person } = options
  const opened = new AbortController()
  const telling = systemClock.sleep(TELL_MILLISECONDS, opened.signal).then(
    () => person.tell('waiting for another enroll or unenroll to finish'),
    () => {},
  )
  const journal = await openJournal({
    folder: FOLDER,
    lockMilliseconds: LOCK_MILLISECONDS,
    signal,
    performers: {
      // An undoing goes on whatever signal comes.
      reloadSshd: async () => reloadSshd(new AbortController().signal),
      // unenroll does it by its own option, and enroll keeps what it registered.
      deleteHost: async () => {},
    },
  }).finally(() => opened.abort())
  await telling
  return {
    ...hostTools(options),
    journal,
    [Symbol.asyncDispose]: async () => journal[Symbol.asyncDispose](),
  }
}

/** By the root helper, which tests the configuration first; what it is too busy for is waited for. */
async function reloadSshd(signal: AbortSignal): Promise<string | null> {
  const sshd = createSshd({ reloadCommand: null })
  const until = systemClock.uptime() + LONGEST_RELOAD_SECONDS
  for (;;) {
    const outcome = await sshd.reload(signal)
    if (outcome.kind === 'failed') return outcome.failure.message
    if (outcome.kind === 'done') return null
    if (systemClock.uptime() + outcome.retrySeconds > until) return 'it was reloaded too often just now'
    await systemClock.sleep(outcome.retrySeconds * 1000, signal)
  }
}

async function testSshd(signal: AbortSignal): Promise<string | null> {
  const program = await findProgram('sshd')
  if (program === null) throw new AgentError('SSHD_CONFIG_INVALID', 'there is no sshd on this host')
  try {
    await makeRuntimeFolder()
    const check = await new SshdConfiguration({ file: SSHD_CONFIG, program }).check(signal)
    return check.kind === 'ok' ? null : check.why
  } catch (error) {
    signal.throwIfAborted()
    return messageOf(error)
  }
}

const PROXY = /^(?:https?|all|no)_proxy$/i

function proxiesIn(environment: ToolsOptions['environment']): Readonly<Record<string, string>> | undefined {
  const found = Object.entries(environment).flatMap(([name, text]) =>
    PROXY.test(name) && text !== undefined && text !== '' ? [[name, text] as const] : [],
  )
  return found.length === 0 ? undefined : Object.fromEntries(found)
}
