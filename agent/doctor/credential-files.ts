import { dirname, join } from 'node:path'
import { reasonOf, systemCodeOf } from '../cert/text.ts'
import { CREDENTIAL_STORES } from '../config/auth-section.ts'
import { factsOf, type User, whyDenied, type FileFacts } from '../host/file-access.ts'
import { readCredentialFile } from '../issuer/logins/credential-file.ts'
import { failure, ok, unknown, warning, type Finding } from './finding.ts'
import type { Patient } from './patient.ts'

interface Credential {
  /** As in `the client secret`. */
  readonly what: string
  readonly path: string
}

/** Bits of a mode that are anybody's. */
const OTHERS = 0o007

/** Each credential file: there, of the right modes, with one line in it that the daemon can read. */
export async function examineCredentials(patient: Patient): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const credential of credentialsOf(patient)) findings.push(await examine(credential, patient))
  return findings
}

function credentialsOf({ config: { issuer } }: Patient): Credential[] {
  if (issuer.kind === 'command') return []
  const { auth } = issuer
  switch (auth.method) {
    case 'universal-auth':
      return [
        ...('file' in auth.clientId ? [{ what: 'client id', path: auth.clientId.file }] : []),
        { what: 'client secret', path: auth.clientSecretFile },
      ]
    case 'token':
      return [{ what: 'access token', path: auth.tokenFile }]
  }
}

async function examine({ what, path }: Credential, patient: Patient): Promise<Finding> {
  const isSystemds = isFromSystemd(path, patient)
  const afterwards = isSystemds ? '; then `systemctl reload hostcertd`' : ''
  let facts: FileFacts | null = null
  let text: string
  try {
    facts = await factsOf(path)
    text = await readCredentialFile(path)
  } catch (error) {
    const message = `cannot read the ${what} from ${path}: ${reasonOf(error)}`
    const code = systemCodeOf(error)
    if (code === 'EACCES') {
      return patient.isRoot || (!isSystemds && (await isDaemonDenied(path, facts, patient)))
        ? failure('credentials', message, ownershipRemedy(path, patient))
        : unknown('credentials', message, 'run `sudo hostcertd doctor`: root may read it')
    }
    const write = `write the ${what} into it: \`(umask 077; cat > ${path})\`${afterwards}`
    return failure('credentials', message, code === 'ENOENT' ? write : `put a file with the ${what} there`)
  }
  if (text.trim() === '') {
    const remedy = `write the ${what} into it: \`(umask 077; cat > ${path})\`${afterwards}`
    return failure('credentials', `the ${what} file ${path} is empty`, remedy)
  }
  // systemd reads those as root and hands them to the service.
  const denied = isSystemds ? null : await whyDenied(path, credentialUserOf(patient), 'read')
  if (denied !== null) {
    const who = `user ${credentialUserOf(patient).uid}, who asks the issuer,`
    return failure('credentials', `${who} cannot read the ${what}: ${denied}`, ownershipRemedy(path, patient))
  }
  const line = text.replace(/[\r\n]+$/, '')
  if (/\s/.test(line)) {
    const message = `the ${what} in ${path} has blanks or line ends in it, which are sent as part of it`
    return warning(
      'credentials',
      message,
      `leave nothing in ${path} but the ${what} on one line${afterwards}`,
    )
  }
  if ((facts.mode & OTHERS) !== 0 && what !== 'client id') {
    const message = `${path} has mode 0${facts.mode.toString(8)}: every user of this host can read the ${what}`
    return warning(
      'credentials',
      message,
      `\`chmod o= ${path}\`; if others work on this host, replace the ${what}`,
    )
  }
  return ok('credentials', `${what}: ${path}, mode 0${facts.mode.toString(8)}`)
}

/**
 * Whether the daemon may not read a file either that we may not.
 *
 * @param facts null where we cannot even look at the file, and so cannot tell
 */
async function isDaemonDenied(path: string, facts: FileFacts | null, patient: Patient): Promise<boolean> {
  const { self } = patient
  const credentialUser = credentialUserOf(patient)
  if (self.uid === credentialUser.uid) return true
  return facts !== null && (await whyDenied(path, credentialUser, 'read')) !== null
}

/** Whether systemd hands the file to the service: `credential:NAME` of the configuration. */
function isFromSystemd(path: string, { configPath, environment }: Patient): boolean {
  const given = environment['CREDENTIALS_DIRECTORY']
  const folders = [join(dirname(configPath), 'credentials'), ...CREDENTIAL_STORES, given]
  return folders.includes(dirname(path))
}

function ownershipRemedy(path: string, patient: Patient): string {
  const { uid, gid } = credentialUserOf(patient)
  return `\`chown ${uid}:${gid} ${path} && chmod 400 ${path}\`; that user must be able to enter the folders above it`
}

function credentialUserOf({ daemonUser, exchangeUser }: Patient): User {
  return exchangeUser ?? daemonUser
}
