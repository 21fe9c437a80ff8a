import { AgentError } from '../cert/errors.ts'
import { ENROLLMENT_FILE, readEnrollment } from '../host/enrollment.ts'
import { configuredWith, type Current, readCurrent, readPinned, refuseOneHost } from './current.ts'
import { stateOf } from './facts.ts'
import { loginSettings, type LoginSettings, readSecrets } from './login-settings.ts'
import { fileChange, proxyChange, SECRET } from './plan-files.ts'
import { registeredIn } from './registering.ts'
import { agrees, isReadOnly, type Step, stepsOf } from './show.ts'
import { type Template, TEMPLATE_FILE, templateText } from './template.ts'
import { isUnfinished, makeOrUndo, UNDO_STEP, undoEarlier } from './undoing.ts'
import {
  DEFAULTS_FILE,
  type EnrollOptions,
  type EnrollTools,
  NO_HOST,
  settingsOf,
  USUAL_JITTER_SECONDS,
} from './wanted.ts'

/** The result of {@link prepareImage}. */
export interface Prepared {
  readonly changed: boolean
  readonly steps: readonly Step[]
  /** False: there are changes to make, and they were not made because that was not permitted. */
  readonly isDone: boolean
}

/** The configuration is checked with this name, which is of no machine. */
const EXAMPLE_NAME = 'host.example.com'
/** With these, all copies log in with the same secret, and not with what the platform gives to each machine. */
const SHARED_METHODS: readonly string[] = ['universal-auth', 'token']

/**
 * `enroll --template`: write down what `hostcertd-enroll.service` does at the first boot of each copy of this machine.
 * Nothing is asked of the issuer, and nothing of this machine is in it.
 *
 * @param isShared whether secrets may be in the image
 * @throws AgentError; the signal's reason
 */
export async function prepareImage(
  options: EnrollOptions,
  isShared: boolean,
  tools: EnrollTools,
  signal: AbortSignal,
): Promise<Prepared> {
  const { person, environment } = tools
  if ((await readEnrollment().catch(() => 'damaged')) !== null)
    throw new AgentError(
      'CONFIG_INVALID',
      `this machine is enrolled itself (${ENROLLMENT_FILE}), and each copy would be mistaken for it: run \`hostcertd unenroll\` first`,
    )
  const isToUndo = isUnfinished(tools.journal) && isReadOnly(options.mode)
  await undoEarlier(tools, options.mode)
  await refuseOneHost()
  const current = await readCurrent(tools)
  const login = loginSettings(options, current.method)
  const proxy = proxyChange(environment, await stateOf(DEFAULTS_FILE))
  const hasSecrets = login.secrets.length > 0 || proxy?.isSecret === true
  if (!isShared && (hasSecrets || SHARED_METHODS.includes(options.method ?? '')))
    throw new AgentError(
      'CONFIG_INVALID',
      'every copy of the image would have the same secret: log in by what the platform gives to each machine (aws, gcp, azure, kubernetes, …), or add --shared-secret',
    )
  await checkConfiguration(options, current, login, environment)

  const content = templateText(templateOf(options, login, await readSecrets(login, person, signal)))
  const file = fileChange(
    { step: 'write the template', path: TEMPLATE_FILE, content, mode: SECRET, isSecret: hasSecrets },
    await stateOf(TEMPLATE_FILE),
  )
  const changes = [file, proxy].filter((change) => change !== null)
  const steps = [...(isToUndo ? [UNDO_STEP] : []), ...stepsOf(changes)]
  const prepared = { changed: steps.length > 0, steps }
  if (changes.length === 0) {
    if (!isReadOnly(options.mode)) await forgetHosts(tools)
    return { ...prepared, isDone: !isToUndo }
  }
  if (!(await agrees(options.mode, changes, person, signal))) return { ...prepared, isDone: false }
  await makeOrUndo(tools, async (run) => {
    for (const change of changes) await run.make(change)
  })
  await forgetHosts(tools)
  return { ...prepared, isDone: true }
}

/** A copy is none of the hosts that this machine registered. */
async function forgetHosts({ journal, person }: Pick<EnrollTools, 'journal' | 'person'>): Promise<void> {
  const ids = registeredIn(journal.runs)
  await journal.setRegistrations([])
  if (ids.length > 0)
    person.print(
      `note: copies of this machine are not the host that it registered (${ids.join(', ')}): delete that at the issuer if nothing uses it`,
    )
}

function templateOf(
  options: EnrollOptions,
  { settings }: LoginSettings,
  secrets: Template['secrets'],
): Template {
  const auth = Object.fromEntries(
    settings.flatMap(([[, name], value]) =>
      name === undefined || value === null || typeof value === 'boolean' ? [] : [[name, value] as const],
    ),
  )
  return {
    version: 1,
    url: options.url,
    project: options.project,
    register: options.register && { ttl: options.register.ttl },
    auth: auth as unknown as Template['auth'],
    secrets,
    ca_file: options.caFile,
    ca_fingerprints: [...options.caFingerprints],
    take_over: options.takeOver,
    on_copy: options.onCopy,
    ephemeral: options.ephemeral === true,
    jitter_seconds: options.jitterSeconds ?? USUAL_JITTER_SECONDS,
    wait_seconds: options.waitSeconds,
  }
}

/** Check the configuration that each copy will have: at the first boot, no person is there to correct it. */
async function checkConfiguration(
  options: EnrollOptions,
  current: Current,
  { settings }: LoginSettings,
  environment: EnrollTools['environment'],
): Promise<void> {
  const { config } = await configuredWith(
    current,
    [
      ...settingsOf(options, settings),
      [['issuer', 'ssh_host_id'], NO_HOST],
      [['verify', 'principals'], [EXAMPLE_NAME]],
    ],
    environment,
  )
  await readPinned(config)
}
