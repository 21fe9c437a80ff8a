import { parseCaKeys, parsePublicKeyLine, type PublicKey, readPublicKey } from '../cert/public-key.ts'
import { tryParse, verifyIssued } from '../cert/verify-issued.ts'
import { failureLine } from '../cli/context.ts'
import { withinLimits } from '../issuer/exchange-process.ts'
import type { DiagnosisQuestion, IssuerFinding } from '../issuer/exchange-protocol.ts'
import type { Clock, Issuer, IssuerFailure } from '../renewal/ports.ts'
import { failure, ok, remedyOf, warning } from './finding.ts'

/** The part of `doctor` that asks a program in the issuer's place. Runs in the exchange only. */
export async function diagnoseCommand(
  issuer: Issuer,
  question: DiagnosisQuestion,
  clock: Clock,
  signal: AbortSignal,
): Promise<IssuerFinding[]> {
  return tryIssuing({ issuer, question, clock, signal, remedyFor: ({ code }) => remedyOf(code) }, null)
}

interface IssuingTrial {
  readonly issuer: Issuer
  readonly question: DiagnosisQuestion
  readonly clock: Clock
  readonly signal: AbortSignal
  readonly remedyFor: (failure: IssuerFailure) => string
}

/** Have a certificate issued and verified for each host key, with the one login. Nothing is installed. */
export async function tryIssuing(
  trial: IssuingTrial,
  hostCas: readonly PublicKey[] | null,
): Promise<IssuerFinding[]> {
  const { pinned, issueFor } = trial.question
  const pinnedKeys = pinned?.keys ?? null
  const trusted = pinnedKeys === null ? hostCas : parseCaKeys(pinnedKeys.join('\n'))
  const findings: IssuerFinding[] = []
  for (const wanted of issueFor) {
    const finding = await issueOne(trial, wanted, trusted)
    findings.push(finding)
    // Most failures are not about this key, so the others would fail too.
    if (finding.status === 'failure') break
  }
  return findings
}

async function issueOne(
  { clock, issuer, question, remedyFor, signal }: IssuingTrial,
  { name, publicKey, inPlace }: DiagnosisQuestion['issueFor'][number],
  trustedCas: readonly PublicKey[] | null,
): Promise<IssuerFinding> {
  const request = { publicKey, hostKey: name, principals: question.principals ?? [] }
  const answer = withinLimits(await issuer.issue(request, signal))
  if (!answer.ok)
    return failure('issue', `${name}: ${failureLine(answer.failure)}`, remedyFor(answer.failure))
  const hostKey = readPublicKey(parsePublicKeyLine(publicKey))
  const requirements = { hostKey, trustedCas, wantedPrincipals: question.principals }
  const before = inPlace === null ? null : tryParse(inPlace)
  const replaced = before?.ok === true ? before.certificate : null
  const verification = verifyIssued(answer.signedKey, requirements, replaced, name, clock.now())
  if (!verification.ok) {
    const { failure: flaw } = verification
    return failure('issue', `${name}: ${failureLine(flaw)}`, remedyOf(flaw.code))
  }
  const { serial, principals } = verification.value.certificate
  const what = `${name}: issued and verified, serial ${serial}, for ${principals.join(', ')}; not installed`
  if (answer.serialNumber === null || String(serial) === answer.serialNumber) return ok('issue', what)
  return warning(
    'issue',
    `${what}; the response has a different serial, ${answer.serialNumber}`,
    'report this to the administrators of the issuer; the certificate itself is valid',
  )
}
