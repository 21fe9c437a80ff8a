import * as v from 'valibot'
import { AgentError } from '../cert/errors.ts'
import { readCertificateTtl } from '../cert/host-name.ts'
import { reasonOf } from '../cert/text.ts'
import { ALIAS, PROJECT_ID } from '../issuer/host-questions.ts'
import { readFileState } from './files.ts'
import { LOGIN_METHODS } from './login-options.ts'
import { type EnrollOptions, USUAL_JITTER_SECONDS, USUAL_WAIT_SECONDS } from './wanted.ts'

/** In an image: what each copy does at its first boot. Only root can read it, because it may contain secrets. */
export const TEMPLATE_FILE = '/etc/hostcertd/enroll.json'
/** On a machine with `--ephemeral`: how it is registered again when it boots after a power-off. */
export const RETURN_FILE = '/var/lib/hostcertd-enroll/ephemeral.json'
const LARGEST_BYTES = 256 * 1024

const LONGEST_SECONDS = 24 * 3600

/** One line without controls. */
const line = v.pipe(v.string(), v.regex(/^[^\p{C}\p{Zl}\p{Zp}]+$/u), v.maxLength(4096))
const seconds = (most: number) => v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(most))
const ttl = v.pipe(
  line,
  v.check((text) => readCertificateTtl(text).ok),
)

/** Only of one machine that comes back, never of an image. */
const alias = v.pipe(v.string(), v.regex(ALIAS))

/** Defaults are those of `enroll` itself. Unknown names are errors. */
const templateSchema = v.strictObject({
  version: v.literal(1),
  url: v.optional(v.nullable(line), null),
  project: v.optional(v.nullable(v.pipe(v.string(), v.regex(PROJECT_ID))), null),
  register: v.optional(
    v.nullable(v.strictObject({ ttl: v.optional(v.nullable(ttl), null), alias: v.exactOptional(alias) })),
    null,
  ),
  /** As in the configuration file. */
  auth: v.optional(
    v.nullable(v.objectWithRest({ method: v.picklist(LOGIN_METHODS) }, v.union([line, v.array(line)]))),
    null,
  ),
  /** The text of each `credential:NAME`. */
  secrets: v.optional(
    v.record(v.pipe(v.string(), v.regex(/^[\w-][\w.-]*$/)), v.pipe(v.string(), v.minLength(1))),
    {},
  ),
  ca_file: v.optional(v.nullable(line), null),
  ca_fingerprints: v.optional(v.array(v.pipe(v.string(), v.regex(/^SHA256:[\w+/]{43}$/))), []),
  take_over: v.optional(v.boolean(), false),
  on_copy: v.optional(v.nullable(v.picklist(['warn', 'stop'])), null),
  ephemeral: v.optional(v.boolean(), false),
  jitter_seconds: v.optional(seconds(LONGEST_SECONDS), USUAL_JITTER_SECONDS),
  wait_seconds: v.optional(seconds(LONGEST_SECONDS), USUAL_WAIT_SECONDS),
})

/** The content of `enroll.json`: the options of `enroll` except those that name one machine. */
export type Template = v.InferOutput<typeof templateSchema>

export function templateText(template: Template): string {
  return `${JSON.stringify(template, null, 2)}\n`
}

/**
 * @returns null when there is none
 * @throws AgentError CONFIG_INVALID when it cannot be used, or another user than root may have written or read it
 */
export async function readTemplate(path: string): Promise<Template | null> {
  try {
    const state = await readFileState(path, LARGEST_BYTES)
    if (state === null) return null
    if (state.uid !== (process.geteuid?.() ?? 0)) throw new Error('it is not owned by root')
    if ((state.mode & 0o077) !== 0)
      throw new Error('users other than root can read or write it: run chmod 600')
    return v.parse(templateSchema, JSON.parse(state.content.toString('utf8')))
  } catch (error) {
    const where = v.isValiError(error) ? (v.getDotPath(error.issues[0]) ?? 'the document') : null
    const why =
      where === null
        ? error instanceof SyntaxError
          ? 'it is not JSON'
          : reasonOf(error)
        : `${where} is not valid`
    throw new AgentError('CONFIG_INVALID', `cannot use ${path}: ${why}`, { cause: error })
  }
}

/** The content of `ephemeral.json`; the rest is in the configuration by then. */
export function returnText({ project, register, jitterSeconds, waitSeconds }: EnrollOptions): string {
  const again = register && {
    ttl: register.ttl,
    ...(register.alias === null ? {} : { alias: register.alias }),
  }
  const back = { project, register: again, wait_seconds: waitSeconds }
  const jitter = { jitter_seconds: jitterSeconds ?? USUAL_JITTER_SECONDS }
  return `${JSON.stringify({ version: 1, ...back, ...jitter, ephemeral: true }, null, 2)}\n`
}

/** The options that it stands for. */
export function optionsOf(template: Template): EnrollOptions {
  const { method = null, ...login } = template.auth ?? {}
  return {
    url: template.url,
    hostId: null,
    project: template.project,
    hostname: null,
    register: template.register && { ttl: template.register.ttl, alias: template.register.alias ?? null },
    fromCertificate: false,
    method,
    login,
    adminTokenFile: null,
    caFile: template.ca_file,
    caFingerprints: template.ca_fingerprints,
    takeOver: template.take_over,
    onCopy: template.on_copy,
    mode: 'yes',
    waitSeconds: template.wait_seconds,
    jitterSeconds: template.jitter_seconds,
    ephemeral: template.ephemeral,
    atBoot: { secrets: template.secrets },
  }
}
