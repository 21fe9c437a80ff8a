import { problemLine } from '../config/problem.ts'
import { EXIT, type CliContext } from './context.ts'
import { notEnrolledLine, readConfigAsOwner, type ConfigOption } from './load.ts'

export interface ConfigValidateOptions extends ConfigOption {
  readonly json?: boolean
}

/** `config validate`: every problem, each with its path. */
export async function configValidate(context: CliContext, options: ConfigValidateOptions): Promise<number> {
  const { path, loaded } = await readConfigAsOwner(context, options)
  const problems = loaded.kind === 'invalid' ? loaded.problems : []
  const warnings = loaded.kind === 'ok' ? loaded.warnings : []
  if (options.json === true) {
    const errors = problems.map(({ path: where, message, file }) => ({
      code: 'CONFIG_INVALID',
      path: where,
      message,
      file: file ?? null,
    }))
    const enrolled = loaded.kind !== 'not-enrolled'
    context.out(`${JSON.stringify({ valid: problems.length === 0, enrolled, errors, warnings }, null, 2)}\n`)
  } else {
    for (const problem of problems) context.err(`CONFIG_INVALID: ${problemLine(problem)}`)
    for (const warning of warnings) context.err(`warning: ${warning}`)
    if (loaded.kind === 'not-enrolled') context.err(notEnrolledLine(path))
    if (loaded.kind === 'ok') context.out(`${loaded.files.join(', ')}: valid\n`)
  }
  return problems.length === 0 ? EXIT.ok : EXIT.config
}
