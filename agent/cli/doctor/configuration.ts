import type { LoadedConfig } from '../../config/load.ts'
import { problemLine } from '../../config/problem.ts'
import { failure, ok, warning, type Finding } from './finding.ts'

/** Whether there is a configuration, and what is wrong with it. */
export function examineConfiguration(path: string, loaded: LoadedConfig): Finding[] {
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
      return loaded.problems.map((problem) =>
        failure(
          'configuration',
          problemLine(problem),
          `mend it in ${problem.file ?? path}; \`hostcertd config validate\` tells whether it is well`,
        ),
      )
    case 'ok':
      return [
        ok('configuration', `${loaded.files.join(', ')}: valid`),
        ...loaded.warnings.map((text) => warning('configuration', text, `see to it in ${path}`)),
      ]
  }
}
