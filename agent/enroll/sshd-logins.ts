import { parseCaKeys } from '../cert/public-key.ts'
import { isNone, linesOf, type SshdDirective } from '../host/sshd-directives.ts'
import { COPIES_DIRECTORY } from '../host/sshd.ts'
import type { SshdSetup } from './sshd-facts.ts'
import { describe, includes, type Leftovers, type Outcome, readBefore, removing } from './sshd-lines.ts'

/** The part of sshd's configuration that trusts the user CAs. */
export const USER_CA_DROP_IN = '/etc/ssh/sshd_config.d/41-hostcertd-user-ca.conf'
/** The user CAs' keys. */
export const USER_CA_FILE = `${COPIES_DIRECTORY}/user-ca.pub`

/** Nobody who can log in by a user certificate is locked out: sshd uses the first `TrustedUserCAKeys` only. */
export function trusted(setup: SshdSetup, userCa: readonly string[] | null, leftovers: Leftovers): Outcome {
  const { sshd, userCas } = setup
  const ours = userCa === null ? [] : parseCaKeys(userCa.join('\n')).map(({ blob }) => blob)
  /** Whether every login by this line is one by ours, too. Without a key, or without its file, there is none. */
  const losesNobody = ({ value }: SshdDirective): boolean =>
    userCas.get(value)?.every((key) => ours.some((one) => one.equals(key))) === true
  const isOurs = (line: SshdDirective): boolean =>
    losesNobody(line) && (userCas.get(line.value) ?? []).length > 0
  const lines = sshd.written.filter(
    (line) => line.keyword === 'trustedusercakeys' && line.value !== USER_CA_FILE && !isNone(line),
  )
  const others = lines.filter((line) => !leftovers.userCas.includes(line))
  const isFirst = linesOf(others, 'trustedusercakeys').length === 0
  const removed = leftovers.userCas.filter((line) => isFirst && isOurs(line))
  const index = sshd.written.findIndex((line) => !line.inMatch && includes(line, USER_CA_DROP_IN))
  const from = readBefore(sshd.written, USER_CA_DROP_IN, index)
  const notes: string[] = []
  const problems: string[] = []
  for (const line of lines.filter((one) => !removed.includes(one))) {
    const named = `${describe(line)}${makerOf(line)}`
    const isLater = sshd.written.indexOf(line) >= from
    if (userCa === null || line.inMatch || isOurs(line)) notes.push(`${named}: stays`)
    else if (isLater && losesNobody(line)) notes.push(`${named}: stays`)
    else if (isLater)
      problems.push(
        `${named}: its keys are not among the user CAs that hostcertd installs, and sshd would use only those; so logins by it would end: enroll without --user-ca, or remove that line`,
      )
    else notes.push(`${named}: stays; sshd reads it first, so the user CAs of hostcertd have no effect`)
  }
  const step = 'the same user CA is put in place by hostcertd'
  return {
    edits:
      removed.length === 0
        ? []
        : [removing(sshd.file, removed, `${step}: ${removed.map(describe).join(', ')}`)],
    notes,
    problems,
  }
}

const COMMANDS = ['authorizedkeyscommand', 'authorizedprincipalscommand']

/** Who else decides about logins. */
export function logins({ sshd }: SshdSetup): Outcome {
  const lines = sshd.written.filter((line) => COMMANDS.includes(line.keyword) && !isNone(line))
  return { notes: lines.map((line) => `${describe(line)}${makerOf(line)}: stays`) }
}

/** Who writes such lines, by the paths of their programs and keys. */
const MAKERS: readonly (readonly [RegExp, string])[] = [
  [/google_authorized_|oslogin/, 'the guest agent of Google Cloud (OS Login)'],
  [/aad_certhandler|aadsshcert/, 'the Microsoft Entra ID login of Azure'],
  [/ec2-instance-connect|eic_/, 'EC2 Instance Connect'],
  [/opkssh/, 'opkssh'],
  [/sss_ssh_authorizedkeys/, 'SSSD'],
  [/userdbctl/, 'systemd-userdbd'],
  [/teleport|tbot/, 'Teleport'],
  [/infisical/, '`infisical ssh add-host`'],
  [/\/step|ssh_user_key\.pub/, 'step'],
  [/trusted-user-ca-keys\.pem/, 'a set-up for Vault'],
]

function makerOf({ value }: SshdDirective): string {
  const [, maker] = MAKERS.find(([pattern]) => pattern.test(value)) ?? []
  return maker === undefined ? '' : ` (most likely of ${maker})`
}
