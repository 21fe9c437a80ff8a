import { failureLine } from '../cli/context.ts'
import { attempt } from '../renewal/issue.ts'
import { type CertifiableView, type HostKeyView, isCertifiable } from '../renewal/judge.ts'
import type { Facts } from '../renewal/observe.ts'
import { waitOf } from '../renewal/waits.ts'
import { failure, type Finding, ok, remedyOf, skipped } from './finding.ts'
import { issuerRemedy } from './issuer-steps.ts'
import type { Patient } from './patient.ts'

/**
 * Have a certificate issued and verified for each host key, with the token of the one login. Nothing is written, not
 * even that it was tried; neither is the lock taken, which would have to be made.
 */
export async function examineIssue(
  patient: Patient,
  facts: Facts,
  views: readonly HostKeyView[],
): Promise<Finding[]> {
  const keys = views.filter(isCertifiable)
  if (keys.length === 0) return [skipped('issue', 'there is no host key to issue for')]
  const findings: Finding[] = []
  for (const view of keys) {
    const finding = await issueOne(patient, facts, view)
    findings.push(finding)
    // What concerns the issuer as a whole concerns the others too.
    if (finding.status !== 'ok') break
  }
  return findings
}

async function issueOne(patient: Patient, facts: Facts, view: CertifiableView): Promise<Finding> {
  const { attempts, host, probe, signal } = patient
  const wait = waitOf(attempts, view.subject.identity, true)
  if (wait !== null) {
    const seconds = Math.ceil(wait.until - host.clock.now())
    return skipped('issue', `the issuer asked to wait ${seconds} s more (${wait.code})`)
  }
  const result = await attempt({ ...host, issuer: probe.issuer }, attempts, facts, view, signal)
  switch (result.kind) {
    case 'verified': {
      const { serial, principals } = result.value.certificate
      const what = `serial ${serial}, for ${principals.join(', ')}`
      return ok('issue', `${view.name}: issued and verified, ${what}; not installed`)
    }
    case 'issuer-failed':
      return failure(
        'issue',
        `${view.name}: ${failureLine(result.failure)}`,
        issuerRemedy(result.failure, patient),
      )
    case 'rejected':
      return failure('issue', `${view.name}: ${failureLine(result.failure)}`, remedyOf(result.failure.code))
    case 'key-changed':
      return skipped('issue', `${view.name}: the host key was replaced during the request`)
  }
}
