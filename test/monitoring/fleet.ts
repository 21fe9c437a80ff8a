import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hostKeyName, lookNow, untilReady } from '../support/looks.ts'
import { HOSTNAME, makeWorld, type World, type WorldOptions } from '../support/world.ts'

const CERTIFICATE_FILE = `${hostKeyName('ed25519')}-cert.pub`
/** What is measured on them are seconds. */
const EACH_SECOND = { tick: '* * * * * *' }

/** One host of the fleet, in a state that alerts are about. */
interface Member {
  /** Those that must fire, and no others. */
  readonly alerts: readonly string[]
  readonly options?: WorldOptions
  /** From nothing to that state, with the daemon running. @returns what makes all well again */
  readonly bringAbout: (world: World, stack: AsyncDisposableStack) => Promise<() => Promise<void>>
}

const MEMBERS: Readonly<Record<string, Member>> = {
  well: {
    alerts: [],
    bringAbout: async (world) => {
      await startWell(world)
      return async () => {}
    },
  },

  // The issuer is gone, and its certificate lasts less than a minute.
  ending: {
    alerts: [
      'HostcertdExpired',
      'HostcertdExpiring',
      'HostcertdNotReady',
      'HostcertdOverdue',
      'HostcertdRenewalErrors',
    ],
    options: { ttlSeconds: 50, config: { renewal: { ...EACH_SECOND, window: '50%', jitter: '0%' } } },
    bringAbout: async (world) => {
      const { agent, hostId, issuer } = world
      await startWell(world)
      await issuer.stop()
      return async () => {
        await issuer.start()
        issuer.setTtl(hostId, 3600)
        await agent.verb('renew')
        await lookNow(world)
      }
    },
  },

  // The issuer does not know the host.
  bare: {
    alerts: ['HostcertdNoCertificate', 'HostcertdNotReady'],
    bringAbout: async (world) => {
      const { agent, hostId, issuer } = world
      issuer.removeHost(hostId)
      await agent.start()
      return async () => {
        issuer.addHost({ hostname: HOSTNAME, ttlSeconds: 3600, id: hostId })
        await agent.verb('renew')
        await lookNow(world)
      }
    },
  },

  // sshd reads another folder, in which the certificate before the last lies, and it cannot be reloaded.
  differs: {
    alerts: ['HostcertdNotReady', 'HostcertdReloadErrors', 'HostcertdServedDiffers'],
    bringAbout: async (world) => {
      const { agent, sshd } = world
      const own = join(world.folder, 'own')
      const publish = async (): Promise<void> =>
        copyFile(join(own, CERTIFICATE_FILE), sshd.certificatePath('ed25519'))
      await agent.configure(world.configWith({ certificates: { directory: own }, renewal: EACH_SECOND }))
      await agent.verb('renew')
      await publish()
      await sshd.breakConfig()
      await agent.verb('renew', '--force')
      await agent.start()
      // What `renew` could not reload is not tried again for a minute, but then.
      agent.signal('SIGHUP')
      return async () => {
        await sshd.mendConfig()
        await publish()
        await agent.verb('renew')
        await lookNow(world)
      }
    },
  },

  skewed: {
    alerts: ['HostcertdClockSkew'],
    bringAbout: async (world) => {
      const { agent, issuer } = world
      issuer.failAlways({ kind: 'skew', seconds: 3600 })
      await startWell(world)
      return async () => {
        // The daemon goes by its last exchange; the next one is far off.
        issuer.heal()
        await agent.stop()
        await agent.start()
      }
    },
  },

  // Somebody holds the lock that the loop shares with `renew`, and does not let go.
  stuck: {
    alerts: ['HostcertdLoopStuck'],
    bringAbout: async (world, stack) => {
      await startWell(world)
      const lock = join(world.agent.folder, 'state', 'lock')
      const holder = spawn('flock', ['-x', lock, 'sh', '-c', 'echo held; exec sleep 300'], {
        stdio: ['ignore', 'pipe', 'inherit'],
        detached: true,
      })
      const ended = once(holder, 'exit')
      const release = async (): Promise<void> => {
        const { pid } = holder
        if (pid === undefined || holder.exitCode !== null || holder.signalCode !== null) return
        // With the program that it runs, which holds the lock too.
        process.kill(-pid, 'SIGTERM')
        await ended
      }
      stack.defer(release)
      await once(holder.stdout, 'data')
      return release
    },
  },

  down: {
    alerts: ['HostcertdDown'],
    bringAbout: async (world) => {
      const { agent } = world
      await startWell(world)
      const stop = await agent.stop()
      if (stop !== 0) throw new Error(`the daemon ended with ${stop}`)
      return async () => agent.start()
    },
  },
}

async function startWell(world: World): Promise<void> {
  await world.agent.start()
  await untilReady(world)
}

/** What must have fired, `ALERT HOST` each, sorted. */
export const EXPECTED_ALERTS = Object.entries(MEMBERS)
  .flatMap(([name, { alerts }]) => alerts.map((alert) => `${alert} ${name}`))
  .toSorted()

/** Hosts in all kinds of trouble, and one without. `await using` takes all of it away. */
export class Fleet implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack()
  readonly #mend: (() => Promise<void>)[] = []
  /** Where the health server of each listens. */
  readonly ports = new Map<string, number>()

  /** @param onMember when a host is in its state */
  async start(onMember: () => Promise<void>): Promise<void> {
    for (const [name, { bringAbout, options = {} }] of Object.entries(MEMBERS)) {
      const config = { renewal: EACH_SECOND, ...options.config }
      const world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'] }, ...options, config })
      this.#stack.use(world)
      this.#mend.push(await bringAbout(world, this.#stack))
      this.ports.set(name, world.agent.healthPort)
      await onMember()
    }
  }

  /** Mend all that is wrong. */
  async mend(): Promise<void> {
    for (const mend of this.#mend) await mend()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync()
  }
}
