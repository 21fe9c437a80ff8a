import { readdir, readFile, readlink } from 'node:fs/promises'
import { AgentError, messageOf } from '../cert/errors.ts'
import { oneLine } from '../cert/text.ts'
import { type Config, isProxyVariable } from '../config/config.ts'
import { createHostNames, systemClock } from '../host/machine.ts'
import { findProgram } from '../host/programs.ts'
import { makeRuntimeFolder, SshdConfiguration } from '../host/sshd-files.ts'
import { createExchangeClient, type ExchangeClientOptions } from '../issuer/exchange-client.ts'
import { type Journal, openJournal, readJournal } from './journal.ts'
import { reloadConfiguredSshd, reloadUnlessByHand } from './reload.ts'
import { isReadOnly, type Mode, type Person } from './show.ts'
import { lockSshd } from './user-ca-files.ts'
import { type EnrollTools, SSHD_CONFIG } from './wanted.ts'

const FOLDER = '/var/lib/hostcertd-enroll'
const LOCK = `${FOLDER}/lock`
/** For another `enroll` or `unenroll` that is at work, or `ca refresh`, which may wait two minutes for the issuer. */
const LOCK_MILLISECONDS = 180_000
/** Nobody is told of a wait that is shorter than this. */
const TELL_MILLISECONDS = 3_000

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
  const openExchange: EnrollTools['openExchange'] = (issuer, credentials, otherwise) => {
    const proxy = proxiesIn(environment) ?? otherwise
    return createExchangeClient({ ...way, settings: { issuer, log, credentials, proxy }, clock: systemClock })
  }
  return {
    version,
    environment,
    clock: systemClock,
    person,
    hostNames: createHostNames(),
    openExchange,
    untilServed,
    testSshd,
    reloadSshd: reloadConfiguredSshd,
  }
}

/** The real ones, of this host. Dispose of them: unless nothing may be changed, they hold the lock of the journal. */
export async function openTools(
  options: ToolsOptions,
  mode: Mode,
  signal: AbortSignal,
): Promise<EnrollTools & AsyncDisposable> {
  const { person } = options
  if (isReadOnly(mode)) {
    const journal = viewOf(await readJournal(FOLDER))
    return { ...hostTools(options), journal, [Symbol.asyncDispose]: async () => {} }
  }
  const opened = new AbortController()
  const telling = systemClock.sleep(TELL_MILLISECONDS, opened.signal).then(
    async () => {
      const holder = await holderOf(LOCK)
      person.print(`waiting for another hostcertd to finish${holder === null ? '' : `: ${holder}`}`)
    },
    () => {},
  )
  const journal = await openJournal({
    folder: FOLDER,
    lockMilliseconds: LOCK_MILLISECONDS,
    signal,
    performers: {
      // An undoing goes on whatever signal comes.
      reloadSshd: async () => reloadUnlessByHand(new AbortController().signal),
      note: person.print,
      lockSshd: async (until) => lockSshd(until ?? new AbortController().signal),
    },
  })
    .catch(async (error: unknown) => {
      const holder = error instanceof AgentError ? await holderOf(LOCK) : null
      if (holder === null) throw error
      throw new AgentError('STORE_FAILED', `${messageOf(error)}: ${holder}`, { cause: error })
    })
    .finally(() => opened.abort())
  await telling
  return {
    ...hostTools(options),
    journal,
    [Symbol.asyncDispose]: async () => journal[Symbol.asyncDispose](),
  }
}

/** For a call that changes nothing, and so neither takes the lock nor waits for it. */
function viewOf(runs: Journal['runs']): Journal {
  const refuse = (): never => {
    throw new Error('this call may change nothing')
  }
  const refuseLater = async (): Promise<never> => refuse()
  return {
    runs,
    begin: refuse,
    undoUnfinished: refuseLater,
    undoAll: refuseLater,
    adopt: refuseLater,
    setRegistrations: refuseLater,
    [Symbol.asyncDispose]: async () => {},
  }
}

const LONGEST_COMMAND = 200

/**
 * Which process has a file locked with flock(2), by proc_pid_fdinfo(5). Never throws.
 *
 * @returns for people: its number and command; null when none is seen, or only root could see it
 */
export async function holderOf(file: string): Promise<string | null> {
  const names = await readdir('/proc').catch((): string[] => [])
  for (const pid of names.filter((name) => /^\d+$/.test(name))) {
    const process = `/proc/${pid}`
    for (const fd of await readdir(`${process}/fd`).catch((): string[] => [])) {
      if ((await readlink(`${process}/fd/${fd}`).catch(() => '')) !== file) continue
      // One that waits for the lock has the file open too.
      if (!/^lock:.*FLOCK/m.test(await readFile(`${process}/fdinfo/${fd}`, 'utf8').catch(() => ''))) continue
      const command = await readFile(`${process}/cmdline`, 'utf8').catch(() => '')
      const words = oneLine(command.replaceAll('\0', ' ').replace(/^.*\/hostcertd\.js /, 'hostcertd '))
      return `process ${pid}, ${words.slice(0, LONGEST_COMMAND).trim()}`
    }
  }
  return null
}

/**
 * Open the journal for `ca refresh`: `unenroll` does not take back what is just being put in place.
 *
 * @throws AgentError STORE_FAILED when it is not free in time, or an enroll or unenroll is not finished
 */
export async function openFinishedJournal(signal: AbortSignal, folder = FOLDER): Promise<Journal> {
  const journal = await openJournal({ folder, performers: {}, lockMilliseconds: LOCK_MILLISECONDS, signal })
  // Undoing it would put back user CAs that were taken out meanwhile.
  if (journal.runs.every(({ isFinished }) => isFinished)) return journal
  await journal[Symbol.asyncDispose]()
  const message =
    'an enroll or unenroll is not finished: run `hostcertd enroll` or `hostcertd unenroll` first'
  throw new AgentError('STORE_FAILED', message)
}

async function testSshd(signal: AbortSignal): Promise<string | null> {
  const program = await findProgram('sshd')
  if (program === null) throw new AgentError('SSHD_CONFIG_INVALID', 'there is no sshd on this host')
  try {
    await makeRuntimeFolder()
    const check = await new SshdConfiguration(program, SSHD_CONFIG).check(signal)
    return check.kind === 'ok' ? null : check.why
  } catch (error) {
    signal.throwIfAborted()
    return messageOf(error)
  }
}

function proxiesIn(environment: ToolsOptions['environment']): Readonly<Record<string, string>> | undefined {
  const found = Object.entries(environment).flatMap(([name, text]) =>
    isProxyVariable(name) && text !== undefined && text !== '' ? [[name, text] as const] : [],
  )
  return found.length === 0 ? undefined : Object.fromEntries(found)
}
