import { access, constants } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AgentError } from '../cert/errors.ts'
import { reasonOf, systemCodeOf } from '../cert/text.ts'
import { failureLine } from '../cli/context.ts'
import { CREDENTIAL_STORES } from '../config/credential-reference.ts'
import { configPathFrom, type LoadedConfig } from '../config/load.ts'
import { problemLine } from '../config/problem.ts'
import { readJournal } from '../enroll/journal.ts'
import { factsOf, type FileFacts, type User, whyDenied } from '../host/file-access.ts'
import { type CredentialFile, credentialFiles, readCredentialFile } from '../issuer/logins/credential-file.ts'
import type { MachineFacts } from '../renewal/observe.ts'
import {
  failure,
  type Finding,
  ok,
  type Examined,
  projectToken,
  remedyOf,
  unknown,
  warning,
} from './finding.ts'

const ENROLL =
  'as root: `hostcertd enroll --url URL --host-id ID --auth METHOD`; `man hostcertd` has examples, /usr/share/doc/hostcertd/enrolling.md every step'

/** Whether there is a configuration, and what is wrong with it. */
export async function examineConfiguration(path: string, loaded: LoadedConfig): Promise<Finding[]> {
  switch (loaded.kind) {
    case 'not-enrolled':
      return [
        failure(
          'configuration',
          `not enrolled: ${path} does not exist`,
          path === configPathFrom(undefined, {})
            ? ENROLL
            : `write ${path} with issuer.url, issuer.ssh_host_id and auth; config.example.yaml explains each key`,
        ),
        ...loaded.warnings.map((text) =>
          warning('configuration', text, 'enroll this host, or remove the file'),
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
export async function examinePinnedCas({ host }: Examined): Promise<Finding[]> {
  try {
    await host.pinnedCas.read()
    return []
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    const remedy =
      'write the public key of the host CA into that file, one per line; then `systemctl restart hostcertd`'
    return [failure('configuration', failureLine(error), remedy)]
  }
}

/**
 * Whether `enroll` or `unenroll` was cut off. A host that was enrolled by hand has no journal.
 *
 * @param folder of the journal, which only root can read
 */
export async function examineJournal(folder: string): Promise<Finding[]> {
  try {
    const runs = await readJournal(folder)
    if (runs.every(({ isFinished }) => isFinished)) return []
    const message =
      'hostcertd enroll or unenroll was interrupted, and its changes to this host have not been undone yet, or it is still running'
    return [
      warning(
        'configuration',
        message,
        'as root: `hostcertd enroll` undoes it and enrolls this host again; `hostcertd unenroll` only undoes it',
      ),
    ]
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    return [warning('configuration', failureLine(error), remedyOf(error.code))]
  }
}

/** Whether this machine is the one that was enrolled; nothing where that is not known. */
export function examineMachine({ copied, stopped }: MachineFacts): Finding[] {
  if (copied === null || copied === false) return []
  const message = failureLine(copied)
  if (stopped === null) return [warning('configuration', message, remedyOf(copied.code))]
  const renewed = `${message}; nothing is renewed here (enrollment.on_copy: stop)`
  return [failure('configuration', renewed, remedyOf(copied.code))]
}

/** A user that cannot read a file cannot find what is wrong in it. */
async function remedyFor(file: string): Promise<string> {
  const code = await access(file, constants.R_OK).then(() => null, systemCodeOf)
  return code === 'EACCES'
    ? `run \`sudo hostcertd doctor\`; or \`chmod a+rX ${file}\`: it contains no secrets, and the daemon reads it too`
    : `correct it in ${file}; \`hostcertd config validate\` checks it`
}

/** The permissions of all other users. */
const OTHERS = 0o007

/** Each credential file: whether it exists, has one line, and only the right users can read it. */
export async function examineCredentials(examined: Examined): Promise<Finding[]> {
  const findings: Finding[] = []
  const { issuer } = examined.config
  if (issuer.kind === 'command') return findings
  for (const credential of credentialFiles(issuer.auth)) findings.push(await examine(credential, examined))
  return findings
}

async function examine(credential: CredentialFile, examined: Examined): Promise<Finding> {
  const { what, path, isOneLine, isSecret, isProjected } = credential
  const isSystemds = isFromSystemd(path, examined)
  const afterwards = isSystemds ? '; then `systemctl reload hostcertd`' : ''
  const provide = isProjected
    ? projectToken(path)
    : `write the ${what} to it: \`(umask 077; cat > ${path})\`${afterwards}`
  let facts: FileFacts | null = null
  let text: string
  try {
    facts = await factsOf(path)
    text = await readCredentialFile(path)
  } catch (error) {
    const message = `cannot read the ${what} from ${path}: ${reasonOf(error)}`
    const code = systemCodeOf(error)
    if (code === 'EACCES') {
      return examined.isRoot || (!isSystemds && (await isDaemonDenied(path, facts, examined)))
        ? failure('credentials', message, ownershipRemedy(credential, examined))
        : unknown('credentials', message, 'run `sudo hostcertd doctor`; root can read it')
    }
    if (code === 'ENOENT' && isSystemds) {
      const unless = `unless systemd passes it to the unit from another location, create it: \`(umask 077; cat > ${path})\`${afterwards}`
      return unknown('credentials', message, unless)
    }
    const replace = `replace it with a file that contains the ${what}`
    return failure('credentials', message, code === 'ENOENT' ? provide : replace)
  }
  if (text.trim() === '') return failure('credentials', `the ${what} file ${path} is empty`, provide)
  // systemd reads those as root and passes them to the unit.
  const denied = isSystemds ? null : await whyDenied(path, credentialUserOf(examined), 'read')
  if (denied !== null) {
    const who = `the user of the exchange (${credentialUserOf(examined).uid})`
    const message = `${who} cannot read the ${what}: ${denied}`
    return failure('credentials', message, ownershipRemedy(credential, examined))
  }
  const line = text.replace(/[\r\n]+$/, '')
  if (isOneLine && /\s/.test(line)) {
    const message = `the ${what} in ${path} contains spaces or line breaks, which are sent as part of it`
    return warning('credentials', message, `${path} must contain only the ${what}, on one line${afterwards}`)
  }
  if ((facts.mode & OTHERS) !== 0 && isSecret) {
    const message = `${path} has mode 0${facts.mode.toString(8)}: every user of this host can read the ${what}`
    return warning(
      'credentials',
      message,
      `\`chmod o= ${path}\`; if this host has other users, replace the ${what}`,
    )
  }
  return ok('credentials', `${what}: ${path}, mode 0${facts.mode.toString(8)}`)
}

/**
 * Whether the user of the exchange cannot read a file either that we cannot.
 *
 * @param facts null if the file is in a folder that we cannot enter: then this is not known
 */
async function isDaemonDenied(path: string, facts: FileFacts | null, examined: Examined): Promise<boolean> {
  const { self } = examined
  const credentialUser = credentialUserOf(examined)
  if (self.uid === credentialUser.uid) return true
  return facts !== null && (await whyDenied(path, credentialUser, 'read')) !== null
}

/** Whether systemd passes the file to the exchange's unit, which a checkout does not have. */
function isFromSystemd(path: string, { configPath, environment, exchangeUser }: Examined): boolean {
  if (exchangeUser === null) return false
  const given = environment['CREDENTIALS_DIRECTORY']
  const folders = [join(dirname(configPath), 'credentials'), ...CREDENTIAL_STORES, given]
  return folders.includes(dirname(path))
}

function ownershipRemedy({ path, isProjected }: CredentialFile, examined: Examined): string {
  const { uid, gid } = credentialUserOf(examined)
  if (isProjected) {
    return `set \`securityContext.fsGroup: ${gid}\` in the pod: the kubelet then lets that group read ${path}; that user must be able to enter the folders above it`
  }
  return `\`chown ${uid}:${gid} ${path} && chmod 400 ${path}\`; that user must be able to enter the folders above it`
}

function credentialUserOf({ daemonUser, exchangeUser }: Examined): User {
  return exchangeUser ?? daemonUser
}
