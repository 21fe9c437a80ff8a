import { EXIT, type CliContext } from './context.ts'

/** `version`: version, Node, commit. */
export function version(context: CliContext, options: { readonly json?: boolean }): number {
  const { version: number, node, commit } = context.version
  if (options.json === true) context.out(`${JSON.stringify(context.version, null, 2)}\n`)
  else context.out(`hostcertd ${number} (Node ${node}, commit ${commit ?? 'unknown'})\n`)
  return EXIT.ok
}
