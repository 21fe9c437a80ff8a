import * as v from 'valibot'
import { checkCron, longestGapSeconds } from '../host/schedule.ts'
import { auth as authSection } from './auth-section.ts'
import type { Config, IssuerConfig } from './config.ts'
import type { CredentialContext } from './credential-reference.ts'
import { hasPath, isTree, type KeyPath, type KeyProblem, type Tree } from './problem.ts'
import { findUnknownKeys } from './unknown-keys.ts'
import {
  readHealthHost,
  readHealthListen,
  readIssuerUrl,
  readSshdAddress,
  anyListOf,
  command,
  listOf,
  mustBe,
  oneOf,
  optionalSection,
  readAbsolutePath,
  readDuration,
  readKeyFingerprint,
  readHostKeyPattern,
  type Reading,
  readJitter,
  readPrincipal,
  readTimeout,
  readUuid,
  readWindow,
  section,
  textAs,
  value,
  yesOrNo,
} from './values.ts'

const absolutePath = textAs(readAbsolutePath)
const hostKeyPattern = textAs(readHostKeyPattern)

/** A pattern or a list of them; always a list afterwards. */
export const hostKeys = v.optional(
  v.lazy((input) =>
    Array.isArray(input)
      ? listOf(hostKeyPattern)
      : v.pipe(
          hostKeyPattern,
          v.transform((pattern) => [pattern]),
        ),
  ),
  '/etc/ssh/ssh_host_*_key.pub',
)

const timeout = v.optional(textAs(readTimeout), '30s')

const httpIssuer = section({
  url: textAs(readIssuerUrl),
  ssh_host_id: textAs(readUuid),
  ca_file: v.optional(absolutePath),
  timeout,
  // With it the section is the other one.
  command: v.optional(v.never()),
})

const excluded = v.optional(v.never('conflicts with issuer.command; set only one'))

const commandIssuer = section({
  url: excluded,
  ssh_host_id: excluded,
  ca_file: excluded,
  timeout,
  command,
})

const userCa = {
  install: v.optional(yesOrNo, false),
  overlap: v.optional(textAs(readDuration), '14d'),
  fingerprints: v.optional(anyListOf(textAs(readKeyFingerprint))),
  revoked: v.optional(anyListOf(textAs(readKeyFingerprint))),
}

