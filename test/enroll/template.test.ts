import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

const PROGRAM = fileURLToPath(new URL('template-in-place.ts', import.meta.url))
const ENTER = 'mount --bind "$0/etc" /etc && mount --bind "$0/lib" /var/lib && exec "$@"'
const TEMPLATE = 'etc/hostcertd/enroll.json'
const ENROLLMENT = 'lib/hostcertd-enroll/enrollment.json'
const CONFIG = 'etc/hostcertd/hostcertd.yaml'
const HOST = 'issuer: {url: https://a.example, ssh_host_id: 8c1efcfc-434c-4c43-80e3-53c9eae6672a}\n'

interface Machine extends AsyncDisposable {
  readonly path: (name: string) => string
  readonly write: (name: string, content: string) => Promise<void>
  /** `enroll --template` in a mode, or one that is interrupted, or the service of the first boot. */
  readonly run: (
    what: 'yes' | 'check' | 'interrupted' | 'boot',
  ) => Promise<{ result: unknown; said: readonly string[] }>
}

/** With an /etc and a /var/lib of its own, in a mount namespace. */
async function makeMachine(): Promise<Machine> {
  const folder = await makeTemporaryFolder()
  const path = (name: string): string => join(folder.path, name)
  const write = async (name: string, content: string): Promise<void> => {
    await mkdir(dirname(path(name)), { recursive: true })
    await writeFile(path(name), content)
    await chmod(path(name), 0o600)
  }
  await mkdir(path('lib'))
  await write('etc/ssh/ssh_host_ed25519_key.pub', '')
  return {
    path,
    write,
    run: (what) =>
      new Promise((resolve, reject) => {
        const child = execFile(
          '/usr/bin/unshare',
          ['-m', 'sh', '-c', ENTER, folder.path, process.execPath, PROGRAM],
          (error, stdout) => (error === null ? resolve(JSON.parse(stdout)) : reject(error)),
        )
        child.stdin?.end(what)
      }),
    [Symbol.asyncDispose]: folder.remove,
  }
}

test('a template is written, and the same again changes nothing', async () => {
  await using machine = await makeMachine()
  expect(await machine.run('check')).toMatchObject({ result: { changed: true, isDone: false } })
  expect(existsSync(machine.path(TEMPLATE))).toBe(false)
  expect(await machine.run('yes')).toMatchObject({ result: { changed: true, isDone: true } })
  const text = await readFile(machine.path(TEMPLATE), 'utf8')
  expect(JSON.parse(text)).toMatchObject({ project: 'ssh' })
  // docs/images.md has the command of sed that changes this.
  expect(text).toContain('"take_over": false')
  expect(await machine.run('yes')).toMatchObject({ result: { changed: false, isDone: true } })
})

test.each([
  { name: 'the host id', file: CONFIG, text: HOST, key: 'issuer.ssh_host_id' },
  { name: 'principals', file: CONFIG, text: 'verify: {principals: [web1]}\n', key: 'verify.principals' },
  {
    name: 'principals in conf.d',
    file: 'etc/hostcertd/conf.d/a.yaml',
    text: 'verify: {principals: [web1]}\n',
    key: 'verify.principals',
  },
])('a configuration that sets $name is of one machine', async ({ file, text, key }) => {
  await using machine = await makeMachine()
  await machine.write(file, text)
  const why = expect.stringContaining(`/${file} sets ${key}`) as string
  expect(await machine.run('yes')).toMatchObject({ result: why })
  expect(existsSync(machine.path(TEMPLATE))).toBe(false)
  // The template was written first.
  await machine.write(TEMPLATE, '{"version": 1, "jitter_seconds": 0}')
  expect(await machine.run('boot')).toMatchObject({ result: why })
})

test('what an interrupted call left is undone, and named if it cannot be, but not by --check', async () => {
  await using machine = await makeMachine()
  await machine.run('interrupted')
  const file = machine.path('etc/left')
  const looked = await machine.run('check')
  expect(looked).toMatchObject({ result: { changed: true, isDone: false } })
  expect(looked.said).toEqual([expect.stringContaining('would be undone first')])
  expect(existsSync(file)).toBe(true)
  await writeFile(file, 'mine\n')
  const { said } = await machine.run('yes')
  expect(said.join('\n')).toContain('not undone: /etc/left')
})

test('a damaged record of which machine was enrolled is not taken for none', async () => {
  await using machine = await makeMachine()
  await machine.write(TEMPLATE, '{"version": 1, "jitter_seconds": 0}')
  await machine.write(ENROLLMENT, '{')
  expect(await machine.run('boot')).toMatchObject({
    result: expect.stringMatching(/enrollment\.json is damaged.* never enrolled$/) as string,
  })
})
