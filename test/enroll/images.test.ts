import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { endingOf } from '../../agent/enroll/ephemeral.ts'
import { jitterOf } from '../../agent/enroll/first-boot.ts'
import { optionsOf, readTemplate, returnText, templateText } from '../../agent/enroll/template.ts'
import { holderOf } from '../../agent/enroll/tools.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

const STOP = '  90 ssh.service                   stop  running\n'
const job = (unit: string, type = 'start'): string => `  91 ${unit.padEnd(29)} ${type.padEnd(5)} waiting\n`

test.each([
  { name: 'nothing', jobs: '', want: 'neither' },
  { name: 'a unit is stopped by hand', jobs: STOP, want: 'neither' },
  { name: 'power-off', jobs: STOP + job('poweroff.target') + job('shutdown.target'), want: 'power-off' },
  { name: 'halt', jobs: job('halt.target'), want: 'power-off' },
  { name: 'reboot', jobs: STOP + job('reboot.target') + job('shutdown.target'), want: 'reboot' },
  { name: 'kexec', jobs: job('kexec.target'), want: 'reboot' },
  { name: 'a soft reboot', jobs: job('soft-reboot.target'), want: 'reboot' },
  { name: 'both', jobs: job('poweroff.target') + job('reboot.target'), want: 'reboot' },
  { name: 'a power-off that is cancelled', jobs: job('poweroff.target', 'stop'), want: 'neither' },
  { name: 'a unit of a similar name', jobs: job('my-poweroff.target'), want: 'neither' },
])('what is ending: $name', ({ jobs, want }) => {
  expect(endingOf(jobs)).toBe(want)
})

test('who has a lock is named, and who waits for it is not', async () => {
  await using folder = await makeTemporaryFolder()
  const file = join(folder.path, 'lock')
  await writeFile(file, '')
  expect(await holderOf(file)).toBeNull()
  const holder = spawn('flock', [file, 'sh', '-c', 'echo held; read end'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const ended = once(holder, 'exit')
  try {
    await once(holder.stdout, 'data')
    expect(await holderOf(file)).toBe(`process ${holder.pid}, flock ${file} sh -c echo held; read end`)
  } finally {
    holder.stdin.end()
    await ended
  }
  const waiting = await open(file)
  expect(await holderOf(file)).toBeNull()
  await waiting.close()
})

test('the jitter is the same for one machine, and spread over machines', () => {
  const ids = Array.from({ length: 200 }, (_, index) => index.toString(16).padStart(32, '0'))
  const all = ids.map((id) => jitterOf(id, 60))
  expect(ids.map((id) => jitterOf(id, 60))).toEqual(all)
  expect(all.every((seconds) => seconds >= 0 && seconds < 60)).toBe(true)
  expect(all.filter((seconds) => seconds < 30).length).toBeGreaterThan(70)
  expect(all.filter((seconds) => seconds >= 30).length).toBeGreaterThan(70)
  expect(jitterOf('', 0)).toBe(0)
})

test('a template is read as it was written, by root alone, and strictly', async () => {
  await using folder = await makeTemporaryFolder()
  const path = join(folder.path, 'enroll.json')
  const write = async (text: string): Promise<void> => {
    await writeFile(path, text)
    await chmod(path, 0o600)
  }
  expect(await readTemplate(path)).toBeNull()
  await write('{"version": 1}')
  const least = await readTemplate(path)
  expect(least).toMatchObject({ url: null, secrets: {}, jitter_seconds: 60, ephemeral: false })
  if (least === null) throw new Error('none')
  const auth = { method: 'universal-auth' as const, client_id: 'me' }
  const whole = { ...least, url: 'https://a.example', project: 'p', register: { ttl: '30d' }, auth }
  await write(templateText(whole))
  expect(await readTemplate(path)).toEqual(whole)
  const options = optionsOf(whole)
  expect(options).toMatchObject({ method: 'universal-auth', login: { client_id: 'me' }, hostname: null })
  await write(returnText({ ...options, register: { ttl: '30d', alias: 'web' }, jitterSeconds: 5 }))
  const back = await readTemplate(path)
  expect(optionsOf(back ?? whole).register).toEqual({ ttl: '30d', alias: 'web' })
  expect(back).toMatchObject({
    project: 'p',
    ephemeral: true,
    jitter_seconds: 5,
    url: null,
  })

  const refused = async (): Promise<unknown> => readTemplate(path).catch((error: unknown) => String(error))
  for (const [text, why] of [
    ['{', 'it is not JSON'],
    ['{"version": 2}', 'version is not valid'],
    ['{"version": 1, "hostname": "web1.example.com"}', 'hostname is not valid'],
    ['{"version": 1, "auth": {"method": "magic"}}', 'auth.method is not valid'],
    ['{"version": 1, "url": "https://a\\u001b[2J"}', 'url is not valid'],
    ['{"version": 1, "register": {"ttl": "soon"}}', 'register.ttl is not valid'],
  ] as const) {
    await write(text)
    expect(await refused()).toContain(`${path}: ${why}`)
  }
  await write('{"version": 1}')
  await chmod(path, 0o644)
  expect(await refused()).toContain('chmod 600')
})
