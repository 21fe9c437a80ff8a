import { realpath } from 'node:fs/promises'
import { type LoadedKey, privatePathOf, readPrivateHalf } from '../host/key-pairs.ts'
import { linesOf, placeOf, type SshdDirective } from '../host/sshd-directives.ts'
import {
  agentOf,
  certificateAlgorithmsOf,
  DEFAULT_HOST_KEYS,
  excludesCertificates,
  type SshdFacts,
} from '../host/sshd-files.ts'
import { type CertifiableView, type HostKeyView, isCertifiable } from '../renewal/judge.ts'
import {
  type Cause,
  failure,
  type Finding,
  isProvenServed,
  ok,
  type Examined,
  RELOAD_SSHD,
  skipped,
  type Tone,
  toneFor,
  unknown,
  warning,
} from './finding.ts'
import { describeHalf, newKeysRemedy } from './host-key-files.ts'
import { notNamed, overruled } from './sshd-certificate-lines.ts'

interface SshdExamination {
  readonly findings: readonly Finding[]
  /** What to do about a host key that is not served, by its name. */
  readonly remedies: ReadonlyMap<string, string>
}

/**
 * Why sshd, by its configuration, does not present certificates. What it was seen to present needs no explanation: then
 * its configuration may be another file than the one looked at here.
 */
export async function examineSshdConfig(
  examined: Examined,
  views: readonly HostKeyView[],
  facts: SshdFacts,
): Promise<SshdExamination> {
  if (facts.answer.kind === 'no-sshd')
    return { findings: [skipped('sshd-config', 'sshd is not installed')], remedies: new Map() }
  const keys = views.filter(isCertifiable)
  const lacking = keys.filter((view) => !isProvenServed(view))
  const isServed = keys.length > 0 && lacking.length === 0
  const causes = await causesIn(examined, facts, keys, lacking)
  const findings = causes.map(({ finding }) => finding)
  const remedies = new Map(
    causes.flatMap(({ finding, keys: concerned }) =>
      concerned.map(({ name }) => [name, finding.remedy ?? ''] as const),
    ),
  )
  if (isServed && findings.length === 0) {
    const isNow = keys.every(({ served }) => served.kind !== 'not-asked' && served.unknown === null)
    const presents = isNow ? 'sshd presents' : 'when last checked, sshd presented'
    findings.push(ok('sshd-config', `${presents} the certificate of each host key`))
  }
  if (findings.length === 0)
    findings.push(ok('sshd-config', `nothing in ${facts.file} prevents the certificates from being served`))
  return { findings, remedies }
}

async function causesIn(
  examined: Examined,
  facts: SshdFacts,
  keys: readonly CertifiableView[],
  lacking: readonly CertifiableView[],
): Promise<Cause[]> {
  const { answer } = facts
  const isServed = keys.length > 0 && lacking.length === 0
  /** What is wrong with the file as a whole: while all is served it matters for the next start or reload. */
  const whole = (message: string, remedy: string): Cause => {
    const elsewhere = `${remedy}. If sshd runs with another file: \`hostcertd doctor --sshd-config FILE\``
    return isServed
      ? {
          finding: warning('sshd-config', `sshd serves the certificates now, but: ${message}`, elsewhere),
          keys: [],
        }
      : { finding: failure('sshd-config', message, remedy), keys }
  }
  const notKnown = (message: string, remedy: string | null): Cause[] =>
    isServed ? [] : [{ finding: unknown('sshd-config', message, remedy), keys: [] }]

  const stuck = stuckInMatch(facts.written).map(({ message, remedy }) => whole(message, remedy))
  switch (answer.kind) {
    case 'no-sshd':
      return []
    case 'not-root': {
      const seen = [...stuck, ...(await overruled(examined, facts, lacking))]
      const message = 'printing the configuration of sshd (`sshd -T`) requires root'
      return seen.length > 0 ? seen : notKnown(message, 'run `sudo hostcertd doctor`')
    }
    case 'refused': {
      const remedy = `fix the reported lines until \`sshd -t -f ${facts.file}\` prints nothing; until then sshd is not reloaded`
      const message = `SSHD_CONFIG_INVALID: sshd does not accept its configuration: ${answer.why}`
      return stuck.length > 0 ? stuck : [whole(message, remedy)]
    }
    case 'no-host-keys': {
      const { message, remedy } = await whyNoHostKeys(examined, facts, answer.why)
      return [...stuck, whole(message, remedy)]
    }
    case 'no-runtime-folder': {
      const remedy =
        'start sshd. Behind a socket unit the folder is missing while there is no connection: run doctor again while one is open'
      return [...stuck, ...notKnown(`cannot run sshd -T: ${answer.why}`, remedy)]
    }
    case 'unknown': {
      const message = `sshd did not print its configuration (${facts.file}): ${answer.why}`
      return [...stuck, ...notKnown(message, `see the output of \`sshd -T -f ${facts.file}\``)]
    }
    case 'effective': {
      const loading = await Promise.all(lacking.map(async (view) => loadingOf(view, facts.loaded)))
      const absent = lacking.filter((_, index) => loading[index] === 'absent')
      const unclear = lacking.filter((_, index) => loading[index] === 'unclear')
      const loaded = lacking.filter((_, index) => loading[index] === 'loaded')
      const { hostKeyAlgorithms } = answer.settings
      const unoffered = loaded.filter(({ subject }) =>
        excludesCertificates(hostKeyAlgorithms, subject.key.type),
      )
      const offered = loaded.filter((view) => !unoffered.includes(view))
      const tone = toneFor(keys)
      return [
        ...stuck,
        ...notLoaded(absent, facts, tone),
        ...unclear.map(({ file }): Cause => {
          const message = `could not check whether sshd loads ${privatePathOf(file.path)}: one of its host keys cannot be read`
          return { finding: unknown('sshd-config', message), keys: [] }
        }),
        ...notOffered(unoffered, facts, tone),
        ...(await notNamed(examined, facts, offered, tone)),
      ]
    }
  }
}

