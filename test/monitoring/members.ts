import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { requestPass } from '../support/looks.ts'
import { HOSTNAME } from '../support/world.ts'
import { EACH_SECOND, healthPortOf, startWell, type Member } from './member.ts'
import { UNSERVED } from './unserved.ts'

/** By the `instance` that Prometheus knows them as. */
export const MEMBERS: Readonly<Record<string, Member>> = {
  ...UNSERVED,

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
        await requestPass(world)
      }
    },
  },

  // The issuer does not know the host.
  unknown: {
    alerts: ['HostcertdNoCertificate', 'HostcertdNotReady'],
    bringAbout: async (world) => {
      const { agent, hostId, issuer } = world
      issuer.removeHost(hostId)
      await agent.start()
      return async () => {
        issuer.addHost({ hostname: HOSTNAME, ttlSeconds: 3600, id: hostId })
        await agent.verb('renew')
        await requestPass(world)
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
    bringAbout: async (world, { stack }) => {
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

  // Its certificate ends within a minute.
  down: {
    alerts: ['HostcertdDown', 'HostcertdDownExpiring'],
    options: { ttlSeconds: 50 },
    bringAbout: async (world, { scraped }) => {
      const { agent, hostId, issuer } = world
      await startWell(world)
      await scraped()
      const stop = await agent.stop()
      if (stop !== 0) throw new Error(`the daemon ended with ${stop}`)
      return async () => {
        issuer.setTtl(hostId, 3600)
        await startWell(world)
      }
    },
  },

  // What is scraped is what `metrics write` wrote, and there is no daemon.
  written: {
    alerts: ['HostcertdNotRunning'],
    bringAbout: async (world, { stack }) => {
      const { agent } = world
      await agent.configure(world.configWith({ renewal: EACH_SECOND }))
      await agent.verb('renew')
      const file = join(world.folder, 'hostcertd.prom')
      await agent.verb('metrics', 'write', file)
      const text = await readFile(file)
      const server = createServer((_, response) => response.end(text))
      const close = async (): Promise<void> => {
        if (!server.listening) return
        server.close()
        server.closeAllConnections()
        await once(server, 'close')
      }
      stack.defer(close)
      server.listen(healthPortOf(world), '127.0.0.1')
      await once(server, 'listening')
      return async () => {
        await close()
        await startWell(world)
      }
    },
  },
}
