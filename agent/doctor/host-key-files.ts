import { dirname } from 'node:path'
import { isIssuedKeyType } from '../cert/public-key.ts'
import { failureLine } from '../cli/context.ts'
import type { Config } from '../config/config.ts'
import {
  isThere,
  type PrivateHalf,
  privatePathOf,
  privatePathsOf,
  publicHalfRemedy,
  readPrivateHalf,
} from '../host/key-pairs.ts'
import { agentOf, linesOf, placeOf, type SshdFacts } from '../host/sshd-files.ts'
import { isCertifiable, type HostKeyView } from '../renewal/judge.ts'
import { failure, type Finding, isProvenServed, ok, type Examined, skipped, warning } from './finding.ts'

/** Where `ssh-keygen -A` looks, and writes. */
const SSH_FOLDER = '/etc/ssh'

interface HostKeyExamination {
  readonly findings: readonly Finding[]
  /** What to do about a pair that does not fit, by the host key's name. */
  readonly remedies: ReadonlyMap<string, string>
}

/** Which host keys there are, whether their halves belong together, and which of them can be signed. */
export async function examineHostKeys(
  examined: Examined,
  views: readonly HostKeyView[],
  sshd: SshdFacts,
): Promise<HostKeyExamination> {
  const { config, signal } = examined
  const findings: Finding[] = []
  const remedies = new Map<string, string>()
  for (const view of views) {
    const half = await readPrivateHalf(privatePathOf(view.file.path), signal)
    const finding = await examine(view, half, examined, sshd)
    findings.push(finding)
    if (half.kind === 'read' && finding.remedy !== null) remedies.set(view.name, finding.remedy)
  }
  const isUsable = findings.some(({ status }) => status === 'ok')
  findings.push(...(await withoutPublicHalf(examined, views, isUsable)))
  if (views.length === 0 && findings.length === 0) findings.push(await nothingFound(config, sshd))
  const isSigned = views.some(isCertifiable)
  if (!isSigned && !findings.some(({ status }) => status === 'failure'))
    findings.push(
      failure('host-keys', 'the issuer does not sign keys of these types', anotherKeyRemedy(views)),
    )
  return { findings, remedies }
}

async function examine(
  view: HostKeyView,
  half: PrivateHalf,
  { config }: Examined,
  sshd: SshdFacts,
): Promise<Finding> {
  const { content, path } = view.file
  const privatePath = privatePathOf(path)
  switch (content.kind) {
    case 'unsupported':
      return skipped('host-keys', `${content.failure.message}; host key ignored`)
    case 'shadowed': {
      const message = `host key ignored: ${path} has the same file name as ${content.by}`
      return warning('host-keys', message, 'name each file once in host_keys')
    }
    case 'unreadable': {
      const remedy = half.kind === 'absent' ? repairRemedy(path) : publicHalfRemedy(privatePath)
      return failure('host-keys', failureLine(content.failure), remedy)
    }
    case 'key': {
      const { key } = content
      if (view.unproven !== null)
        return skipped('host-keys', `${path}: ${view.unproven.why}; host key ignored`)
      const what = `${path}: ${key.type} ${key.fingerprint}`
      const isServed = isProvenServed(view)
      if (half.kind === 'read' && !half.blob.equals(key.blob)) {
        const tone = isServed ? warning : failure
        const message = `${path} is not the public half of ${privatePath}: it is ${key.fingerprint}, and the private half belongs to ${half.fingerprint} (${half.type})`
        return tone('host-keys', message, publicHalfRemedy(privatePath))
      }
      if (isServed || half.kind === 'read' || half.kind === 'unknown') return ok('host-keys', what)
      if (half.kind === 'refused') {
        const remedy = `sshd must be able to read it: \`chmod 600 ${privatePath}\`, and remove any passphrase`
        return warning('host-keys', `${what}; ${privatePath} ${describeHalf(half)}`, remedy)
      }
      const agent = agentOf(sshd)
      if (agent !== null)
        return ok('host-keys', `${what}; its private half is not a file (${placeOf(agent)})`)
      const restore = `restore ${privatePath}, or remove ${path} if that key is no longer used`
      const made = await newKeysRemedy(config, sshd)
      const remedy = made === null ? restore : `${restore}; ${made}`
      return warning('host-keys', `${what}, but ${privatePath} is missing`, remedy)
    }
  }
}

