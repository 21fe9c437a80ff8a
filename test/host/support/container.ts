import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, open, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { command, tryCommand, type CommandOptions, type Outcome } from './commands.ts'
import { eventually } from './eventually.ts'
import type { Janitor } from './janitor.ts'
import type { Network } from './network.ts'

/** What is to be booted, and where. */
export interface ContainerParts {
  /** Of this test's own; the name of its cgroup. */
  readonly name: string
  /** An existing folder for its files. */
  readonly folder: string
  /** The root file system that it starts from, which stays as it is. */
  readonly baseRoot: string
  readonly network: Network
  readonly janitor: Janitor
  /** The short name of the host; `web1` when left out. */
  readonly shortName?: string
}

const BOOT_MILLISECONDS = 60_000
const STOP_MILLISECONDS = 60_000

/** What a login shell of root has; nothing of the test's own environment gets in. */
const ENVIRONMENT = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  LC_ALL: 'C.UTF-8',
  DEBIAN_FRONTEND: 'noninteractive',
}

/**
 * A host that boots real systemd. Its files outlive {@link powerOff}; the janitor removes all.
 *
 * Seen to work with systemd-nspawn 252 as root on a machine without systemd and with the old and the new cgroup
 * hierarchy side by side. Each container needs a cgroup of its own, or its systemd would take over the one of the test.
 * The old hierarchies keep the memory and pids controllers to themselves: MemoryMax and TasksMax do nothing in here.
 */
export class Container {
  /** As seen from outside; /run and /tmp are file systems of the container's own and not in here. */
  readonly root: string
  readonly #parts: ContainerParts
  #nspawn: ChildProcess | null = null
  #leader = 0

  /** @param parts see {@link prepare}, which comes first */
  constructor(parts: ContainerParts) {
    this.#parts = parts
    this.root = join(parts.folder, 'root')
  }

  /** Make the root file system: an overlay, so that it costs nothing; where there is none (in a container), a copy. */
  async prepare(): Promise<void> {
    const { baseRoot, folder, janitor } = this.#parts
    const [upper, work] = [join(folder, 'upper'), join(folder, 'work')]
    for (const path of [this.root, upper, work]) await mkdir(path)
    janitor.remember('mount', this.root)
    const layers = `lowerdir=${baseRoot},upperdir=${upper},workdir=${work}`
    const mounted = await tryCommand(['mount', '-t', 'overlay', 'overlay', '-o', layers, this.root])
    if (mounted.status === 0) return
    await command(['mount', '--bind', this.root, this.root])
    await command(['cp', '-a', '--reflink=auto', `${baseRoot}/.`, this.root])
  }

  /** Start it, and wait until systemd has nothing left to start. @throws when it does not get there */
  async boot(): Promise<void> {
    await this.startBooting()
    await eventually('the container has booted', BOOT_MILLISECONDS, async () => {
      const { stdout } = await this.try(['systemctl', 'is-system-running', '--wait'])
      return /^(running|degraded)/.test(stdout)
    })
  }

  /** Start it, and wait only until programs can be run in it. */
  async startBooting(): Promise<void> {
    const { name, network, janitor, folder, shortName = 'web1' } = this.#parts
    janitor.remember('cgroup', name)
    const cgroup = join(cgroupTop(), name)
    await mkdir(cgroup, { recursive: true })
    const log = await open(join(folder, 'console'), 'a')
    const options = [`--directory=${this.root}`, '--register=no', '--keep-unit', '--console=pipe', '--boot']
    // As on a machine of its own; systemd gives it by itself with --private-network only.
    options.push('--capability=CAP_NET_ADMIN')
    options.push('--quiet', `--hostname=${shortName}`, `--network-namespace-path=/run/netns/${network.host}`)
    // The shell moves itself, then becomes systemd-nspawn: no moment outside the cgroup.
    const script = 'echo $$ >"$0/cgroup.procs" && exec systemd-nspawn "$@"'
    this.#nspawn = spawn('sh', ['-c', script, cgroup, ...options], {
      env: { ...process.env, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: '1' },
      stdio: ['ignore', log.fd, log.fd],
    })
    await log.close()
    const { pid } = this.#nspawn
    this.#leader = await eventually(`systemd in ${this.root} has started`, BOOT_MILLISECONDS, async () => {
      const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')
      const leader = Number(children.trim())
      return leader > 0 && /^systemd$/m.test(await readFile(`/proc/${leader}/comm`, 'utf8')) && leader
    })
    await eventually('systemd answers', BOOT_MILLISECONDS, async () => {
      return (await this.try(['systemctl', 'show', '--property=Version'])).status === 0
    })
  }

  /** Stop it as an administrator does. */
  async powerOff(): Promise<void> {
    await this.#end('poweroff')
  }

  /** Reboot it as an administrator does. */
  async reboot(): Promise<void> {
    await this.#end('reboot')
    await this.boot()
  }

  /** With a cgroup that is not systemd's, systemd-nspawn ends at a reboot too. */
  async #end(how: 'poweroff' | 'reboot'): Promise<void> {
    if (this.#nspawn === null) return
    const ended = this.#nspawn.exitCode === null ? once(this.#nspawn, 'exit') : Promise.resolve()
    // systemd may be gone before it has answered.
    await this.try(['systemctl', how, '--no-block'])
    const limit = AbortSignal.timeout(STOP_MILLISECONDS)
    await Promise.race([ended, once(limit, 'abort').then(() => Promise.reject(limit.reason))])
    this.#nspawn = null
  }

  /** Stop it as a power cut does; {@link boot} starts it again. */
  async cutPower(): Promise<void> {
    if (this.#nspawn === null) return
    const ended = once(this.#nspawn, 'exit')
    process.kill(this.#leader, 'SIGKILL')
    await ended
    this.#nspawn = null
  }

  /** Run a program in the container, as root. @throws when it fails */
  async run(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
    return await command(this.#inside(argv), { env: ENVIRONMENT, ...options })
  }

  /**
   * Run a program in the container, as root, and look at how it ends.
   *
   * @param around a program outside that runs it, a tracer say
   */
  async try(
    argv: readonly string[],
    options: CommandOptions = {},
    around: readonly string[] = [],
  ): Promise<Outcome> {
    return await tryCommand([...around, ...this.#inside(argv)], { env: ENVIRONMENT, ...options })
  }

  /** Run a few lines of shell in the container, as root. @throws when they fail */
  async sh(script: string, options: CommandOptions = {}): Promise<string> {
    return await this.run(['sh', '-euc', script], options)
  }

  /** Write a file in the container, with folders as needed. */
  async write(path: string, content: string, mode = 0o644): Promise<void> {
    await mkdir(join(this.root, path, '..'), { recursive: true })
    await writeFile(join(this.root, path), content, { mode })
  }

  #inside(argv: readonly string[]): readonly string[] {
    return ['nsenter', '--target', String(this.#leader), '--all', '--', ...argv]
  }
}

/** Where cgroup v2 is: at the top, or beside the old hierarchies. */
function cgroupTop(): string {
  const [top, unified] = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified']
  return existsSync(join(top, 'cgroup.procs')) ? top : unified
}
