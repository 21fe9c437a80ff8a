import { resolve } from 'node:path'
import { reasonOf, systemCodeOf } from '../cert/text.ts'
import { replaceFile } from '../host/files.ts'
import {
  type CliContext,
  configForVerb,
  type ConfigOption,
  EXIT,
  notEnrolledLine,
  readConfig,
  VerbError,
} from './context.ts'

export interface KrlOptions extends ConfigOption {
  /** Left out: this host. */
  readonly hostId?: readonly string[]
}

/** Clients read it as any user. */
const FILE_MODE = 0o644
/** Stands for standard output. */
const STDOUT = '-'
/**
 * Where only root may write. The shell empties what it redirects to before `krl` begins, and with an empty list ssh
 * accepts every host; with one that it cannot read, none.
 */
const AS_ROOT = '`hostcertd krl - >FILE.new && chmod 644 FILE.new && mv FILE.new FILE`'

/** `krl`: a revocation list for `RevokedHostKeys` of ssh_config(5), by the key ids that the issuer gives: `host-<id>`. */
export async function krl(context: CliContext, file: string, options: KrlOptions): Promise<number> {
  const keyIds = (await hostIds(context, options)).map((id) => `host-${id.toLowerCase()}`)
  let list: Buffer
  try {
    list = await context.makeRevocationList(keyIds)
  } catch (error) {
    throw new VerbError(`cannot make the revocation list: ${reasonOf(error)}`)
  }
  if (file === STDOUT) context.out(list)
  else await write(resolve(file), list)
  const name = file === STDOUT ? 'the list' : file
  context.err(
    [
      `${name} revokes every certificate with the key id ${keyIds.join(', ')}, and no plain host key`,
      'copy it to a client before you set RevokedHostKeys there: if that file is missing, ssh refuses every host',
    ].join('\n'),
  )
  return EXIT.ok
}

/** Of this host, or as asked for: then the configuration serves only to name the user to become. */
async function hostIds(context: CliContext, options: KrlOptions): Promise<readonly string[]> {
  const { path, loaded } = await readConfig(context, options, false)
  if (loaded.kind === 'ok') await context.dropPrivileges(loaded.config.stateDirectory)
  if (options.hostId !== undefined) return options.hostId
  const config = await configForVerb(context, options)
  if (config === null) throw new VerbError(`${notEnrolledLine(path)}; name the host: --host-id ID`)
  if (config.issuer.kind === 'http') return [config.issuer.sshHostId]
  throw new VerbError(
    'certificates of issuer.command have the key ids of that CA, see `hostcertd inspect`: revoke them by `ssh-keygen -k`',
  )
}

async function write(path: string, list: Buffer): Promise<void> {
  try {
    await replaceFile(path, list, FILE_MODE)
  } catch (error) {
    const isDenied = systemCodeOf(error) === 'EACCES'
    const advice = isDenied ? `; as root, write it with ${AS_ROOT}` : ''
    throw new VerbError(`cannot write ${path}: ${reasonOf(error)}${advice}`)
  }
}
