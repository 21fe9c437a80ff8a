import type { StatusDocument } from '../renewal/status-document.ts'
import { notEnrolledStatus } from '../renewal/status.ts'
import { type CliContext, configForVerb, type ConfigOption, EXIT, observeOnce } from './context.ts'
import { askDaemon, type Remark, remarksOn } from './daemon-client.ts'
import { formatStatus } from './status-text.ts'

interface StatusOptions extends ConfigOption {
  readonly json?: boolean
}

/** `status`: a line per host key; from the daemon if it runs, else from the files and from what sshd presents. */
export async function status(
  context: CliContext,
  options: StatusOptions,
  signal: AbortSignal,
): Promise<number> {
  const config = await configForVerb(context, options)
  if (config === null) {
    print(context, options, notEnrolledStatus(context.version.version), [])
    return EXIT.ok
  }
  await context.dropPrivileges(config.stateDirectory)
  const answer = await askDaemon(config.health.listen, signal)
  const fromDaemon = answer.kind === 'runs' ? answer.status : null
  const document = fromDaemon ?? (await observeOnce(context, config, true, signal)).status
  print(context, options, document, remarksOn(document, answer, config))
  return EXIT.ok
}

function print(
  context: CliContext,
  { json }: StatusOptions,
  document: StatusDocument,
  remarks: readonly Remark[],
): void {
  if (json === true) context.out(`${JSON.stringify(document, null, 2)}\n`)
  else context.out(formatStatus(document, Date.now() / 1000, context.terminal, remarks))
}
