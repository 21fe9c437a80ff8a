import { AgentError } from '../cert/errors.ts'
import type { PublicKey } from '../cert/public-key.ts'
import type { Change, FileChange } from './change.ts'
import type { Pinned } from './current.ts'
import type { UserCaPlan } from './enroll-user-ca.ts'
import { CA_TIMER, COPIES, FOLDERS, type HostFacts, known, UNIT } from './facts.ts'
import { fileChange, folderChange, pinsChange, proxyChange, PUBLIC, SECRET } from './plan-files.ts'
import {
  type Enrolling,
  enrollmentChange,
  ephemeralChanges,
  judgeMachine,
  notesOfEphemeral,
} from './plan-machine.ts'
import { ofOthers } from './service-state.ts'
import { planSshd } from './sshd.ts'
import { CONFIG_FILE, CREDENTIALS_FOLDER, DEFAULTS_FILE, type EnrollTools } from './wanted.ts'

/** What this host is to become. */
export interface Wanted extends Enrolling {
  /** Of the main configuration file. */
  readonly text: string
  /** Contents of files in the credential folder, by name. */
  readonly secrets: Readonly<Record<string, string>>
  readonly pinned: Pinned
  /** The CAs to pin. */
  readonly cas: readonly PublicKey[]
  readonly environment: EnrollTools['environment']
  /** Null: no user CA is put in place. */
  readonly userCa: UserCaPlan | null
}

export interface Planned {
  readonly changes: readonly Change[]
  readonly notes: readonly string[]
}

/**
 * What has to change, in this order; nothing when this host is as it is wanted. Pure.
 *
 * @throws AgentError with what on this host is in the way
 */
export function planChanges(wanted: Wanted, facts: HostFacts): Planned {
  const { pinned, options, userCa } = wanted
  if (facts.pinsDenied !== null) {
    const message = `hostcertd.service cannot read ${pinned.path}: ${facts.pinsDenied}; make it readable for everyone`
    throw new AgentError('CONFIG_INVALID', message)
  }
  // A person who is asked sees these lines in the diff, and agrees to it or not.
  const takesOverRivals = options.takeOver || options.mode === 'ask'
  const sshd = planSshd(facts.sshd, { takesOverRivals, userCa: userCa?.lines ?? null })
  if (sshd.problems.length > 0) throw new AgentError('SSHD_CONFIG_INVALID', sshd.problems.join('; '))
  const credentials = credentialChanges(wanted, facts)
  const machine = judgeMachine(wanted, facts.machine)
  const ephemeral = ephemeralChanges(wanted, machine, credentials.length > 0, facts)
  const changes: Change[] = [
    ...[...FOLDERS].map(([path, mode]) => {
      const before = facts.folders.get(path)
      return before === undefined ? null : folderChange(path, mode, before)
    }),
    ...credentials,
    ...configurationChanges(wanted, facts),
    ...(userCa?.changes ?? []),
    ...sshd.changes,
    enrollmentChange(wanted, machine, facts),
    ...ephemeral,
    ...timerChanges(wanted, facts),
  ].filter((change) => change !== null)
  return {
    notes: [
      ...sshd.notes,
      ...(userCa?.notes ?? []),
      ...(machine.copied === null ? [] : [`${machine.copied}; enroll accepts it as it is`]),
      ...otherPins(wanted),
      ...notesOfTimer(facts),
      ...notesOfEphemeral(options, machine, ephemeral),
    ],
    changes: [...changes, ...serviceChanges(changes.length > 0, wanted.hostId, facts)],
  }
}

function credentialChanges({ secrets }: Wanted, { files }: HostFacts): readonly FileChange[] {
  return Object.entries(secrets).flatMap(([name, content]) => {
    const path = `${CREDENTIALS_FOLDER}/${name}`
    const step = `store the credential ${name}`
    const stored = fileChange({ step, path, content, mode: SECRET, isSecret: true }, files.get(path) ?? null)
    return stored === null ? [] : [{ ...stored, isCredential: true }]
  })
}

function configurationChanges(
  { text, pinned, cas, environment }: Wanted,
  { files }: HostFacts,
): readonly (FileChange | null)[] {
  const at = (path: string) => files.get(path) ?? null
  const step = 'write the configuration'
  return [
    proxyChange(environment, at(DEFAULTS_FILE)),
    pinsChange(pinned, cas, at(pinned.path)),
    fileChange({ step, path: CONFIG_FILE, content: text, mode: PUBLIC }, at(CONFIG_FILE)),
  ]
}

/** `--ca-fingerprint` says which CA signs, and takes no other out of the file of an administrator. */
function otherPins({ pinned: { path, keys }, options: { caFingerprints } }: Wanted): readonly string[] {
  if (caFingerprints.length === 0) return []
  const others = keys.filter(({ fingerprint }) => !caFingerprints.includes(fingerprint))
  return others.map(
    ({ fingerprint }) =>
      `${path} also pins the CA ${fingerprint}, which --ca-fingerprint does not name: certificates of it are accepted too, until you remove its line`,
  )
}

/** Of every host: `ca refresh` also says when the issuer names a host CA that is not pinned. Only a user CA requires it. */
function timerChanges({ options, userCa }: Wanted, { caTimer }: HostFacts): readonly Change[] {
  if ('unknown' in caTimer && !options.userCa && userCa === null) return []
  const before = known(caTimer)
  if (before.isEnabled && before.isActive) return []
  return [{ kind: 'service', step: 'ask the issuer for its CAs once a day', unit: CA_TIMER, before }]
}

function notesOfTimer({ caTimer }: HostFacts): readonly string[] {
  if (!('unknown' in caTimer)) return []
  return [`no timer will say when the issuer names another host CA: ${caTimer.unknown}`]
}

/** @param isChanged whether anything else is */
function serviceChanges(isChanged: boolean, hostId: string, facts: HostFacts): readonly Change[] {
  const before = known(facts.service)
  const replaced = ofOthers(facts.certificates, hostId)
  const isReplacing = replaced.files.length > 0
  if (!isChanged && !isReplacing && before.isEnabled && before.isActive) return []
  const verb = before.isActive ? 'reload the service' : 'start the service'
  const step = isReplacing ? `${verb}, and replace the certificates of another host` : verb
  return [
    {
      kind: 'copies',
      step: 'install certificates for sshd',
      paths: COPIES,
      before: facts.copies,
      state: facts.serviceState,
    },
    { kind: 'service', step, unit: UNIT, before, ...(isReplacing ? { replaced } : {}) },
  ]
}
