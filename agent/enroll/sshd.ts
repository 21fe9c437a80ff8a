import { publicKeyText } from '../cert/public-key.ts'
import { cutTo, escapeControls } from '../cert/text.ts'
import { outlineOf } from '../cert/wire.ts'
import { linesOf, placeOf } from '../host/sshd-directives.ts'
import { DEFAULT_HOST_KEYS, excludesCertificates } from '../host/sshd-files.ts'
import { COPIES_DIRECTORY, DROP_IN } from '../host/sshd.ts'
import type { FileChange, FileState } from './change.ts'
import type { SshdSetup } from './sshd-facts.ts'
import {
  applyEdits,
  certificateIn,
  describe,
  type Edit,
  includes,
  type Leftovers,
  leftoversIn,
  type Outcome,
  readBefore,
  removing,
} from './sshd-lines.ts'
import { logins, trusted, USER_CA_DROP_IN } from './sshd-logins.ts'

/** What is to come out, and what the person in charge agrees to. */
export interface SshdWanted {
  /** Take out `HostCertificate` lines of others that override those of hostcertd. */
  readonly takesOverRivals: boolean
  /** Lines of the user CAs that are put in place before these changes are made; null when none are. */
  readonly userCa: readonly string[] | null
}

/** Each text is one line without controls. */
export interface SshdPlan {
  /** In this order. Several for one file follow on each other: what one leaves is what the next begins with. */
  readonly changes: readonly FileChange[]
  /** What stays as it is, and a person should know. */
  readonly notes: readonly string[]
  /** Why enroll cannot go on, and what to do. */
  readonly problems: readonly string[]
}

/**
 * What enroll changes so that sshd presents the certificates of hostcertd: the drop-ins are included, and nothing
 * overrides them. Pure. The drop-in itself is written by the root helper, once there are certificates.
 */
export function planSshd(setup: SshdSetup, wanted: SshdWanted): SshdPlan {
  const leftovers = leftoversIn(setup)
  const inclusion = included(setup, wanted)
  const trust = trusted(setup, wanted.userCa, leftovers)
  const outcomes = [
    accepted(setup, leftovers),
    readable(setup),
    inclusion,
    leftBehind(setup, leftovers),
    overriding(setup, wanted, leftovers),
    trust,
    logins(setup),
    publicHalves(setup, leftovers),
    algorithms(setup),
  ]
  const editsOf = (some: readonly Outcome[]): readonly Edit[] => some.flatMap((one) => one.edits ?? [])
  // First what `unenroll --keep-user-ca` keeps: what is made on top of it can be taken back byte for byte.
  const first = [inclusion, trust]
  const edits = [
    ...inOneWrite(editsOf(first)),
    ...editsOf(outcomes.filter((outcome) => !first.includes(outcome))),
  ]
  const printable = (texts: readonly string[]): string[] => [...new Set(texts.map(inOneLine))]
  return {
    changes: [...changesOf(edits, setup), ...outcomes.flatMap(({ changes }) => changes ?? [])],
    notes: printable(outcomes.flatMap(({ notes }) => notes ?? [])),
    problems: printable(outcomes.flatMap(({ problems }) => problems ?? [])),
  }
}

const LONGEST_TEXT = 1000

function inOneLine(text: string): string {
  return cutTo(LONGEST_TEXT, escapeControls(text))
}

/**
 * Edits of one file as one: the Include of a user CA comes with the line that it replaces, so that a crash, also one while
 * this is undone, never leaves sshd without a user CA.
 */
function inOneWrite(edits: readonly Edit[]): readonly Edit[] {
  const [first] = edits
  if (first === undefined) return []
  return [
    {
      file: first.file,
      step: edits.map(({ step }) => step).join('; '),
      removed: edits.flatMap(({ removed = [] }) => removed),
      inserted: edits.flatMap(({ inserted = [] }) => inserted),
    },
  ]
}

