import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { tryCommand } from '../host/support/commands.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

const FOLDER = resolve('systemd')
const UNITS = (await readdir(FOLDER)).filter((name) => /\.(?:service|socket|timer)$/.test(name))

test('there are units', () => {
  expect(UNITS).toEqual(expect.arrayContaining(['hostcertd.service', 'hostcertd-textfile.timer']))
})

test('systemd has nothing to say of the units', async () => {
  await using folder = await makeTemporaryFolder()
  // What they start is not installed here.
  for (const name of UNITS) {
    const text = await readFile(join(FOLDER, name), 'utf8')
    const installed = /\/usr\/lib\/hostcertd\/(?:bin\/node|[\w-]+)(?= |$)/gm
    await writeFile(join(folder.path, name), text.replaceAll(installed, '/bin/true'))
  }
  const paths = UNITS.map((name) => join(folder.path, name.replace('@.', '@probe.')))
  const verified = await tryCommand(['systemd-analyze', 'verify', '--man=no', ...paths])
  expect(verified).toMatchObject({ status: 0, stderr: '' })
})

/** The names in a set of systemd.exec(5), SystemCallFilter; sets in it included. */
async function callsIn(set: string): Promise<ReadonlySet<string>> {
  const { stdout } = await tryCommand(['systemd-analyze', 'syscall-filter', set])
  const names = stdout.split('\n').map((line) => line.trim())
  const calls = new Set(names.filter((name) => /^\w+$/.test(name)))
  for (const name of names.slice(1).filter((one) => one.startsWith('@')))
    for (const call of await callsIn(name)) calls.add(call)
  return calls
}

/** `SystemCallFilter=` of the unit, as far as it has whole sets. */
async function filterOf(unit: string): Promise<(call: string) => boolean> {
  const text = await readFile(join(FOLDER, unit), 'utf8')
  const filters = [...text.matchAll(/^SystemCallFilter=(~?)(.+)$/gm)].flatMap(([, not, sets = '']) =>
    sets.split(' ').map((set) => ({ isAllowed: not === '', set })),
  )
  const allowed = new Set<string>()
  for (const { isAllowed, set } of filters)
    for (const call of await callsIn(set))
      if (isAllowed) allowed.add(call)
      else allowed.delete(call)
  return (call) => allowed.has(call)
}

test('hostcertd-ca.service permits the system calls that restoring a refused drop-in needs', async () => {
  await using folder = await makeTemporaryFolder()
  const at = (name: string): string => join(folder.path, name)
  const key = ['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', at('key')]
  expect(await tryCommand(key)).toMatchObject({ status: 0 })
  for (const name of ['drop-ins', 'with "quote']) await mkdir(at(name))
  await writeFile(at('sshd_config'), `Include ${at('drop-ins')}/*.conf\nHostKey ${at('key')}\n`)
  await writeFile(at('drop-ins/41.conf'), '# before\n')
  const places = {
    sshdConfig: at('sshd_config'),
    file: at('with "quote/user-ca.pub'),
    dropIn: at('drop-ins/41.conf'),
    status: at('status'),
    lockFolder: at('lock'),
  }
  const program = `import { installUserCas } from ${JSON.stringify(resolve('agent/enroll/user-ca-files.ts'))}
    const said = await installUserCas([], ${JSON.stringify(places)}, false, new AbortController().signal).catch(String)
    process.stdout.write(String(said))`
  await writeFile(at('program.ts'), program)
  const traced = await tryCommand([
    'strace',
    '-f',
    '-qq',
    '-o',
    at('calls'),
    process.execPath,
    at('program.ts'),
  ])
  expect(traced.stdout).toMatch(/was taken back: sshd does not accept it/)
  const calls = new Set((await readFile(at('calls'), 'utf8')).match(/(?<=^\d+ +)\w+(?=\()/gm))
  expect([...calls]).toContain('rename')
  const isPermitted = await filterOf('hostcertd-ca.service')
  expect(isPermitted('fchown')).toBe(false)
  // sshd tries this one, and goes on without it.
  expect([...calls].filter((call) => !isPermitted(call))).toEqual(['setgroups'])
})
