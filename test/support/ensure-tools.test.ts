import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { makeTemporaryFolder } from './temporary-folder.ts'

const SCRIPT = join(import.meta.dirname, 'ensure-tools.sh')
const SOURCE = readFileSync(SCRIPT, 'utf8')
const BASIC = ['cat', 'chmod', 'grep', 'mktemp', 'rm', 'sh', 'sleep', 'uname']

/** A machine that has next to nothing: programs are found in one folder, and `policy-rc.d` is elsewhere. */
async function bareMachine(folder: string, { uid, aptGet }: { uid: number; aptGet: string }) {
  const bin = join(folder, 'bin')
  const policy = join(folder, 'policy-rc.d')
  await mkdir(bin)
  for (const program of BASIC) {
    const { stdout } = await promisify(execFile)('sh', ['-c', `command -v ${program}`])
    await symlink(stdout.trim(), join(bin, program))
  }
  const stub = async (name: string, script: string) =>
    writeFile(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  await stub('id', `echo ${uid}`)
  await stub('apt-get', `echo "$*" >>"${folder}/calls"\ncp() { cat "$1" >"$2"; }\n${aptGet}`)
  const script = join(folder, 'ensure-tools.sh')
  await writeFile(script, SOURCE.replaceAll('/usr/sbin/policy-rc.d', policy))
  const calls = async () => readFile(join(folder, 'calls'), 'utf8').catch(() => '')
  const start = (wanted = 'shells') => spawn('sh', [script, wanted], { env: { PATH: bin, TMPDIR: folder } })
  return { start, policy, calls }
}

async function outcomeOf(child: ReturnType<typeof spawn>) {
  const stderr = text(child.stderr!)
  const [status] = (await once(child, 'exit')) as [number | null]
  return { status, stderr: await stderr }
}

test('it says what it installs and why, before it does, and starts no service meanwhile', async () => {
  await using folder = await makeTemporaryFolder()
  const aptGet = `cat "${folder.path}/policy-rc.d" >"${folder.path}/policy-seen"; [ -x "${folder.path}/policy-rc.d" ]`
  const { start, policy, calls } = await bareMachine(folder.path, { uid: 0, aptGet })
  const { status, stderr } = await outcomeOf(start())
  expect(status).toBe(0)
  expect(stderr).toMatch(
    /^These packages are missing, and are installed now with apt-get; no service is started:\n/,
  )
  expect(stderr).toContain('  zsh: tests type completions into it\n')
  expect(await calls()).toMatch(/update\n.* install .* zsh fish mandoc man-db bsdutils\n$/)
  expect(await readFile(join(folder.path, 'policy-seen'), 'utf8')).toMatch(/^#!\/bin\/sh\n#.*\nexit 101\n$/)
  expect(existsSync(policy)).toBe(false)
})

test.each([...SOURCE.matchAll(/^ {4}([a-z][a-z0-9-]*)\)/gm)].map(([, name]) => name ?? ''))(
  'where all is missing that %s needs, each package is installed, once',
  async (wanted) => {
    await using folder = await makeTemporaryFolder()
    const { start, calls } = await bareMachine(folder.path, { uid: 0, aptGet: '' })
    const { status, stderr } = await outcomeOf(start(wanted))
    const asked = [...stderr.matchAll(/^ {2}(\S+): /gm)].map(([, name]) => name)
    expect({ status, stderr }).toMatchObject({ status: 0 })
    expect(new Set(asked).size).toBe(asked.length)
    // `node`, `browser` and `emulation` look for files of the machine itself, which may be there.
    const installs = asked.length === 0 ? '' : ` --no-install-recommends ${asked.join(' ')}\n`
    expect(await calls()).toContain(installs)
    expect(installs === '' && !['node', 'browser', 'emulation'].includes(wanted)).toBe(false)
  },
)

test('what the administrator says about services is kept', async () => {
  await using folder = await makeTemporaryFolder()
  const { start, policy } = await bareMachine(folder.path, { uid: 0, aptGet: '' })
  await writeFile(policy, '#!/bin/sh\nexit 0\n')
  expect(await outcomeOf(start())).toMatchObject({ status: 0 })
  expect(await readFile(policy, 'utf8')).toBe('#!/bin/sh\nexit 0\n')
})

test('what apt-get says is shown when it fails', async () => {
  await using folder = await makeTemporaryFolder()
  const { start, policy } = await bareMachine(folder.path, { uid: 0, aptGet: 'echo no route >&2; exit 100' })
  const { status, stderr } = await outcomeOf(start())
  expect(status).toBe(69)
  expect(stderr).toMatch(/no route\nplease install first: apt install zsh /)
  expect(existsSync(policy)).toBe(false)
})

test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('nothing is left after %s', async (signal) => {
  await using folder = await makeTemporaryFolder()
  const { start, policy } = await bareMachine(folder.path, { uid: 0, aptGet: 'sleep 1' })
  const child = start()
  await expect.poll(() => existsSync(policy), { timeout: 10_000 }).toBe(true)
  child.kill(signal)
  const { status } = await outcomeOf(child)
  expect(status).toBeGreaterThan(128)
  expect(existsSync(policy)).toBe(false)
})

test('without root it installs nothing, and says what to install', async () => {
  await using folder = await makeTemporaryFolder()
  const { start, calls } = await bareMachine(folder.path, { uid: 1000, aptGet: '' })
  const { status, stderr } = await outcomeOf(start())
  expect(status).toBe(69)
  expect(stderr).toMatch(/^These packages are missing:\n {2}zsh: .*\nplease install first: apt install zsh /s)
  expect(await calls()).toBe('')
})