/** Each edit is a change of its own, on top of those before it in the same file. */
function changesOf(edits: readonly Edit[], { files }: SshdSetup): FileChange[] {
  const made = new Map<string, Edit[]>()
  const current = new Map<string, FileState>()
  return edits.flatMap((edit): FileChange[] => {
    const file = files.get(edit.file)
    if (file === undefined) return []
    const all = [...(made.get(edit.file) ?? []), edit]
    made.set(edit.file, all)
    const before = current.get(edit.file) ?? file.state
    const after = { ...before, content: applyEdits(file.state.content, all) }
    // A file that is included twice has its lines twice.
    if (after.content.equals(before.content)) return []
    current.set(edit.file, after)
    const { path } = file
    return [{ kind: 'file', step: inOneLine(edit.step), path, before, after, isSecret: false }]
  })
}

/** Whether sshd accepts its configuration, or will once the leftovers are out. */
function accepted({ sshd }: SshdSetup, leftovers: Leftovers): Outcome {
  const { answer, file } = sshd
  switch (answer.kind) {
    case 'effective':
      return {}
    case 'no-sshd':
      return { problems: ['sshd is not installed on this host; install OpenSSH server first'] }
    case 'no-host-keys':
      return { problems: [`sshd can load none of its host keys: ${answer.why}`] }
    case 'refused': {
      const cause = `sshd does not accept its configuration: ${answer.why}`
      const stuck = [...leftovers.certificates, ...leftovers.hostKeys].filter(({ inMatch }) => inMatch)
      if (stuck.length > 0) return { notes: [`${cause}; ${UNDECIDED}`] }
      return { problems: [`${cause}; correct it until \`sshd -t -f ${file}\` prints nothing`] }
    }
    case 'no-runtime-folder':
    case 'unknown':
      return { notes: [`sshd did not print its configuration: ${answer.why}; ${UNDECIDED}`] }
    case 'not-root':
      return { notes: [`printing the configuration of sshd (\`sshd -T\`) requires root; ${UNDECIDED}`] }
  }
}

/** What is not known may be a line that overrides those of hostcertd. */
function readable({ unreadable }: SshdSetup): Outcome {
  return {
    problems: unreadable.map(
      ({ path, why }) => `cannot read ${path}, which the configuration of sshd names: ${why}`,
    ),
  }
}

const UNDECIDED =
  'so public halves of host keys are not written, and HostKeyAlgorithms was not checked; run enroll again once that is corrected'

/** sshd has to read the drop-ins; not those of others that it does not read now. */
function included({ sshd, files }: SshdSetup, { userCa }: SshdWanted): Outcome {
  const { file, written, unread } = sshd
  if (!files.has(file)) return { problems: [`cannot read ${file}`] }
  const stuck = written.filter((line) => line.inMatch && includes(line, DROP_IN))
  if (stuck.length > 0) {
    const places = stuck.map((line) => `${placeOf(line)}: Include ${line.value}`).join(', ')
    const why = `is below a Match line and includes ${DROP_IN}; sshd does not allow HostCertificate there`
    return { problems: [`${places} ${why}: move it above the first Match line`] }
  }
  const missing = [DROP_IN, ...(userCa === null ? [] : [USER_CA_DROP_IN])].filter(
    (path) => !written.some((line) => !line.inMatch && includes(line, path)),
  )
  if (missing.length === 0) return {}
  const dormant = [...new Set(unread.map((line) => line.file))].filter((path) => !missing.includes(path))
  return {
    edits: [
      {
        file,
        step: `sshd reads ${missing.join(' and ')}`,
        inserted: missing.map((path) => `Include ${path}`),
      },
    ],
    notes: dormant.map((path) => `${path}: sshd does not read it, and this stays so`),
  }
}

function leftBehind(setup: SshdSetup, leftovers: Leftovers): Outcome {
  const { certificates, hostKeys, doubtful } = leftovers
  const notes = doubtful.map(
    (line) =>
      `${placeOf(line)}: HostKey ${line.value} stays, for an administrator may have written it; HostKey lines replace sshd's own list of host keys`,
  )
  const lines = [...certificates, ...hostKeys]
  if (lines.length === 0) return { notes }
  const what = `left by \`infisical ssh add-host\``
  return { notes, edits: [removing(setup.sshd.file, lines, `${what}: ${lines.map(describe).join(', ')}`)] }
}

