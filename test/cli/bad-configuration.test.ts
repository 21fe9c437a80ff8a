import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { makeBareHost } from './bare-host.ts'
import { hostcertd } from './hostcertd.ts'

const BAD = { renewal: { tick: 'nonsense', colour: 'red' }, log: { level: 'loud' } }
const PATHS = ['renewal.tick', 'renewal.colour', 'log.level']

const VERBS = [
  { verb: 'config validate', status: 78 },
  { verb: 'run', status: 78 },
  { verb: 'renew', status: 1 },
  { verb: 'needs-renewal', status: 255 },
  { verb: 'status', status: 1 },
  { verb: 'wait', status: 1 },
]

/** Problems are the result of `config validate`; other verbs only fail by them. And the other stream. */
function reported(
  verb: string,
  { stdout, stderr }: { readonly stdout: string; readonly stderr: string },
): readonly [report: string, other: string] {
  return verb === 'config validate' ? [stdout, stderr] : [stderr, stdout]
}

test.concurrent.each(VERBS)(
  '$verb with a bad configuration: $status, and every problem with its path',
  async ({ verb, status }) => {
    await using host = await makeBareHost(BAD)
    const result = await host.verb(verb.split(' '))
    const [report, other] = reported(verb, result)
    expect(result.status).toBe(status)
    expect(other).toBe('')
    const lines = report.trimEnd().split('\n')
    expect(lines).toHaveLength(PATHS.length)
    for (const path of PATHS) {
      const line = lines.find((text) => text.includes(`${path}: `))
      expect(line, path).toContain('CONFIG_INVALID')
      expect(line, path).toContain(host.configPath)
    }
  },
)

test.concurrent.each([...VERBS, { verb: 'metrics write /nowhere/metrics', status: 1 }])(
  '$verb with pinned CAs that cannot be read: $status, with path and file',
  async ({ verb, status }) => {
    await using host = await makeBareHost()
    await host.certify('ssh_host_ed25519_key')
    const pin = join(host.folder, 'ca.pub')
    await rm(pin)
    const result = await host.verb(verb.split(' '))
    const [report, other] = reported(verb, result)
    expect(result.status).toBe(status)
    expect(other).toBe('')
    expect(report.trimEnd().split('\n')).toHaveLength(1)
    expect(report).toContain('CONFIG_INVALID')
    expect(report).toContain(`verify.host_ca_file: ${pin}: no such file or directory (ENOENT)`)
    expect(report).toContain(host.configPath)
  },
)

test.concurrent('config validate --json: problems as objects', async () => {
  await using host = await makeBareHost(BAD)
  const { status, stdout, stderr } = await host.verb(['config', 'validate', '--json'])
  expect({ status, stderr }).toEqual({ status: 78, stderr: '' })
  const document = JSON.parse(stdout) as { errors: { path: string }[] }
  expect(document).toMatchObject({ valid: false, enrolled: true, warnings: [] })
  expect(document.errors.map(({ path }) => path).toSorted()).toEqual(PATHS.toSorted())
  for (const error of document.errors) {
    expect(error).toEqual({
      code: 'CONFIG_INVALID',
      path: error.path,
      message: expect.any(String) as string,
      file: host.configPath,
    })
  }
})

test.concurrent('a good one: 0, with the files it is made of; warnings are no failure', async () => {
  await using host = await makeBareHost({ host_keys: '/nowhere/*.pub' })
  await mkdir(join(host.folder, 'conf.d'))
  const over = join(host.folder, 'conf.d', '50-more.yaml')
  await writeFile(over, 'log: { level: debug }\n')
  const [byOption, byEnvironment, json] = await Promise.all([
    host.verb(['config', 'validate']),
    hostcertd(['config', 'validate'], { environment: { HOSTCERTD_CONFIG: host.configPath } }),
    host.verb(['config', 'validate', '--json']),
  ])
  expect(byOption).toMatchObject({ status: 0, stdout: `${host.configPath}, ${over}: valid\n` })
  expect(byOption.stderr).toMatch(/^warning: host_keys: .*\/nowhere\/\*\.pub.*\n$/)
  expect(byEnvironment).toEqual(byOption)
  expect(json).toMatchObject({ status: 0, stderr: '' })
  expect(JSON.parse(json.stdout)).toMatchObject({ valid: true, enrolled: true, errors: [] })
})

test.concurrent('inspect needs no configuration, good or bad', async () => {
  await using host = await makeBareHost()
  await host.certify('ssh_host_ed25519_key')
  const file = host.certificatePath('ssh_host_ed25519_key')
  await host.configure(BAD)
  expect(await host.verb(['inspect', file])).toMatchObject({ status: 0, stderr: '' })
})
