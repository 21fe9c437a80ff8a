import { findProgram } from '../../adapters/programs.ts'
import type { Config } from '../../config/config.ts'
import { failure, ok, warning, type Finding } from './finding.ts'

/** Programs that the daemon runs, and what a package is called that has them on Debian and elsewhere. */
const NEEDED = [
  { program: 'flock', why: 'for the lock between `run` and `renew`', packages: 'util-linux' },
  { program: 'ssh', why: 'to see what sshd presents', packages: 'openssh-client (openssh-clients)' },
] as const

/** Whether the programs are there that the daemon needs, and sshd. */
export async function examinePrograms({ sshd: { address } }: Config): Promise<Finding[]> {
  const findings: Finding[] = []
  const present: string[] = []
  for (const { program, why, packages } of NEEDED) {
    if (program === 'ssh' && address === 'none') continue
    if ((await findProgram(program)) !== null) present.push(program)
    else {
      const message = `${program} is missing, which is needed ${why}`
      findings.push(failure('programs', message, `install the package ${packages}`))
    }
  }
  if ((await findProgram('sshd')) !== null) present.push('sshd')
  else {
    const remedy = 'install the package openssh-server, if sshd is meant to run here'
    findings.push(warning('programs', 'there is no sshd on this host', remedy))
  }
  if (present.length > 0) findings.unshift(ok('programs', `${present.join(', ')}: found`))
  return findings
}
