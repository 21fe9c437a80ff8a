import { existsSync, readFileSync } from 'node:fs'
import { chmod, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { PublicKey } from '../../agent/cert/public-key.ts'
import { createServedCertificates } from '../../agent/host/served-certificates.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'
import { ask, never, noPace, reasonFor, strangeKey } from './asking-sshd.ts'

let folder: TemporaryFolder
beforeEach(async () => {
  folder = await makeTemporaryFolder()
})
afterEach(() => folder.remove())

describe('the program', () => {
  let key: PublicKey
  beforeEach(async () => {
    key = await strangeKey(folder.path)
  })

  /** Stands in for ssh: `query` answers `-Q`, `handshake` all else. */
  async function standIn(query: string, handshake: string): Promise<string> {
    const program = join(folder.path, 'stand-in')
    await writeFile(program, `#!/bin/sh\nif [ "$1" = -Q ]; then ${query}\nelse ${handshake}\nfi\n`)
    await chmod(program, 0o755)
    return program
  }
  const KNOWN = 'printf "%s\\n" ssh-ed25519 ssh-ed25519-cert-v01@openssh.com'

  test('is not there', async () => {
    const answer = await ask(1, [key], { program: 'no-such-ssh' })
    expect(answer.state).toBe('unknown')
    expect(reasonFor(key, answer)).toMatch(/^cannot run no-such-ssh: no such file or directory/)
  })

  test('does not know the type of a key, and is still asked about the others', async () => {
    const rsaOnly = 'printf "%s\\n" rsa-sha2-512 rsa-sha2-512-cert-v01@openssh.com'
    const program = await standIn(rsaOnly, 'exit 255')
    const rsa = await strangeKey(folder.path, 'rsa')
    const answer = await ask(1, [key, rsa], { program })
    expect(reasonFor(key, answer)).toBe('ssh on this host does not know ssh-ed25519 with its certificates')
    expect(reasonFor(rsa, answer)).toBe('127.0.0.1:1: ssh ended with status 255 and no message')
    const noCertificates = await standIn('echo ssh-ed25519', 'exit 255')
    expect(reasonFor(key, await ask(1, [key], { program: noCertificates }))).toMatch(/does not know/)
  })

  test('fails to list what it knows, and the next question finds it repaired', async () => {
    const broken = join(folder.path, 'broken')
    await writeFile(broken, '')
    const refused = "printf 'ssh: connect to host ::1 port 1: Connection refused\\r\\n' >&2; exit 255"
    const query = `if [ -e ${broken} ]; then echo no >&2; exit 1; else ${KNOWN}; fi`
    const program = await standIn(query, refused)
    const served = createServedCertificates({ address: { host: '::1', port: 1 }, pace: noPace, program })
    const first = await served.ask({ keys: [key], listen: [] }, never)
    expect(reasonFor(key, first)).toBe('ssh -Q HostKeyAlgorithms ended with status 1: no')
    expect(first.state).toBe('unknown')
    await rm(broken)
    expect((await served.ask({ keys: [key], listen: [] }, never)).state).toBe('down')
  })

  test('knows a key exchange that it cannot list: the reason is the first', async () => {
    const line = 'Unable to negotiate with 127.0.0.1 port 1: no matching cipher found. Their offer: x'
    const query = `if [ "$2" = HostKeyAlgorithms ]; then ${KNOWN}; else exit 1; fi`
    const program = await standIn(query, `printf '%s\\r\\n' '${line}' >&2; exit 255`)
    expect(reasonFor(key, await ask(1, [key], { program }))).toBe(`127.0.0.1:1: ${line}`)
  })

  describe('finds nobody', () => {
    const listen = ['127.0.0.1:1', '[::1]:1']
    const failed = (why: string) => `printf 'ssh: connect to host x port 1: ${why}\\r\\n' >&2; exit 255`
    const NO_ADDRESS = failed('Cannot assign requested address')
    const REFUSED = failed('Connection refused')

    /** By address, and each run is a line in a file. */
    async function askStandIn(ipv4: string, ipv6: string) {
      const runs = join(folder.path, 'runs')
      const program = await standIn(
        KNOWN,
        `echo >>${runs}; case "$*" in *" ::1 "*) ${ipv6};; *) ${ipv4};; esac`,
      )
      const keys = [key, await strangeKey(folder.path, 'ed25519', 'other')]
      const { state } = await createServedCertificates({ address: 'auto', pace: noPace, program }).ask(
        { keys, listen },
        never,
      )
      return { state, runs: (await readFile(runs, 'utf8')).length }
    }

    test('refused twice, or no such address: down, however many keys there are', async () => {
      expect(await askStandIn(REFUSED, REFUSED)).toEqual({ state: 'down', runs: 4 })
      await rm(join(folder.path, 'runs'))
      expect(await askStandIn(REFUSED, NO_ADDRESS)).toEqual({ state: 'down', runs: 3 })
    })

    test('no such address anywhere is not known to be down', async () => {
      expect(await askStandIn(NO_ADDRESS, NO_ADDRESS)).toEqual({ state: 'unknown', runs: 2 })
    })

    /** One thing in the first runs, then another. */
    function firstThen(count: number, first: string, then: string): string {
      const seen = join(folder.path, 'seen')
      return `echo >>${seen}; if [ "$(wc -l <${seen})" -le ${count} ]; then ${first}; else ${then}; fi`
    }

    test('refused only after it was not is not known to be down', async () => {
      const closed = "printf 'Connection closed by x port 1\\r\\n' >&2; exit 255"
      // Twice for the first key.
      const later = firstThen(2, closed, REFUSED)
      expect(await askStandIn(REFUSED, later)).toEqual({ state: 'unknown', runs: 5 })
    })

    test('refused once, while sshd is reloaded, is not down', async () => {
      const noMatch = 'no matching host key type found. Their offer: ssh-rsa'
      const up = `printf 'Unable to negotiate with x port 1: ${noMatch}\\r\\n' >&2; exit 255`
      expect(await askStandIn(firstThen(1, REFUSED, up), NO_ADDRESS)).toEqual({ state: 'up', runs: 4 })
    })
  })

  test('says a lot, with controls in it: the reason is one line of bounded length', async () => {
    const program = await standIn(KNOWN, `printf 'a\\033[31mb\\tc\\r\\n' >&2; seq -s x 1000 >&2; exit 255`)
    const reason = reasonFor(key, await ask(1, [key], { program }))
    expect(reason).toMatch(/^127\.0\.0\.1:1: a \[31mb c; 1x2x3/)
    expect(reason).toMatch(/^\P{Cc}{1,220}$/u)
  })

  test('gets an environment of named variables only, and no terminal to ask at', async () => {
    const seen = join(folder.path, 'environment')
    const program = await standIn(
      KNOWN,
      `tr '\\0' '\\n' </proc/$$/environ >${seen}; readlink /proc/$$/fd/0 >>${seen}; exit 255`,
    )
    process.env['HOSTCERTD_TEST_SECRET'] = 'secret'
    try {
      await ask(1, [key], { program })
    } finally {
      delete process.env['HOSTCERTD_TEST_SECRET']
    }
    const lines = (await readFile(seen, 'utf8')).trim().split('\n')
    expect(lines.map((line) => line.replace(/=.*/, '')).sort()).toEqual([
      '/dev/null',
      'HOSTCERTD_NONCE',
      'LC_ALL',
      'PATH',
    ])
    expect(lines.find((line) => line.startsWith('HOSTCERTD_NONCE='))).toMatch(/=[0-9a-f]{32}$/)
  })

  test('an abort rejects with its reason and ends the program with what it started', async () => {
    const pids = join(folder.path, 'pids')
    const program = await standIn(KNOWN, `sleep 60 & echo $$ $! >${pids}; wait`)
    const controller = new AbortController()
    const served = createServedCertificates({ address: { host: '::1', port: 1 }, pace: noPace, program })
    const asked = served.ask({ keys: [key], listen: [] }, controller.signal).catch((error: unknown) => error)
    await expect.poll(() => existsSync(pids), { timeout: 10_000 }).toBe(true)
    const reason = new Error('shutting down')
    controller.abort(reason)
    expect(await asked).toBe(reason)
    const started = (await readFile(pids, 'utf8')).trim().split(' ')
    await expect.poll(() => started.filter(isRunning), { timeout: 10_000 }).toEqual([])
  })

  test('is run a dozen times at most in quick succession, by the whole process', async () => {
    const runs = join(folder.path, 'runs')
    const line = 'Unable to negotiate with ::1 port 1: no matching host key type found. Their offer: ssh-rsa'
    const program = await standIn(KNOWN, `echo >>${runs}; printf '%s\\r\\n' '${line}' >&2; exit 255`)
    const controller = new AbortController()
    const askOnce = () =>
      createServedCertificates({ address: { host: '::1', port: 1 }, program }).ask(
        { keys: [key], listen: [] },
        controller.signal,
      )
    for (let asked = 0; asked < 12; asked++) expect((await askOnce()).state).toBe('up')
    const thirteenth = askOnce().catch((error: unknown) => error)
    await sleep(500)
    expect(await readFile(runs, 'utf8')).toBe('\n'.repeat(12))
    const reason = new Error('enough')
    controller.abort(reason)
    expect(await thirteenth).toBe(reason)
  })
})

/** A process that ended, but whose parent has not noticed yet, is still listed in /proc. */
function isRunning(pid: string): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}
