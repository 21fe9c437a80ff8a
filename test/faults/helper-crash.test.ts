import { execFile } from 'node:child_process'
import { lstat, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import type { Outcome } from '../host/support/commands.ts'
import { answer, DROP_IN, dropInFor, makeHelperHost, type HelperHost } from '../packaging/helper-host.ts'
import { needsRoot } from '../support/skip.ts'
import { buildLibrary, type Fault } from './injection.ts'
import { pointsOf, reportFlaws } from './rows.ts'

const run = promisify(execFile)
const SHIM = fileURLToPath(new URL('command-shim.c', import.meta.url))
const [ED25519, ECDSA, RSA] = ['ssh_host_ed25519_key', 'ssh_host_ecdsa_key', 'ssh_host_rsa_key']
/** `systemctl` of a host on which sshd runs as ssh.service and listens itself. */
const SSHD_RUNS =
  'case "$*" in *is-active*ssh.service|*reload*) exit 0 ;; *show*) exit 0 ;; *) exit 3 ;; esac'
const NOT_KILLED: Fault = { kind: 'none', at: 0 }

/** The root helper, killed with all that it has started. `rewind` puts the host's files back to what they were at first. */
interface Crashable {
  readonly host: HelperHost
  run(word: 'install' | 'reload', fault: Fault): Promise<{ outcome: Outcome; commands: string[] }>
  rewind(): Promise<void>
  /** What `sshd -t` has against the host's configuration. */
  objections(): Promise<string>
}

async function crashable(host: HelperHost): Promise<Crashable> {
  const root = join(host.ssh, '..')
  const log = join(root, 'commands')
  await buildLibrary(SHIM, join(root, 'command-shim.so'))
  await run('cp', ['-a', host.ssh, join(root, 'first')])
  return {
    host,
    run: async (word, { kind, at }) => {
      await rm(log, { force: true })
      const variables = `LD_PRELOAD=/run/test/command-shim.so FAULT_LOG=/run/test/commands FAULT=${kind} FAULT_AT=${at}`
      // The first process of the namespace waits for the helper, and its end is the end of everything.
      const outcome = await host.ask(`${word}\n`, { shell: ['sh', '-c', `${variables} sh "$0"; exit $?`] })
      const text = await readFile(log, 'utf8').catch(() => '')
      return { outcome, commands: text.split('\n').slice(0, -1) }
    },
    rewind: async () => {
      await rm(host.ssh, { recursive: true })
      await run('cp', ['-a', join(root, 'first'), host.ssh])
      for (const file of await readdir(host.runtime)) await rm(join(host.runtime, file))
    },
    objections: async () => {
      const check = 'mkdir -p -m 755 /run/sshd; exec sshd -t'
      const { status, stderr } = await host.ask('', { shell: ['sh', '-c', check] })
      return status === 0 ? '' : `sshd -t ends with ${status}: ${stderr}`
    },
  }
}

/**
 * What is wrong with what sshd is given.
 *
 * @param texts what each copy may contain
 */
async function flawsOf(
  host: HelperHost,
  texts: Readonly<Record<string, readonly string[]>>,
): Promise<string[]> {
  const flaws: string[] = []
  const folder = join(host.ssh, 'hostcertd')
  const copies = (await readdir(folder)).filter((name) => !name.startsWith('.'))
  for (const name of copies) {
    const path = join(folder, name)
    const { mode, uid, gid } = await lstat(path)
    if ((mode & 0o7777) !== 0o644 || uid !== 0 || gid !== 0)
      flaws.push(`${name}: mode ${(mode & 0o7777).toString(8)}, owner ${uid}:${gid}`)
    if (texts[name]?.includes(await readFile(path, 'utf8')) !== true) flaws.push(`lost: ${name} is torn`)
  }
  if (!copies.includes(`${ED25519}-cert.pub`)) flaws.push(`lost: the copy for ${ED25519}`)
  const dropIn = await readFile(join(host.ssh, DROP_IN), 'utf8').catch(() => '')
  const named = [...dropIn.matchAll(/^HostCertificate \/etc\/ssh\/hostcertd\/(.+)$/gm)].map(
    ([, name]) => name,
  )
  if (!named.includes(`${ED25519}-cert.pub`)) flaws.push(`lost: the line for ${ED25519}`)
  for (const name of named)
    if (name === undefined || !copies.includes(name))
      flaws.push(`the drop-in names ${name}, which is not there`)
  return flaws
}

/** Kill the helper at one command after the other. @param look what is wrong then, and after the next run */
async function tryEach(
  name: string,
  word: 'install' | 'reload',
  helper: Crashable,
  some: number,
  look: (next: Outcome) => Promise<string[]>,
  meanwhile: () => Promise<string[]> = async () => [],
): Promise<string[]> {
  const { commands } = await helper.run(word, NOT_KILLED)
  expect(commands.length).toBeGreaterThan(15)
  const flaws: string[] = []
  let [tried, longest] = [0, 0]
  for (const kind of ['kill', 'after-kill']) {
    for (const at of pointsOf(commands.length, some)) {
      await helper.rewind()
      const killed = await helper.run(word, { kind, at })
      const during = await meanwhile()
      const objections = await helper.objections()
      const began = performance.now()
      const next = await helper.run(word, NOT_KILLED)
      longest = Math.max(longest, (performance.now() - began) / 1000)
      tried += 1
      const found = [
        ...(killed.outcome.status === 137 || killed.commands.length < at ? [] : ['it was not killed']),
        ...during,
        ...(objections === '' ? [] : [objections]),
        ...(await look(next.outcome)),
      ]
      for (const flaw of found) flaws.push(`${kind} at command ${at}, ${killed.commands[at - 1]}: ${flaw}`)
    }
  }
  await reportFlaws(
    {
      part: 'Files and connections',
      fault: name,
      tried,
      recoveredSeconds: longest,
      remark: `of ${commands.length} commands`,
    },
    flaws,
  )
  return flaws
}

test('the root helper killed at each command of `install`', needsRoot, async () => {
  await using host = await makeHelperHost()
  // To do: replace a copy, add one, remove one with its line in the drop-in.
  await host.addHostKey(RSA, 'rsa')
  const [before, stale] = [await host.stage(ED25519), await host.stage(RSA)]
  expect((await host.ask('install\n')).stdout).toMatch(answer('ok', 'reload=yes'))
  for (const path of [join(host.ssh, RSA), join(host.ssh, `${RSA}.pub`)]) await rm(path)
  const [renewed, added] = [await host.stage(ED25519, { serial: 2n }), await host.stage(ECDSA)]
  const helper = await crashable(host)
  const texts = {
    [`${ED25519}-cert.pub`]: [before, renewed],
    [`${ECDSA}-cert.pub`]: [added],
    [`${RSA}-cert.pub`]: [stale],
  }
  const want = [`${ECDSA}-cert.pub`, `${ED25519}-cert.pub`]
  const look = async ({ stdout }: Outcome): Promise<string[]> => {
    const copies = (await readdir(join(host.ssh, 'hostcertd'))).sort()
    const dropIns = await readdir(join(host.ssh, 'sshd_config.d'))
    const dropIn = await readFile(join(host.ssh, DROP_IN), 'utf8').catch(() => null)
    const isNew = (await readFile(join(host.ssh, 'hostcertd', `${ED25519}-cert.pub`), 'utf8')) === renewed
    return [
      ...(await flawsOf(host, texts)),
      ...(stdout.startsWith('ok ') ? [] : [`the next install answers: ${stdout}`]),
      ...(copies.join(' ') === want.join(' ') ? [] : [`after the next install: ${copies.join(' ')}`]),
      ...(dropIns.length === 1 ? [] : [`left behind: ${dropIns.join(' ')}`]),
      ...(dropIn === dropInFor(ECDSA, ED25519) ? [] : [`after the next install the drop-in is: ${dropIn}`]),
      ...(isNew ? [] : ['the next install does not copy the new certificate']),
    ]
  }
  const name = 'the root helper killed before and after each command of `install`'
  expect(await tryEach(name, 'install', helper, 6, look, async () => flawsOf(host, texts))).toEqual([])
})

test('the root helper killed at each command of `reload`', needsRoot, async () => {
  await using host = await makeHelperHost()
  await host.systemctl(SSHD_RUNS)
  const before = await host.stage(ED25519)
  await host.ask('install\n')
  const helper = await crashable(host)
  const installed = await host.installed()
  const look = async ({ stdout }: Outcome): Promise<string[]> => {
    const isSame = JSON.stringify(await host.installed()) === JSON.stringify(installed)
    const reloads = await readFile(join(host.runtime, 'reloads'), 'utf8').catch(() => '')
    return [
      ...(await flawsOf(host, { [`${ED25519}-cert.pub`]: [before] })),
      ...(isSame ? [] : ['the files for sshd have changed']),
      ...(stdout.startsWith('ok ') ? [] : [`the next reload answers: ${stdout}`]),
      ...((await host.orders()).at(-1) === 'reload ssh.service' ? [] : ['sshd was not reloaded']),
      ...(/^(?:\d+\n){1,2}$/.test(reloads) ? [] : [`the times of reloads are: ${reloads}`]),
      ...((await readdir(host.runtime)).sort().join() === 'lock,reloads'
        ? []
        : ['left behind in the runtime folder']),
    ]
  }
  const name = 'the root helper killed before and after each command of `reload`'
  expect(await tryEach(name, 'reload', helper, 4, look)).toEqual([])
})
