import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Config, UserCaPolicy } from '../../agent/config/config.ts'
import { type CaRefreshTools, refreshCas } from '../../agent/enroll/ca-refresh.ts'
import type { UserCaPlaces } from '../../agent/enroll/user-ca-in-place.ts'
import { ManualClock } from '../fakes/manual-clock.ts'
import { RecordingLog } from '../fakes/recording-log.ts'
import { type PrivateSshd, startPrivateSshd } from '../support/private-sshd.ts'
import { connect } from '../support/private-sshd/client.ts'
import { generateKey, signCertificate } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

export const DAY = 86_400
const NEVER = new AbortController().signal
const run = promisify(execFile)

/** A host with a real sshd, whose user CAs `ca refresh` keeps in places of the test. */
export interface UserCaHost extends AsyncDisposable {
  readonly sshd: PrivateSshd
  readonly folder: string
  readonly places: UserCaPlaces
  readonly clock: ManualClock
  readonly log: RecordingLog
  /** One run, with what the issuer says. */
  refresh(source: CaRefreshTools['source'], wish?: Wish): Promise<boolean>
  /** A new CA. @returns its public key line, without a comment */
  makeCa(name: string): Promise<string>
  /** Whether a user certificate of this CA logs in. */
  logsIn(ca: string): Promise<boolean>
  /** The file of the CAs without its comment; null when there is none. */
  keys(): Promise<readonly string[] | null>
  status(): Promise<unknown>
}

export interface Wish extends Partial<UserCaPolicy> {
  readonly install?: boolean
  /** Instead of the real one. */
  readonly reload?: CaRefreshTools['reloadSshd']
  /** `sshd.reload`. */
  readonly reloads?: Config['sshd']['reload']
  readonly hostCaFile?: string
  readonly sshHostId?: string
  readonly reloadCommand?: readonly string[]
  /** As the timer runs it; else as with `--now`. */
  readonly isByTimer?: boolean
}

/** @param extraConfig first in sshd's configuration, before the drop-ins */
export async function makeUserCaHost(extraConfig = ''): Promise<UserCaHost> {
  const folder = await makeTemporaryFolder()
  const at = (name: string): string => join(folder.path, name)
  await mkdir(at('sshd_config.d'))
  const include = `Include ${at('sshd_config.d')}/*.conf`
  const sshd = await startPrivateSshd({
    folder: folder.path,
    hostKeyTypes: ['ed25519'],
    certificateDirectory: null,
    extraConfig: extraConfig === '' ? include : `${extraConfig}\n${include}`,
  })
  const places = {
    sshdConfig: sshd.configPath,
    file: at('hostcertd/user-ca.pub'),
    dropIn: at('sshd_config.d/41-hostcertd-user-ca.conf'),
    status: at('enroll/ca-status.json'),
    lockFolder: at('lock'),
  }
  const clock = new ManualClock(20_000 * DAY)
  const log = new RecordingLog()
  const reloadSshd = async (): Promise<string | null> =>
    run(sshd.reloadScript).then(
      () => null,
      (error: unknown) => String(error),
    )
  return {
    sshd,
    folder: folder.path,
    places,
    clock,
    log,
    refresh: async (source, { install = true, reload = reloadSshd, ...wish } = {}) => {
      const config = {
        issuer: { kind: 'http', sshHostId: wish.sshHostId ?? '' },
        sshd: { reload: wish.reloads ?? 'auto', reloadCommand: wish.reloadCommand ?? null },
        verify: { hostCaFile: wish.hostCaFile ?? null },
        userCa: { install, overlapSeconds: 14 * DAY, fingerprints: [], revoked: [], ...wish },
      } as unknown as Config
      const tools = { clock, log, source, reloadSshd: reload, places }
      return refreshCas(config, tools, wish.isByTimer !== true, NEVER)
    },
    makeCa: async (name) => generateKey(at(name), 'ed25519', ''),
    logsIn: async (ca) => {
      const key = at(`client-${ca}`)
      const publicKey = await generateKey(key, 'ed25519')
      const principals = [userInfo().username]
      const certificate = await signCertificate({ ca: at(ca), publicKey, kind: 'user', principals })
      await writeFile(`${key}-cert.pub`, `${certificate}\n`)
      const wish = { knownHosts: '', hostname: 'host1', strict: false }
      return (await connect(sshd.port, key, wish)).status === 0
    },
    keys: async () => {
      const text = await readFile(places.file, 'utf8').catch(() => null)
      return text?.split('\n').filter((line) => line !== '' && !line.startsWith('#')) ?? null
    },
    status: async () => JSON.parse(await readFile(places.status, 'utf8')) as unknown,
    [Symbol.asyncDispose]: async () => {
      await sshd.stop()
      await folder.remove()
    },
  }
}
