import { configPathFrom } from '../config/load.ts'
import { type Problem, problemLine } from '../config/problem.ts'
import { canRead, EXCHANGE_USER, userNamed, whyDenied } from '../host/file-access.ts'
import {
  type CliContext,
  type ConfigOption,
  EXIT,
  notEnrolledLine,
  readConfig,
  readConfigAsOwner,
} from './context.ts'

interface ConfigValidateOptions extends ConfigOption {
  readonly json?: boolean
}

/** `config validate`: every problem, each with its path. */
export async function configValidate(
  context: CliContext,
  options: ConfigValidateOptions,
  signal: AbortSignal,
): Promise<number> {
  const ofExchange = await unreadableForExchange(context, options, signal)
  const { path, loaded } = await readConfigAsOwner(context, options)
  const own = loaded.kind === 'invalid' ? loaded.problems : []
  const reported = new Set(own.map((problem) => problem.path))
  const problems = [...own, ...ofExchange.filter((problem) => !reported.has(problem.path))]
  const warnings = loaded.kind === 'invalid' ? [] : loaded.warnings
  if (options.json === true) {
    const errors = problems.map(({ path: where, message, file }) => ({
      code: 'CONFIG_INVALID',
      path: where,
      message,
      file: file ?? null,
    }))
    const enrolled = loaded.kind !== 'not-enrolled'
    const valid = enrolled ? problems.length === 0 : null
    context.out(`${JSON.stringify({ valid, enrolled, errors, warnings }, null, 2)}\n`)
  } else {
    for (const problem of problems) context.out(`CONFIG_INVALID: ${problemLine(problem)}\n`)
    for (const warning of warnings) context.err(`warning: ${warning}`)
    if (loaded.kind === 'not-enrolled') context.out(`${notEnrolledLine(path)}\n`)
    if (loaded.kind === 'ok' && problems.length === 0) context.out(`${loaded.files.join(', ')}: valid\n`)
  }
  return problems.length === 0 ? EXIT.ok : EXIT.config
}

/** For root: files that the exchange of the packaged unit, a user of its own, cannot read, as a strict umask makes them. */
async function unreadableForExchange(
  context: CliContext,
  options: ConfigOption,
  signal: AbortSignal,
): Promise<Problem[]> {
  if (process.geteuid?.() !== 0) return []
  const { path, loaded } = await readConfig(context, options)
  // The unit uses this file, and no other.
  if (loaded.kind !== 'ok' || path !== configPathFrom(undefined, {})) return []
  const user = await userNamed(EXCHANGE_USER, signal)
  if (user === null) return []
  const { issuer } = loaded.config
  const caFile = issuer.kind === 'http' ? issuer.caFile : null
  const wanted = loaded.files.map((file) => ({ where: file, file }))
  if (caFile !== null) wanted.push({ where: 'issuer.ca_file', file: caFile })
  const problems: Problem[] = []
  for (const { where, file } of wanted) {
    const denied = await whyDenied(file, user, 'read')
    if (denied === null) continue
    // Owners and modes are not all: an access list may permit it.
    if (!(await canRead(EXCHANGE_USER, file, signal)))
      problems.push({ path: where, message: `the user ${EXCHANGE_USER} cannot read it: ${denied}` })
  }
  return problems
}