const otherSections = {
  host_keys: hostKeys,
  certificates: optionalSection({
    directory: v.optional(absolutePath, '/var/lib/hostcertd/certs'),
  }),
  renewal: optionalSection({
    window: v.optional(textAs(readWindow), '33%'),
    jitter: v.optional(textAs(readJitter), '50%'),
    tick: v.optional(textAs(readTick), '* * * * *'),
    maintenance: v.optional(textAs(readCron), '* * * * *'),
  }),
  verify: optionalSection({
    host_ca_file: v.optional(absolutePath),
    principals: v.optional(listOf(textAs(readPrincipal))),
  }),
  sshd: optionalSection({
    address: v.optional(textAs(readSshdAddress), 'auto'),
    reload: v.optional(oneOf(['auto', 'always', 'never']), 'auto'),
    reload_command: v.optional(command),
  }),
  health: optionalSection({
    listen: v.optional(textAs(readHealthListen), '127.0.0.1:9847'),
    hosts: v.optional(anyListOf(textAs(readHealthHost))),
  }),
  log: optionalSection({
    level: v.optional(oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal']), 'info'),
    format: v.optional(oneOf(['auto', 'journal', 'pretty', 'json']), 'auto'),
  }),
  enrollment: optionalSection({ on_copy: v.optional(oneOf(['warn', 'stop']), 'warn') }),
  user_ca: optionalSection(userCa),
  state_directory: v.optional(absolutePath, '/var/lib/hostcertd'),
}

const overHttp = section({ issuer: httpIssuer, auth: authSection, ...otherSections })
const byCommand = section({
  issuer: commandIssuer,
  auth: excluded,
  ...otherSections,
  user_ca: optionalSection({
    ...userCa,
    install: v.optional(
      v.pipe(
        yesOrNo,
        v.check((install) => !install, 'conflicts with issuer.command, which cannot provide a user CA'),
      ),
      false,
    ),
  }),
})

/**
 * The configuration as it is written, every key with its default: interface of the program, "Configuration". Which keys
 * `issuer` takes, and whether there is `auth`, depends on `issuer.command`.
 */
export const configSchema = v.lazy((input) => (hasCommand(input) ? byCommand : overHttp))

/** Whether a program takes the issuer's place. */
export function hasCommand(tree: unknown): boolean {
  return isTree(tree) && hasPath(tree, ['issuer', 'command'])
}

/** The checked configuration, still by the names of the file. */
export type Settings = v.InferOutput<typeof configSchema>

type CheckedTree =
  | { readonly ok: true; readonly settings: Settings }
  | { readonly ok: false; readonly problems: readonly KeyProblem[] }

/** Check everything that can be checked without looking at the host: all problems at once. Never throws. */
export function checkTree(tree: Tree): CheckedTree {
  const unknown = findUnknownKeys(configSchema, tree)
  // So that a missing section is reported by the keys that are required in it.
  const required = hasCommand(tree) ? {} : { issuer: {}, auth: {} }
  const result = v.safeParse(configSchema, { ...required, ...tree })
  if (result.success && unknown.length === 0) return { ok: true, settings: result.output }
  const issues = (result.issues ?? []).map((issue) => ({ keys: keysOf(issue), message: issue.message }))
  return { ok: false, problems: [...unknown, ...issues] }
}

function keysOf(issue: v.BaseIssue<unknown>): KeyPath {
  return (issue.path ?? []).map(({ key }) => (typeof key === 'number' ? key : String(key)))
}

function readCron(expression: string): Reading<string> {
  const problem = checkCron(expression)
  return problem === null ? value(expression) : mustBe(`a cron expression (${problem})`, expression)
}

/** The loop must look often enough to notice a lost event, a suspend or a step of the clock. */
const LONGEST_TICK_GAP_SECONDS = 300

function readTick(expression: string): Reading<{ expression: string; gapSeconds: number }> {
  const cron = readCron(expression)
  if (!cron.ok) return cron
  const gapSeconds = longestGapSeconds(expression)
  if (gapSeconds > LONGEST_TICK_GAP_SECONDS)
    return mustBe(
      `at least every ${LONGEST_TICK_GAP_SECONDS / 60} minutes, all day and every day`,
      expression,
    )
  return value({ expression, gapSeconds })
}

/** What the settings are to be read against. */
interface ConfigContext extends CredentialContext {
  /** The file of the pinned host CAs when the configuration names none; null when it does not exist. */
  readonly defaultHostCaFile: string | null
}

/** The issuer has a minute of each pass; a longer wait for one answer is never waited out. */
export const LONGEST_TIMEOUT_SECONDS = 60

/** The configuration by the names that the program uses. */
export function toConfig(settings: Settings, context: ConfigContext): Config {
  const { renewal, verify, sshd, user_ca: policy } = settings
  return {
    issuer: toIssuer(settings, context),
    hostKeys: settings.host_keys,
    certificates: settings.certificates,
    renewal: {
      window: renewal.window,
      jitterRatio: renewal.jitter,
      tick: renewal.tick.expression,
      tickGapSeconds: renewal.tick.gapSeconds,
      maintenance: renewal.maintenance,
    },
    verify: {
      hostCaFile: verify.host_ca_file ?? context.defaultHostCaFile,
      principals: verify.principals ?? null,
    },
    sshd: {
      address: sshd.address,
      reload: sshd.reload,
      reloadCommand: sshd.reload_command ?? null,
    },
    health: { listen: settings.health.listen, hosts: settings.health.hosts ?? [] },
    log: settings.log,
    enrollment: { onCopy: settings.enrollment.on_copy },
    userCa: {
      install: policy.install,
      overlapSeconds: policy.overlap,
      fingerprints: policy.fingerprints ?? [],
      revoked: policy.revoked ?? [],
    },
    stateDirectory: settings.state_directory,
  }
}

function toIssuer(settings: Settings, context: ConfigContext): IssuerConfig {
  const timeoutMilliseconds = Math.min(settings.issuer.timeout, LONGEST_TIMEOUT_SECONDS) * 1000
  if (settings.auth === undefined)
    return { kind: 'command', command: settings.issuer.command, timeoutMilliseconds }
  const { issuer } = settings
  return {
    kind: 'http',
    url: issuer.url,
    sshHostId: issuer.ssh_host_id,
    caFile: issuer.ca_file ?? null,
    timeoutMilliseconds,
    auth: settings.auth({ ...context, issuerUrl: issuer.url }),
  }
}
