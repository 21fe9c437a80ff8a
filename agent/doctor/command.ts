import { reasonOf } from '../cert/text.ts'
import { factsOf, whyDenied } from '../host/file-access.ts'
import { failure, type Finding, ok, type Patient, skipped } from './finding.ts'

/** `issuer.command`: whether the program is there, and the exchange's user may run it. Only issuing shows more. */
export async function examineCommand(patient: Patient): Promise<Finding[]> {
  const { issuer } = patient.config
  if (issuer.kind !== 'command') return []
  const steps = ['credentials', 'name', 'tcp', 'tls', 'clock', 'login', 'permission'] as const
  const rest = steps.map((step) => skipped(step, 'does not apply: issuer.command signs the certificates'))
  return [...rest, await examineProgram(issuer.command[0] ?? '', patient)]
}

async function examineProgram(program: string, { daemonUser, exchangeUser }: Patient): Promise<Finding> {
  const user = exchangeUser ?? daemonUser
  const install = `install the program there (\`chmod 755 ${program}\`), or correct issuer.command`
  try {
    const { isExecutable } = await factsOf(program)
    if (!isExecutable)
      return failure('issuer', `${program} (issuer.command) is not an executable file`, install)
  } catch (error) {
    return failure('issuer', `${program} (issuer.command): ${reasonOf(error)}`, install)
  }
  // For a script reading is needed too; of a program it is the usual mode.
  const denied = await whyDenied(program, user, 'read')
  if (denied !== null)
    return failure('issuer', `${program} runs as user ${user.uid}, which cannot read it: ${denied}`, install)
  return ok('issuer', `${program} signs the certificates; test it with \`hostcertd doctor --issue\``)
}
