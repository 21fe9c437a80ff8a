import { configPathFrom, loadConfig } from '../config/load.ts'
import { EXIT, type CliContext } from './context.ts'
import type { ConfigOption } from './load.ts'

export interface ConfigValidateOptions extends ConfigOption {
  readonly json?: boolean
}

/** `config validate`: every problem, each with its path. */
export async function configValidate(context: CliContext, options: ConfigValidateOptions): Promise<number> {
  const path = configPathFrom(options.config, context.environment)
  const loaded = await loadConfig({ path, environment: context.environment })
  const problems = loaded.kind === 'invalid' ? loaded.problems : []
  const warnings = loaded.kind === 'ok' ? loaded.warnings : []
  if (options.json === true) {
    const enrolled = loaded.kind !== 'not-enrolled'
    const errors = problems.map(({ path: where, message }) => ({
      code: 'CONFIG_INVALID',
      path: where,
      message,
    }))
    context.out(`${JSON.stringify({ valid: problems.length === 0, enrolled, errors, warnings }, null, 2)}\n`)
  } else {
    for (const problem of problems) context.err(`CONFIG_INVALID ${problem.path}: ${problem.message}`)
    for (const warning of warnings) context.err(`warning: ${warning}`)
    if (loaded.kind === 'not-enrolled') context.err(`not enrolled: there is no ${path}`)
    if (loaded.kind === 'ok') context.out(`${loaded.files.join(', ')}: valid\n`)
  }
  return problems.length === 0 ? EXIT.ok : EXIT.config
}
