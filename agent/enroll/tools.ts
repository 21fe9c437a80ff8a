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

/** The real ones, of this host. Dispose of them: they hold the lock of the journal. */
export async function openTools(
  { version, environment, person, log, untilServed, ...way }: ToolsOptions,
  signal: AbortSignal,
): Promise<EnrollTools & AsyncDisposable> {
  const proxy = proxiesIn(environment)
  const openExchange: EnrollTools['openExchange'] = (issuer, credentials) =>
    createExchangeClient({ ...way, settings: { issuer, log, credentials, proxy }, clock: systemClock })
  const journal = await openJournal({
    folder: FOLDER,
    lockMilliseconds: LOCK_MILLISECONDS,
    signal,
    performers: {
      // unenroll does it by its own option, and enroll keeps what it registered.
      deleteHost: async () => {},
    },
  })
  return {
    version,
    environment,
    clock: systemClock,
    person,
    journal,
    hostNames: createHostNames(),
    openExchange,
    untilServed,
    testSshd,
    reloadSshd: async (stop) => {
      const outcome = await createSshd({ reloadCommand: null }).reload(stop)
      return outcome.kind === 'failed' ? outcome.failure.message : null
    },
    [Symbol.asyncDispose]: async () => journal[Symbol.asyncDispose](),
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
