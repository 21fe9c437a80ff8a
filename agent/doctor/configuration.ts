import { access, constants } from 'node:fs/promises'
import { AgentError } from '../cert/errors.ts'
import { systemCodeOf } from '../cert/text.ts'
import { failureLine } from '../cli/context.ts'
import type { LoadedConfig } from '../config/load.ts'
import { problemLine } from '../config/problem.ts'
import { failure, type Finding, ok, warning } from './finding.ts'
import type { Patient } from './patient.ts'

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
        ...loaded.warnings.map((text) => warning('configuration', text, `correct it in ${path}`)),
      ]
  }
}

/** Whether the pinned CAs can be read: without them no certificate passes, and the daemon does not start. */
export async function examinePinnedCas({ host }: Patient): Promise<Finding[]> {
  try {
    await host.pinnedCas.read()
    return []
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    const remedy =
      'write the public key of the host CA into that file, one key a line; then `systemctl restart hostcertd`'
    return [failure('configuration', failureLine(error), remedy)]
  }
}

/** Who may not read a file cannot say what is wrong in it. */
async function remedyFor(file: string): Promise<string> {
  const code = await access(file, constants.R_OK).then(() => null, systemCodeOf)
  return code === 'EACCES'
    ? `run \`sudo hostcertd doctor\`; or \`chmod a+rX ${file}\`: it holds no secrets, and the daemon reads it too`
    : `correct it in ${file}; \`hostcertd config validate\` checks it`
}
