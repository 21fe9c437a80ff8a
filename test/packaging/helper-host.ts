import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { COPIES_DIRECTORY, dropInText } from '../../agent/host/sshd.ts'
import { tryCommand, type Outcome } from '../host/support/commands.ts'
import { generateKey, signCertificate, type KeyType, type SignOptions } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

/**
 * The root helper as it is, at the paths that it knows, on a host of its own: a mount namespace in which /etc/ssh,
 * /var/lib and /run are folders of the test. systemd cannot be had there; `systemctl` is a script of the test.
 */
export interface HelperHost extends AsyncDisposable {
  /** /etc/ssh. */
  readonly ssh: string
  /** /var/lib/hostcertd/certs. */
  readonly staged: string
  /** Say something to the helper. */
  ask(words: string, options?: AskOptions): Promise<Outcome>
  /** The helper's RuntimeDirectory, which outlives each of its runs. */
  readonly runtime: string
  /** Sign the public half NAME.pub of a host key. @returns the certificate with its newline */
  sign(name: string, wish?: Partial<SignOptions>): Promise<string>
  /** The same, and stage it as NAME-cert.pub. */
  stage(name: string, wish?: Partial<SignOptions>): Promise<string>
  /** What sshd is given: `FILE: TEXT` for each copy and the drop-in. */
  installed(): Promise<Readonly<Record<string, string>>>
  /** What `systemctl` was told, a line each, without questions. */
  orders(): Promise<readonly string[]>
  /** How `systemctl` answers: shell, with `$*` what was asked. */
  systemctl(script: string): Promise<void>
  addHostKey(name: string, type: KeyType): Promise<void>
}

export interface AskOptions {
  /** Shell that root runs in the host before. */
  readonly before?: string
  /** The shell that runs the helper, its arguments too. */
  readonly shell?: readonly string[]
}

export const DROP_IN = 'sshd_config.d/40-hostcertd.conf'
const HELPER = resolve('systemd/reload-helper')
/** Arguments: the test's folder, the shell and its arguments. */
const ENTER = `
root=$1; shift
mount --bind "$root/ssh" /etc/ssh
mount -t tmpfs -o mode=755 tmpfs /var/lib
mkdir -p /var/lib/hostcertd/certs
mount --bind "$root/certs" /var/lib/hostcertd/certs
mount --bind "$root/systemctl" "$(command -v systemctl || echo /usr/bin/systemctl)"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/test /run/hostcertd-reload
mount --bind "$root" /run/test
mount --bind "$root/runtime" /run/hostcertd-reload
eval "$BEFORE"
exec "$@"
`
const INACTIVE = 'exit 3'

export async function makeHelperHost(): Promise<HelperHost> {
  const folder = await makeTemporaryFolder()
  const [ssh, staged] = [join(folder.path, 'ssh'), join(folder.path, 'certs')]
  await mkdir(join(ssh, 'sshd_config.d'), { recursive: true })
  await mkdir(staged)
  await mkdir(join(folder.path, 'runtime'))
  await writeFile(join(ssh, 'sshd_config'), 'Include /etc/ssh/sshd_config.d/*.conf\n')
  await generateKey(join(folder.path, 'ca'), 'ed25519')
  const host = hostIn(folder, ssh, staged)
  await host.systemctl(INACTIVE)
  await host.addHostKey('ssh_host_ed25519_key', 'ed25519')
  await host.addHostKey('ssh_host_ecdsa_key', 'ecdsa')
  return host
}

function hostIn(folder: TemporaryFolder, ssh: string, staged: string): HelperHost {
  const ordersFile = join(folder.path, 'orders')
  const sign: HelperHost['sign'] = async (name, wish = {}) => {
    const publicKey = wish.publicKey ?? (await readFile(join(ssh, `${name}.pub`), 'utf8')).trimEnd()
    const options = { ca: join(folder.path, 'ca'), principals: ['web1'], ...wish, publicKey }
    return `${await signCertificate(options)}\n`
  }
  return {
    ssh,
    staged,
    runtime: join(folder.path, 'runtime'),
    sign,
    ask: (words, { before = '', shell = ['sh'] } = {}) =>
      tryCommand(
        [
          'unshare',
          '--mount',
          // Whatever a test leaves running in the host ends with the helper.
          '--pid',
          '--fork',
          '--kill-child',
          '--propagation',
          'private',
          'sh',
          '-euc',
          ENTER,
          'sh',
          folder.path,
          ...shell,
          HELPER,
        ],
        { input: words, env: { ...process.env, BEFORE: before }, timeout: 60_000 },
      ),
    stage: async (name, wish = {}) => {
      const certificate = await sign(name, wish)
      await writeFile(join(staged, `${name}-cert.pub`), certificate)
      return certificate
    },
    installed: async () => {
      const copies = (await readdir(join(ssh, 'hostcertd')).catch(() => [])).map(
        (file) => `hostcertd/${file}`,
      )
      const dropIns = (await readdir(join(ssh, 'sshd_config.d'))).map((file) => `sshd_config.d/${file}`)
      const files = [...copies, ...dropIns].sort()
      const texts = files.map(async (file) => [file, await readFile(join(ssh, file), 'utf8')])
      return Object.fromEntries(await Promise.all(texts)) as Record<string, string>
    },
    orders: async () => (await readFile(ordersFile, 'utf8').catch(() => '')).split('\n').slice(0, -1),
    systemctl: (script) =>
      writeFile(
        join(folder.path, 'systemctl'),
        `#!/bin/sh\ncase "$*" in reload*|try-restart*) echo "$*" >>/run/test/orders ;; esac\n${script}\n`,
        { mode: 0o755 },
      ),
    addHostKey: async (name, type) => {
      await generateKey(join(ssh, name), type)
    },
    [Symbol.asyncDispose]: async () => {
      await rm(ordersFile, { force: true })
      await folder.remove()
    },
  }
}

/**
 * Shell for {@link AskOptions.before}: PROGRAM runs `lines` first, which may end it; the program itself is then at
 * `$program`.
 */
export function inFrontOf(program: string, lines: string): string {
  return `mkdir -p /run/bin; cp ${program} /run/bin/; cat >/run/bin/in-front <<'END'
#!/bin/sh
program=/run/bin/${basename(program)}
${lines}
exec "$program" "$@"
END
chmod 755 /run/bin/in-front; mount --bind /run/bin/in-front ${program}`
}

/** Shell for {@link AskOptions.before}: `sshd -T` says this, whatever sshd_config has. */
export async function sshdThatSays(host: HelperHost, text: string): Promise<string> {
  await writeFile(join(host.ssh, 'sshd-T'), text)
  return inFrontOf('/usr/sbin/sshd', 'case $1 in -T) exec cat /etc/ssh/sshd-T ;; esac')
}

/** What `sshd -T` of an OpenSSH says with copies in place, recorded. */
export function recordedSettings(version: string): Promise<string> {
  return readFile(`test/fixtures/openssh/${version}/sshd-T.with-certificates`, 'utf8')
}

const LISTEN = 'listen=\\[::\\]:22,0\\.0\\.0\\.0:22'
/** The drop-in's text for these copies, as the daemon expects it to be. */
export const dropInFor = (...names: string[]): string | null =>
  dropInText(
    COPIES_DIRECTORY,
    names.map((name) => `${name}-cert.pub`),
  )

/** An answer with what sshd listens on by default; `rest` is part of a pattern. */
export function answer(verdict: string, rest: string): RegExp {
  return new RegExp(`^${verdict} (?:${LISTEN}|listen=0\\.0\\.0\\.0:22,\\[::\\]:22) ?${rest.trimStart()}\\n$`)
}
