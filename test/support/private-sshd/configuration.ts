import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** sshd re-executes itself at a reload: it must be started by its absolute path. */
export const SSHD = '/usr/sbin/sshd'

/** The folder of a private sshd and what is in it. All paths are absolute, for the same reason. */
export interface SshdPaths {
  readonly folder: string
  readonly config: string
  readonly pid: string
  readonly log: string
  readonly authorizedKeys: string
  readonly clientKey: string
  readonly reloadScript: string
  readonly reloadCounter: string
}

export function pathsIn(folder: string): SshdPaths {
  return {
    folder,
    config: join(folder, 'sshd_config'),
    pid: join(folder, 'sshd.pid'),
    log: join(folder, 'sshd.log'),
    authorizedKeys: join(folder, 'authorized_keys'),
    clientKey: join(folder, 'client_key'),
    reloadScript: join(folder, 'reload-sshd'),
    reloadCounter: join(folder, 'reloads'),
  }
}

export interface SshdSettings {
  readonly port: number
  /** Private halves. */
  readonly hostKeys: readonly string[]
  readonly hostCertificates: readonly string[]
  /** Comes first, for sshd takes the first value of most keywords. */
  readonly extraConfig: string
}

/** Write `sshd_config`; what is not said there is sshd's default. */
export async function writeConfiguration(paths: SshdPaths, settings: SshdSettings): Promise<void> {
  const lines = [
    settings.extraConfig,
    `Port ${settings.port}`,
    'ListenAddress 127.0.0.1',
    `PidFile ${paths.pid}`,
    ...settings.hostKeys.map((path) => `HostKey ${path}`),
    ...settings.hostCertificates.map((path) => `HostCertificate ${path}`),
    `AuthorizedKeysFile ${paths.authorizedKeys}`,
    'PermitRootLogin yes',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    // An ordinary user can run sshd only without PAM, and folders for temporary files have the wrong modes.
    'UsePAM no',
    'StrictModes no',
    'MaxStartups 100:30:200',
    ...((await knowsPenalties()) ? ['PerSourcePenalties no'] : []),
  ]
  await writeFile(paths.config, `${lines.filter((line) => line !== '').join('\n')}\n`)
}

/**
 * Write the script that reloads this sshd, for `reload_command`: 78 and sshd's own words when the configuration is bad,
 * 1 when no sshd runs. Each reload adds a line to a file.
 */
export async function writeReloadScript(paths: SshdPaths): Promise<void> {
  const script = `#!/bin/sh
set -u
'${SSHD}' -t -f '${paths.config}' || exit 78
kill -HUP "$(cat '${paths.pid}')" || exit 1
echo reloaded >>'${paths.reloadCounter}'
`
  await writeFile(paths.reloadScript, script, { mode: 0o755 })
}

/** Since OpenSSH 9.8 an address that scans often is shut out for a while; older ones do not know the keyword. */
async function knowsPenalties(): Promise<boolean> {
  return await new Promise((resolve) => {
    const options = ['-T', '-f', '/dev/null', '-o', 'PerSourcePenalties=no']
    execFile(SSHD, options, (_error, _stdout, stderr) => {
      resolve(!stderr.includes('Bad configuration option'))
    })
  })
}
