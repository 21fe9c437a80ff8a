import { access, constants } from 'node:fs/promises'
import type { LoadedConfig } from '../../config/load.ts'
import { problemLine } from '../../config/problem.ts'
import { systemCodeOf } from '../../system/one-line.ts'
import { failure, ok, warning, type Finding } from './finding.ts'

/** Whether there is a configuration, and what is wrong with it. */
export async function examineConfiguration(path: string, loaded: LoadedConfig): Promise<Finding[]> {
  switch (loaded.kind) {
    case 'not-enrolled':
      return [
        failure(
          'configuration',
          `this host is not enrolled: there is no ${path}`,
          `write ${path} with issuer.url, issuer.ssh_host_id and auth; config.example.yaml explains each key`,
        ),
      ]
    case 'invalid':
      return Promise.all(
        loaded.problems.map(async (problem) =>
          failure('configuration', problemLine(problem), await remedyFor(problem.file ?? path)),
        ),
      )
    case 'ok':
      return [
        ok('configuration', `${loaded.files.join(', ')}: valid`),
        ...loaded.warnings.map((text) => warning('configuration', text, `see to it in ${path}`)),
      ]
  }
}

/** Who may not read a file cannot say what is wrong in it. */
async function remedyFor(file: string): Promise<string> {
  const code = await access(file, constants.R_OK).then(() => null, systemCodeOf)
  return code === 'EACCES'
    ? `run \`sudo hostcertd doctor\`; or \`chmod a+rX ${file}\`: there are no secrets in it, and the daemon reads it too`
    : `mend it in ${file}; \`hostcertd config validate\` tells whether it is well`
}