/** Of several certificates for one host key sshd presents the last that it reads. */
function overriding(setup: SshdSetup, { takesOverRivals }: SshdWanted, leftovers: Leftovers): Outcome {
  const { sshd, certificates, hostKeys } = setup
  const known = hostKeys.flatMap(({ half }) => (half.kind === 'read' ? [half.blob] : []))
  const from = readBefore(
    sshd.written,
    DROP_IN,
    sshd.written.findLastIndex((line) => !line.inMatch && includes(line, DROP_IN)),
  )
  const rivals = linesOf(sshd.written.slice(from), 'hostcertificate').filter((line) => {
    if (line.value.startsWith(`${COPIES_DIRECTORY}/`) || leftovers.certificates.includes(line)) return false
    const blob = certificates.get(line.value)
    const key = blob === undefined ? undefined : outlineOf(blob)?.keyBlob
    return key !== undefined && known.some((one) => one.equals(key))
  })
  const why = 'sshd would present it instead of the certificate of hostcertd'
  const named = rivals.map((line) => ({
    line,
    text: `${describe(line)} (${originOf(certificates.get(line.value))}): ${why}`,
  }))
  if (takesOverRivals)
    return {
      edits: named.map(({ line, text }) => removing(line.file, [line], text)),
      problems: named
        .filter(({ line }) => !setup.files.has(line.file))
        .map(({ text }) => `${text}; the file cannot be read`),
    }
  return {
    problems: named.map(({ text }) => `${text}; remove that line, or add --take-over to have it taken out`),
  }
}

/** By the CA that signed it; for those that say who they are in the key id, that too. */
function originOf(blob: Buffer | undefined): string {
  const certificate = certificateIn(blob)
  if (certificate === null) return 'a certificate of another CA'
  return `key id ${JSON.stringify(certificate.keyId)}, signed by the CA ${certificate.ca.fingerprint}`
}

/** hostcertd reads public halves only; sshd needs none. */
function publicHalves({ sshd, hostKeys }: SshdSetup, leftovers: Leftovers): Outcome {
  const { answer, written } = sshd
  if (answer.kind !== 'effective') return {}
  const isDefault = linesOf(written, 'hostkey').every((line) => leftovers.hostKeys.includes(line))
  const loaded = [...answer.settings.hostKeys, ...(isDefault ? DEFAULT_HOST_KEYS : [])]
  const changes: FileChange[] = []
  const notes: string[] = []
  for (const { path, half, owner, hasPublicHalf } of hostKeys) {
    if (!loaded.includes(path) || hasPublicHalf || path.endsWith('.pub') || half.kind === 'absent') continue
    const lacking = `host key ${path} has no public half`
    if (half.kind !== 'read')
      notes.push(`${lacking}, and cannot be read: ${half.why}; no certificate is issued for it`)
    else if (owner === null)
      notes.push(`${lacking}, so no certificate is issued for it; \`ssh-keygen -y -f ${path}\` prints it`)
    else {
      const content = Buffer.from(`${publicKeyText(half)}\n`)
      changes.push({
        kind: 'file',
        step: inOneLine(`the public half of ${path}, without which it gets no certificate`),
        path: `${path}.pub`,
        before: null,
        after: { content, mode: 0o644, uid: owner.uid, gid: owner.gid },
        isSecret: false,
      })
    }
  }
  return { changes, notes }
}

/** A certificate that sshd does not offer is never presented. */
function algorithms({ sshd, hostKeys }: SshdSetup): Outcome {
  const { answer, written } = sshd
  if (answer.kind !== 'effective') return {}
  const { hostKeyAlgorithms, hostKeys: loaded } = answer.settings
  const [line] = linesOf(written, 'hostkeyalgorithms')
  const where = line === undefined ? 'HostKeyAlgorithms' : `${placeOf(line)}: HostKeyAlgorithms`
  return {
    notes: hostKeys.flatMap(({ path, half }) =>
      half.kind === 'read' && loaded.includes(path) && excludesCertificates(hostKeyAlgorithms, half.type)
        ? [`${where} excludes certificates for ${path} (${half.type}), so sshd presents none: stays`]
        : [],
    ),
  }
}
