import { execFile } from 'node:child_process'
import { lstat, mkdir, readdir, readFile, readlink, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { tryParse } from '../../agent/cert/verify-issued.ts'
import { keyIn } from '../cert/key-ring.ts'
import { DROP_IN, makeHelperHost, type HelperHost } from '../packaging/helper-host.ts'
import { needsRoot } from '../support/skip.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { Dice, mutate, SEEDS } from './mutate.ts'
import { report } from './rows.ts'

const run = promisify(execFile)
/** For each seed. Each runs sshd and ssh-keygen several times. */
const CASES = 30
const KEYS = ['ssh_host_ed25519_key', 'ssh_host_ecdsa_key']

/** The forms that the head of the helper names. */
const ANSWER =
  /^(?:ok listen=\S* reload=(?:yes|no)(?: : [^\n]*)?|busy retry=\d+ listen=\S*|error [A-Z_]+ listen=\S* : [^\n]*)\n$/

const REQUESTS = [
  'install',
  'install\n',
  'install\r\n',
  'install; id',
  'install reload',
  'INSTALL',
  ' install',
]
const WORDS = ['install', 'reload', '\n', '\0', '$(id)', '`id`', ';', '*', '-e', '../', '"', "'", '\\', '\t']
const NAMES = [
  'a b-cert.pub',
  'a\nb-cert.pub',
  `${'n'.repeat(200)}-cert.pub`,
  ...'..-cert.pub -cert.pub -n-cert.pub *-cert.pub $(id)-cert.pub "-cert.pub .hidden-cert.pub ü-cert.pub'.split(
    ' ',
  ),
  ...'ssh_host_rsa_key-cert.pub other'.split(' '),
]

/** Put something at a path that only hostcertd's user may write. */
async function stageSomething(
  host: HelperHost,
  dice: Dice,
  path: string,
  good: readonly Buffer[],
): Promise<void> {
  await rm(path, { recursive: true, force: true })
  const text = dice.pick(good)
  switch (dice.below(12)) {
    case 0:
      return await symlink(dice.pick(['/etc/shadow', '/nowhere', '.', join(host.ssh, `${KEYS[0]}`)]), path)
    case 1:
      await mkdir(path)
      return
    case 2:
      await run('mkfifo', ['--', path])
      return
    case 3:
      await writeFile(path, text)
      return await truncate(path, 2 ** dice.below(40))
    case 4:
      return await writeFile(path, dice.bytes(dice.below(3000)))
    case 5:
      return await writeFile(path, Buffer.concat([text, dice.pick(good)]))
    case 6:
    case 7:
    case 8:
      return await writeFile(path, mutate(text, dice, good, WORDS))
    default:
      return await writeFile(path, text)
  }
}

/** Everything below a folder but what the helper may write: path, kind, mode and content. */
async function snapshot(folder: string, except: readonly string[] = []): Promise<string> {
  // Not readdir of Node, which follows symbolic links in some versions.
  const { stdout } = await run('find', [folder, '-mindepth', '1', '-printf', '%P\\0'])
  const entries = stdout.split('\0').filter((entry) => entry !== '')
  const lines = entries
    .filter((entry) => !except.some((own) => entry === own || entry.startsWith(`${own}/`)))
    .sort()
    .map(async (entry) => {
      const path = join(folder, entry)
      const stats = await lstat(path)
      const isSmallFile = stats.isFile() && stats.size < 100_000
      const content = isSmallFile
        ? await readFile(path, 'base64')
        : stats.isSymbolicLink()
          ? await readlink(path)
          : stats.size
      return JSON.stringify([entry, stats.mode, stats.uid, content])
    })
  return (await Promise.all(lines)).join('\n')
}

/** What is wrong with the copies that sshd reads. */
async function flawsOfCopies(host: HelperHost): Promise<string[]> {
  const flaws: string[] = []
  const folder = join(host.ssh, 'hostcertd')
  for (const name of await readdir(folder).catch(() => [])) {
    const key = KEYS.find((one) => name === `${one}-cert.pub`)
    const { mode } = await lstat(join(folder, name))
    if (key === undefined || mode !== 0o100644) {
      flaws.push(`${JSON.stringify(name)} with mode ${mode.toString(8)}`)
      continue
    }
    const text = await readFile(join(folder, name), 'utf8')
    const parsed = tryParse(text)
    const publicKey = keyIn(await readFile(join(host.ssh, `${key}.pub`), 'utf8'))
    if (text.split('\n').length > 2) flaws.push(`${name} has more than a line`)
    else if (!parsed.ok) flaws.push(`${name}: ${parsed.failure.message}: ${JSON.stringify(text)}`)
    else if (parsed.certificate.kind !== 'host')
      flaws.push(`${name} is a ${parsed.certificate.kind} certificate`)
    else if (!parsed.certificate.publicKey.blob.equals(publicKey.blob))
      flaws.push(`${name} is for another key`)
  }
  const dropIns = await readdir(join(host.ssh, 'sshd_config.d'))
  if (dropIns.some((name) => `sshd_config.d/${name}` !== DROP_IN))
    flaws.push(`left over: ${dropIns.join(', ')}`)
  return flaws
}

test('random requests and staged files for the root helper', needsRoot, async () => {
  await using host = await makeHelperHost()
  const others = join(host.ssh, 'other')
  await generateKey(others, 'ed25519')
  const otherKey = await readFile(`${others}.pub`, 'utf8')
  const good: Buffer[] = []
  for (const key of KEYS) {
    good.push(Buffer.from(await host.sign(key)), Buffer.from(await host.sign(key, { principals: ['web2'] })))
    good.push(Buffer.from(await host.sign(key, { kind: 'user' })))
  }
  good.push(Buffer.from(await host.sign('other', { publicKey: otherKey.trimEnd() })), Buffer.from(otherKey))
  const wrong: string[] = []
  let [tried, ok, installed, longest] = [0, 0, 0, 0]
  for (const seed of SEEDS) {
    const dice = new Dice(seed)
    for (let count = 0; count < CASES; count++) {
      for (const key of KEYS) await stageSomething(host, dice, join(host.staged, `${key}-cert.pub`), good)
      await stageSomething(host, dice, join(host.staged, dice.pick(NAMES)), good)
      const request =
        dice.below(3) === 0
          ? mutate(Buffer.from(dice.pick(REQUESTS)), dice, good, WORDS).toString()
          : 'install'
      const own = ['hostcertd', DROP_IN]
      const before = [await snapshot(host.ssh, own), await snapshot(host.staged)]
      const copies = await snapshot(host.ssh)
      const began = performance.now()
      const { status, stdout } = await host.ask(request)
      longest = Math.max(longest, performance.now() - began)
      tried += 1
      const after = [await snapshot(host.ssh, own), await snapshot(host.staged)]
      const flaws = await flawsOfCopies(host)
      if (status !== 0 || !ANSWER.test(stdout)) flaws.push(`status ${status}: ${JSON.stringify(stdout)}`)
      if (before.join('\n') !== after.join('\n')) flaws.push('something else was changed')
      if (stdout.startsWith('ok')) ok += 1
      if (copies !== (await snapshot(host.ssh))) installed += 1
      wrong.push(...flaws.map((flaw) => `seed ${seed}, ${count}, ${JSON.stringify(request)}: ${flaw}`))
    }
  }
  await report({
    part: 'Input: root helper',
    fault: 'random requests, and random files and names in the folder that hostcertd writes',
    tried,
    lost: 0,
    wrong: wrong.length,
    recoveredSeconds: null,
    remark: `${ok} answered ok, ${installed} changed the copies; each within ${(longest / 1000).toFixed(1)} s`,
  })
  expect(wrong.slice(0, 10)).toEqual([])
  expect(installed).toBeGreaterThan(0)
})
