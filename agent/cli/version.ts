import type { VersionInfo } from '../version.ts'
import { EXIT, type CliContext } from './context.ts'

/** `version`: version, Node, commit. */
export function version(context: CliContext, options: { readonly json?: boolean }): number {
  if (options.json === true) context.out(`${JSON.stringify(context.version, null, 2)}\n`)
  else context.out(`${versionText(context.version)}\n`)
  return EXIT.ok
}

export function versionText({ version: number, node, commit }: VersionInfo): string {
  return `hostcertd ${number} (Node ${node}, commit ${commit ?? 'unknown'})`
}
