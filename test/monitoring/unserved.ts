import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hostKeyName, requestPass } from '../support/looks.ts'
import type { World } from '../support/world.ts'
import { EACH_SECOND, type Member } from './member.ts'

const CERTIFICATE_FILE = `${hostKeyName('ed25519')}-cert.pub`

/** Hosts whose sshd reads another folder than the one that their certificates are in. */
export const UNSERVED: Readonly<Record<string, Member>> = {
  // The certificate before the last lies where sshd reads, and it cannot be reloaded.
  differs: {
    alerts: ['HostcertdNotReady', 'HostcertdReloadErrors', 'HostcertdServedDiffers'],
    bringAbout: async (world) => renewWithoutReload(world),
  },

  // So here, and that one ends within a minute.
  stale: {
    alerts: [
      'HostcertdExpired',
      'HostcertdExpiring',
      'HostcertdNotReady',
      'HostcertdReloadErrors',
      'HostcertdServedDiffers',
    ],
    options: { ttlSeconds: 50 },
    bringAbout: async (world) => renewWithoutReload(world),
  },

  // There is none.
  bare: {
    alerts: ['HostcertdNotReady', 'HostcertdNotServed'],
    bringAbout: async (world) => {
      const { agent } = world
      const publish = await readElsewhere(world)
      await agent.verb('renew')
      await agent.start()
      return async () => {
        await publish()
        await agent.verb('renew')
        await requestPass(world)
      }
    },
  },
}

/** A first certificate that sshd serves, a second for an hour that it does not. */
async function renewWithoutReload(world: World): Promise<() => Promise<void>> {
  const { agent, hostId, issuer, sshd } = world
  const publish = await readElsewhere(world)
  await agent.verb('renew')
  await publish()
  await sshd.breakConfig()
  issuer.setTtl(hostId, 3600)
  await agent.verb('renew', '--force')
  await agent.start()
  // What `renew` could not reload is not tried again for a minute, but then.
  agent.signal('SIGHUP')
  return async () => {
    await sshd.mendConfig()
    await publish()
    await agent.verb('renew')
    await requestPass(world)
  }
}

/** @returns what copies the certificate to where sshd reads */
async function readElsewhere({ agent, configWith, folder, sshd }: World): Promise<() => Promise<void>> {
  const own = join(folder, 'own')
  await agent.configure(configWith({ certificates: { directory: own }, renewal: EACH_SECOND }))
  return async () => copyFile(join(own, CERTIFICATE_FILE), sshd.certificatePath('ed25519'))
}
