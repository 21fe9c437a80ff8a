import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { FILES, makeBootHost, NAMES } from './boot-host.ts'

/** `enroll --template`, on the machine that becomes an image; and what its copies refuse at their first boot. */

const HOST = 'issuer: {url: https://a.example, ssh_host_id: 8c1efcfc-434c-4c43-80e3-53c9eae6672a}\n'
const CONF = 'etc/hostcertd/conf.d/50-fleet.yaml'
const LEAST = '{"version": 1, "jitter_seconds": 0}'

test('a template is written, and the same again changes nothing', async () => {
  await using host = await makeBootHost()
  expect(await host.prepare('check')).toMatchObject({ error: null, changed: true, isDone: false })
  expect(existsSync(host.path(FILES.template))).toBe(false)
  expect(await host.prepare('yes')).toMatchObject({ error: null, changed: true, isDone: true })
  const text = await host.read(FILES.template)
  expect(JSON.parse(text)).toMatchObject({ project: 'ssh' })
  // docs/images.md has the command of sed that changes this.
  expect(text).toContain('"take_over": false')
  expect(await host.prepare('yes')).toMatchObject({ error: null, changed: false, isDone: true })
})

test.each([
  { name: 'the host id', file: FILES.config, text: HOST, key: 'issuer.ssh_host_id' },
  {
    name: 'principals',
    file: FILES.config,
    text: 'verify: {principals: [web1]}\n',
    key: 'verify.principals',
  },
  {
    name: 'principals in conf.d',
    file: CONF,
    text: 'verify: {principals: [web1]}\n',
    key: 'verify.principals',
  },
])('a configuration that sets $name is of one machine', async ({ file, text, key }) => {
  await using host = await makeBootHost()
  await host.write(file, text)
  const error = expect.stringContaining(`/${file} sets ${key}`) as string
  expect(await host.prepare('yes')).toMatchObject({ error })
  expect(existsSync(host.path(FILES.template))).toBe(false)
  // The template was written first.
  await host.write(FILES.template, LEAST)
  expect(await host.start()).toMatchObject({ error })
})

test.each([
  {
    name: 'conf.d sets otherwise what an option sets',
    files: { [CONF]: 'issuer: {url: https://other.example.com}\n' },
    says: `issuer.url is set to something else in /${CONF}`,
  },
  { name: 'conf.d is invalid', files: { [CONF]: 'renewal: {window: soon}\n' }, says: 'renewal.window: ' },
  { name: 'the main file is invalid', files: { [FILES.config]: 'log: {level: 7}\n' }, says: 'log.level: ' },
  {
    name: 'the main file has a setting that the login does not have',
    files: { [FILES.config]: 'auth: {method: aws, client_id: x}\n' },
    says: 'auth.client_id: ',
  },
  {
    name: 'another program issues the certificates',
    files: { [CONF]: 'issuer: {command: [/bin/true]}\n' },
    says: 'issuer.command',
  },
  {
    name: 'the service reads another file',
    files: { 'etc/default/hostcertd': 'HOSTCERTD_CONFIG=/etc/other.yaml\n' },
    says: 'sets HOSTCERTD_CONFIG to "/etc/other.yaml"',
  },
  {
    name: 'the file of the pinned CAs is damaged',
    files: { 'etc/hostcertd/host-ca.pub': 'nonsense\n' },
    says: 'host-ca.pub: ',
  },
])('what each copy would refuse is found while the image is made: $name', async ({ files, says }) => {
  await using host = await makeBootHost()
  for (const [file, text] of Object.entries(files)) await host.write(file, text)
  const { error } = await host.prepare('yes')
  expect(error).toMatch(/^CONFIG_INVALID: /)
  expect(error).toContain(says)
  expect(existsSync(host.path(FILES.template))).toBe(false)
  // It is what a copy would have said.
  await host.writeTemplate({ auth: { method: 'aws', identity_id: NAMES.project }, secrets: {} })
  expect((await host.start()).error).toContain(says)
})

test('what is configured in the image already, and agrees with the options, stays', async () => {
  await using host = await makeBootHost()
  await host.write(CONF, 'issuer: {url: https://issuer.example.com}\nlog: {level: debug}\n')
  expect(await host.prepare('yes')).toMatchObject({ error: null, isDone: true })
  await host.writeTemplate()
  expect(await host.start()).toMatchObject({ error: null, hostId: NAMES.otherId })
  expect(await host.read(FILES.config)).not.toContain('url:')
})

test('what an interrupted call left is undone, and named if it cannot be, but not by --check', async () => {
  await using host = await makeBootHost()
  // The template is there: nothing else would change.
  expect(await host.prepare('yes')).toMatchObject({ error: null })
  await host.prepare('interrupted')
  const file = host.path('etc/left')
  const looked = await host.prepare('check')
  expect(looked).toMatchObject({ error: null, changed: true, isDone: false })
  expect(looked.log).toEqual([expect.stringContaining('would be undone first')])
  expect(existsSync(file)).toBe(true)
  await writeFile(file, 'mine\n')
  const { log } = await host.prepare('yes')
  expect(log.join('\n')).toContain('not undone: /etc/left')
})

test('a damaged record of which machine was enrolled is not taken for none', async () => {
  await using host = await makeBootHost()
  await host.write(FILES.template, LEAST)
  await host.write(FILES.enrollment, '{')
  expect(await host.start()).toMatchObject({
    error: expect.stringMatching(/enrollment\.json is damaged.* never enrolled$/) as string,
  })
})