/** Private halves where `host_keys` would find the public ones. */
async function withoutPublicHalf(
  { config, signal }: Examined,
  views: readonly HostKeyView[],
  isUsable: boolean,
): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const path of await privatePathsOf(config.hostKeys)) {
    if (views.some(({ file }) => file.path === `${path}.pub`)) continue
    const half = await readPrivateHalf(path, signal)
    const message = `${path} has no public half, so no certificate is issued for it: ${path}.pub is missing`
    if (half.kind === 'read' && !isIssuedKeyType(half.type))
      findings.push(
        skipped(
          'host-keys',
          `${path}: its public half is missing, and not every issuer signs keys of type ${half.type}; host key ignored`,
        ),
      )
    else findings.push((isUsable ? warning : failure)('host-keys', message, publicHalfRemedy(path)))
  }
  return findings
}

/** No host key where `host_keys` says: where they are, if there are any. */
async function nothingFound(config: Config, sshd: SshdFacts): Promise<Finding> {
  const message = `no host key matches ${config.hostKeys.join(', ')}`
  const agent = agentOf(sshd)
  if (agent !== null) {
    const remedy = `${placeOf(agent)} names an agent: write each public key that \`SSH_AUTH_SOCK=${agent.value} ssh-add -L\` prints into a file of its own, and set host_keys to these`
    return failure('host-keys', message, remedy)
  }
  const elsewhere = await privateHalves(config, sshd)
  if (elsewhere.length > 0) {
    const paths = elsewhere.map((path) => `${path}.pub`).join(', ')
    const remedy = `set host_keys to their location (${paths}); a public half that is missing is written by \`ssh-keygen -y -f KEY > KEY.pub\``
    return failure('host-keys', message, remedy)
  }
  return failure(
    'host-keys',
    message,
    (await newKeysRemedy(config, sshd)) ?? 'set host_keys to their location',
  )
}

/**
 * The advice to make new host keys: only where there is certainly none. Where one is, its clients would not recognise the
 * host any more.
 *
 * @returns null where there may be one
 */
export async function newKeysRemedy(config: Config, sshd: SshdFacts): Promise<string | null> {
  if (agentOf(sshd) !== null || (await privateHalves(config, sshd)).length > 0) return null
  const folders = config.hostKeys.map((pattern) => dirname(pattern))
  const [folder = SSH_FOLDER] = folders
  const command = folders.includes(SSH_FOLDER)
    ? 'ssh-keygen -A'
    : `ssh-keygen -q -t ed25519 -N '' -f ${folder}/ssh_host_ed25519_key`
  return `\`${command}\` makes new host keys; clients that know this host by others will refuse it, so restore those if there were any`
}

/** Every private half that this host is known to have, or may have. */
async function privateHalves(config: Config, sshd: SshdFacts): Promise<readonly string[]> {
  const named = [
    ...linesOf(sshd.written, 'hostkey').map(({ value }) => value),
    ...sshd.loaded.map(({ path }) => path),
  ]
  const there = await Promise.all(named.map(isThere))
  const found = [
    ...(await privatePathsOf([...config.hostKeys, `${SSH_FOLDER}/ssh_host_*_key.pub`])),
    ...named.filter((_, index) => there[index]).map(privatePathOf),
  ]
  return [...new Set(found)]
}

/** For a public half that cannot be read, when the private one is not there either. */
function repairRemedy(path: string): string {
  return `rewrite it as one line \`TYPE BASE64\`: a file in the format of RFC 4716 is converted by \`ssh-keygen -i -f ${path}\`, a byte order mark is removed by \`sed -i '1s/^\\xEF\\xBB\\xBF//' ${path}\``
}

/** The keys that there are stay as they are. */
function anotherKeyRemedy([first]: readonly HostKeyView[]): string {
  const folder = first === undefined ? '/etc/ssh' : dirname(first.file.path)
  return `add one that it signs, beside those: \`ssh-keygen -q -t ed25519 -N '' -f ${folder}/ssh_host_ed25519_key\`, and if sshd has HostKey lines, one for it`
}

/** `does not exist`: behind its path. */
export function describeHalf(half: PrivateHalf): string {
  switch (half.kind) {
    case 'absent':
      return 'does not exist'
    case 'refused':
    case 'unknown':
      return `cannot be read: ${half.why}`
    case 'read':
      return 'can be read'
  }
}
