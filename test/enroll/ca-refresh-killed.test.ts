import { execFile } from 'node:child_process'
import { readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { parsePublicKeyLine, publicKeyText, readPublicKey } from '../../agent/cert/public-key.ts'
import { keysIn } from '../../agent/enroll/user-ca.ts'
import { DAY, makeUserCaHost, type UserCaHost } from './user-ca-host.ts'

const run = promisify(execFile)

/**
 * `ca refresh` in a process of its own, which kills itself before the step of that number: a call that changes what is in
 * a folder, or the reload of sshd.
 *
 * @returns whether it was killed
 */
async function refreshKilledAt(host: UserCaHost, issuerNames: string, at: number): Promise<boolean> {
  const program = join(host.folder, 'program.ts')
  const source = (path: string): string => JSON.stringify(resolve(path))
  await writeFile(
    program,
    `import fs from 'node:fs/promises'
    import { syncBuiltinESMExports } from 'node:module'
    let count = 0
    const step = () => { if (++count === ${at}) process.kill(process.pid, 'SIGKILL') }
    const stepping = (of, names) => {
      for (const name of names) {
        const call = of[name]
        of[name] = function (...given) {
          if (name !== 'open' || given[1] === 'wx') step()
          return call.apply(this, given)
        }
      }
    }
    stepping(fs, ['open', 'rename', 'mkdir', 'unlink', 'rm'])
    syncBuiltinESMExports()
    const { refreshCas } = await import(${source('agent/enroll/ca-refresh.ts')})
    const { readPublicKey, parsePublicKeyLine } = await import(${source('agent/cert/public-key.ts')})
    const key = readPublicKey(parsePublicKeyLine(${JSON.stringify(issuerNames)}))
    const log = Object.fromEntries(['debug', 'info', 'warn', 'error'].map((level) => [level, () => {}]))
    const { execFileSync } = await import('node:child_process')
    const tools = {
      clock: { now: () => ${host.clock.now()}, uptime: () => 0 },
      log,
      source: { userCa: async () => ({ kind: 'user-ca', key }), health: () => ({ clockSkewSeconds: 0 }) },
      reloadSshd: async () => {
        step()
        execFileSync(${JSON.stringify(host.sshd.reloadScript)})
        return null
      },
      places: ${JSON.stringify(host.places)},
    }
    const config = {
      issuer: { kind: 'http', sshHostId: '' },
      sshd: { reload: 'auto', reloadCommand: null },
      verify: { hostCaFile: null },
      userCa: { install: true, overlapSeconds: ${14 * DAY}, fingerprints: [], revoked: [] },
    }
    process.exit((await refreshCas(config, tools, true, new AbortController().signal)) ? 0 : 1)`,
  )
  return run(process.execPath, [program]).then(
    () => false,
    (error: { signal?: string | null }) => {
      if (error.signal !== 'SIGKILL') throw error
      return true
    },
  )
}

function naming(line: string): Parameters<UserCaHost['refresh']>[0] {
  return {
    userCa: async () => ({ kind: 'user-ca', key: readPublicKey(parsePublicKeyLine(line)) }),
    hostCa: async () => expect.unreachable('no host CA is pinned'),
    health: () => ({ reachable: true, lastSuccess: null, clockSkewSeconds: 0 }),
  }
}

/** The CAs that sshd trusts at a login now, as far as files say. */
async function inPlace({ places }: UserCaHost): Promise<readonly string[]> {
  const text = await readFile(places.file, 'utf8').catch(() => '')
  return keysIn(text).keys.map((key) => publicKeyText(key))
}

/** Kill it at each step, and let the next run finish. */
async function killAtEachStep(
  host: UserCaHost,
  issuerNames: string,
  prepare: () => Promise<void>,
  judge: () => Promise<void>,
  finished: readonly string[],
): Promise<number> {
  for (let at = 1; ; at += 1) {
    await prepare()
    const isKilled = await refreshKilledAt(host, issuerNames, at)
    await judge()
    if (!isKilled) return at - 1
    expect(await host.refresh(naming(issuerNames))).toBe(true)
    expect(await inPlace(host), `after step ${at}`).toEqual(finished)
    expect(await host.status()).toMatchObject({ error: null, reload_pending: false })
  }
}

test('killed at any step of the first run: no drop-in without its file, and the next run sets it up', async () => {
  await using host = await makeUserCaHost()
  const one = await host.makeCa('one')
  const { file, dropIn, status } = host.places
  const steps = await killAtEachStep(
    host,
    one,
    async () => {
      for (const path of [file, dropIn, status]) await rm(path, { force: true })
    },
    async () => {
      const hasDropIn = await stat(dropIn).then(
        () => true,
        () => false,
      )
      expect(hasDropIn && (await inPlace(host)).length === 0).toBe(false)
    },
    [one],
  )
  expect(steps).toBeGreaterThan(9)
  expect(await host.logsIn('one')).toBe(true)
}, 300_000)

test('killed at any step of a rotation: at no moment without the CA that was there', async () => {
  await using host = await makeUserCaHost()
  const [one, two] = [await host.makeCa('one'), await host.makeCa('two')]
  const steps = await killAtEachStep(
    host,
    two,
    async () => {
      for (const path of [host.places.file, host.places.status]) await rm(path, { force: true })
      expect(await host.refresh(naming(one))).toBe(true)
    },
    async () => {
      expect(await inPlace(host)).toContain(one)
      expect((await stat(host.places.dropIn)).isFile()).toBe(true)
    },
    [one, two],
  )
  expect(steps).toBeGreaterThan(5)
  expect([await host.logsIn('one'), await host.logsIn('two')]).toEqual([true, true])
}, 300_000)