/** What sshd refuses below `Match`: lines that someone added at the end of the file. */
function stuckInMatch(written: readonly SshdDirective[]): { message: string; remedy: string }[] {
  const names: Readonly<Record<string, string>> = {
    hostcertificate: 'HostCertificate',
    hostkey: 'HostKey',
    hostkeyalgorithms: 'HostKeyAlgorithms',
  }
  return written.flatMap((directive) => {
    const name = names[directive.keyword]
    if (!directive.inMatch || name === undefined) return []
    return [
      {
        message: `${placeOf(directive)}: ${name} ${directive.value} is below a Match line, where sshd does not allow it`,
        remedy:
          'move it above the first Match line; if it is in an included file, move the Include line to the top of the file',
      },
    ]
  })
}

async function whyNoHostKeys(
  { config, signal }: Examined,
  facts: SshdFacts,
  why: string,
): Promise<{ message: string; remedy: string }> {
  const lines = linesOf(facts.written, 'hostkey')
  const agent = agentOf(facts)
  if (agent !== null) {
    const remedy = `start the agent and add the keys to it, until \`SSH_AUTH_SOCK=${agent.value} ssh-add -l\` lists them; or remove ${placeOf(agent)}`
    return {
      message: `sshd finds no host key; ${placeOf(agent)} sets HostKeyAgent ${agent.value}: ${why}`,
      remedy,
    }
  }
  const wanted =
    lines.length > 0
      ? lines.map((line) => ({ path: line.value, at: ` (${placeOf(line)})` }))
      : DEFAULT_HOST_KEYS.map((path) => ({ path, at: '' }))
  const details: string[] = []
  const absent: string[] = []
  const refused: string[] = []
  for (const { path, at } of wanted) {
    const half = await readPrivateHalf(path, signal)
    if (half.kind === 'absent') absent.push(path)
    if (half.kind === 'refused') refused.push(path)
    details.push(`${path}${at} ${describeHalf(half)}`)
  }
  const restore = lines.length > 0 ? 'correct those HostKey lines, or restore the files' : 'restore the files'
  const readable = `make ${refused.join(', ')} readable for sshd: \`chmod 600\`, and remove any passphrase`
  const made = absent.length === wanted.length ? await newKeysRemedy(config, facts) : null
  const remedy = [
    ...(refused.length > 0 ? [readable] : []),
    ...(absent.length > 0 ? [made === null ? restore : `${restore}; ${made}`] : []),
  ]
  const message = `sshd can load none of its host keys: ${details.join('; ')}`
  return { message, remedy: remedy.join('; ') || `see what \`sshd -t -f ${facts.file}\` prints: ${why}` }
}

/**
 * Whether sshd loads a host key, by the key and not by its path: a symlink is as good. `other-pair`: the private half
 * there is another key; that is no matter of sshd's configuration.
 */
async function loadingOf(
  { file, subject }: CertifiableView,
  loaded: readonly LoadedKey[],
): Promise<'loaded' | 'absent' | 'unclear' | 'other-pair'> {
  if (loaded.some(({ blob }) => blob?.equals(subject.key.blob))) return 'loaded'
  const path = privatePathOf(file.path)
  const real = await realpath(path).catch(() => path)
  const there = loaded.find((one) => one.path === path || one.real === real)
  if (there !== undefined) return there.blob === null ? 'unclear' : 'other-pair'
  return loaded.some(({ blob }) => blob === null) ? 'unclear' : 'absent'
}

/** Any HostKey line replaces sshd's own list. */
function notLoaded(views: readonly CertifiableView[], facts: SshdFacts, tone: Tone): Cause[] {
  if (views.length === 0) return []
  const places = linesOf(facts.written, 'hostkey').map(placeOf)
  const paths = views.map(({ file }) => privatePathOf(file.path))
  const by = places.length === 0 ? '' : `: the HostKey lines at ${places.join(', ')} replace the default list`
  const wanted = paths.map((path) => `\`HostKey ${path}\``).join(', ')
  const now = facts.loaded.map(({ path }) => path).join(', ')
  // The first HostKey line replaces sshd's own list: whoever adds one must name all of them.
  const remedy =
    places.length > 0
      ? `add ${wanted} there, then ${RELOAD_SSHD}; or remove the key from host_keys`
      : `remove the key from host_keys; or add to ${facts.file}, above any Match line, ${wanted} and one for each key that sshd loads now (${now}), because HostKey lines replace the default list`
  return [
    {
      finding: tone(views)('sshd-config', `sshd does not load ${paths.join(', ')}${by}`, remedy),
      keys: views,
    },
  ]
}

function notOffered(views: readonly CertifiableView[], { written }: SshdFacts, tone: Tone): Cause[] {
  if (views.length === 0) return []
  const [line] = linesOf(written, 'hostkeyalgorithms')
  const where = line === undefined ? 'HostKeyAlgorithms' : `${placeOf(line)}: HostKeyAlgorithms`
  const types = [
    ...new Set(views.flatMap(({ subject }) => certificateAlgorithmsOf(subject.key.type).slice(0, 1))),
  ]
  const message = `${where} does not include ${types.join(', ')}, so those certificates are never presented`
  const remedy = `remove the HostKeyAlgorithms line, or add these types to it; then ${RELOAD_SSHD}`
  return [{ finding: tone(views)('sshd-config', message, remedy), keys: views }]
}
