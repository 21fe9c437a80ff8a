import type { Config } from '../config/config.ts'
import { AgentError } from '../core/errors.ts'
import type { StatusDocument } from '../core/status-document.ts'
import { Attempts } from '../renewal/attempts.ts'
import { askSshd } from '../renewal/ask-sshd.ts'
import type { Host } from '../renewal/host.ts'
import { judgeNow, type HostKeyView } from '../renewal/judge.ts'
import { isUnreadable, observe } from '../renewal/observe.ts'
import { statusOf } from '../renewal/status.ts'
import type { CliContext } from './context.ts'

/** What a look without the daemon shows. */
export interface Look {
  readonly host: Host
  readonly attempts: Attempts
  readonly views: readonly HostKeyView[]
  readonly status: StatusDocument
}

/**
 * Look at host keys, certificates and, when asked to, at what sshd serves. Changes nothing, needs no daemon.
 *
 * @throws AgentError CONFIG_INVALID when the pinned CAs cannot be read
 */
export async function lookOnce(
  context: CliContext,
  config: Config,
  askServed: boolean,
  signal: AbortSignal,
): Promise<Look> {
  const host = context.composeHost(config)
  const attempts = new Attempts(host.records, host.clock)
  await attempts.load()
  const facts = await observe(host)
  if (isUnreadable(facts.pinned)) throw new AgentError(facts.pinned.code, facts.pinned.message)
  if (askServed) await askSshd(host, attempts, judgeNow(host, attempts.record, facts), signal)
  const views = judgeNow(host, attempts.record, facts)
  const identity = { version: context.version.version, issuerUrl: config.issuer.url }
  return { host, attempts, views, status: statusOf(identity, views, attempts.record, host.issuer.health()) }
}
