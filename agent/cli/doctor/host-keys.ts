import { factsOf } from '../../adapters/file-access.ts'
import type { HostKeyView } from '../../renewal/observe.ts'
import { failureLine } from '../verb-error.ts'
import { failure, ok, skipped, warning, type Finding } from './finding.ts'
import type { Patient } from './patient.ts'

/** Which host keys there are, and which of them can be signed. */
export async function examineHostKeys(
  { config }: Patient,
  views: readonly HostKeyView[],
): Promise<Finding[]> {
  if (views.length === 0) {
    const remedy = 'make them: `ssh-keygen -A`; if they lie elsewhere, set host_keys'
    return [failure('host-keys', `no host key matches ${config.hostKeys.join(', ')}`, remedy)]
  }
  const findings: Finding[] = []
  for (const { file } of views) {
    const { content, path } = file
    const half = path.slice(0, -'.pub'.length)
    switch (content.kind) {
      case 'key': {
        const hasPrivateHalf = (await factsOf(half).catch(() => null)) !== null
        const what = `${path}: ${content.key.type} ${content.key.fingerprint}`
        findings.push(
          hasPrivateHalf
            ? ok('host-keys', what)
            : warning(
                'host-keys',
                `${what}, but there is no ${half}`,
                `remove ${path}, or make the pair anew: \`ssh-keygen -A\``,
              ),
        )
        break
      }
      case 'unsupported':
        findings.push(skipped('host-keys', `${content.failure.message}; it is left alone`))
        break
      case 'shadowed':
        findings.push(
          warning(
            'host-keys',
            `${path} is left alone: ${content.by} has the same file name`,
            'name each file once in host_keys',
          ),
        )
        break
      case 'unreadable':
        findings.push(
          failure(
            'host-keys',
            failureLine(content.failure),
            `write the public half anew: \`ssh-keygen -y -f ${half} > ${path} && chmod 644 ${path}\``,
          ),
        )
    }
  }
  if (
    !views.some(({ subject }) => subject !== null) &&
    !findings.some(({ status }) => status === 'failure')
  ) {
    findings.push(
      failure('host-keys', 'the issuer signs none of them', 'make one that it signs: `ssh-keygen -A`'),
    )
  }
  return findings
}
