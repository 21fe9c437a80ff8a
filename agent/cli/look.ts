import type { Config } from '../config/config.ts'
import type { StatusDocument } from '../core/status-document.ts'
import { Attempts } from '../renewal/attempts.ts'
import { isCertifiable, observe, type HostKeyView } from '../renewal/observe.ts'
import { NOTHING_KNOWN } from '../renewal/served-knowledge.ts'
import { askSshd } from '../renewal/ask-sshd.ts'
import type { Host } from '../renewal/settings.ts'
import { statusOf } from '../renewal/status.ts'
import { knownCas } from '../renewal/trusted-cas.ts'
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
  const cas = await knownCas(host, attempts)
  let knowledge = NOTHING_KNOWN
  let views = await observe(host, attempts, knowledge, cas)
  if (askServed) {
    knowledge = await askSshd(host, attempts, views.filter(isCertifiable), knowledge, false, signal)
    views = await observe(host, attempts, knowledge, cas)
  }
  const identity = { version: context.version.version, issuerUrl: config.issuer.url }
  return {
    host,
    attempts,
    views,
    status: statusOf(identity, views, attempts, knowledge, host.issuer.health()),
  }
}
