import { execFile } from 'node:child_process'
import { copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

const IMPORTS = 'no-restricted-imports'
const GLOBALS = 'no-restricted-globals'
const PROPERTIES = 'no-restricted-properties'
const UNDEFINED = 'no-undef'
const CYCLE = 'no-cycle'

/** What the layers forbid, a file each: where it stands, what it says, and the rule that refuses it. */
const VIOLATIONS: readonly (readonly [room: string, source: string, rule: string])[] = [
  ['cert', "import { x } from '../renewal/ports.ts'; x()", IMPORTS],
  ['cert', "import type { X } from '../renewal/ports.ts'; export const y: X | null = null", IMPORTS],
  ['cert', "import { readFileSync } from 'node:fs'; readFileSync('x')", IMPORTS],
  ['cert', "import { readFileSync } from 'fs'; readFileSync('x')", IMPORTS],
  ['cert', "import { randomBytes } from 'node:crypto'; randomBytes(1)", IMPORTS],
  ['cert', "import * as crypto from 'node:crypto'; crypto.randomInt(1)", IMPORTS],
  ['cert', "import * as v from 'valibot'; v.string()", IMPORTS],
  ['cert', "export const x = await import('../main.ts')", IMPORTS],
  ['cert', "export { x } from '../compose.ts'", IMPORTS],
  ['cert', 'export const now = new Date()', GLOBALS],
  ['cert', 'export const now = Date.now()', GLOBALS],
  ['cert', 'export const pid = process.pid', UNDEFINED],
  ['cert', 'export const pid = globalThis.process', GLOBALS],
  ['cert', 'export const dice = Math.random()', PROPERTIES],
  ['cert', 'export const id = crypto.randomUUID()', UNDEFINED],
  ['renewal', "import { x } from '../host/machine.ts'; x()", IMPORTS],
  ['renewal', "import { x } from '../issuer/client.ts'; x()", IMPORTS],
  ['renewal', "import { x } from '../config/config.ts'; x()", IMPORTS],
  ['renewal', "import type { X } from '../log/log.ts'; export const y: X | null = null", IMPORTS],
  ['renewal', "import { setTimeout as sleep } from 'node:timers/promises'; await sleep(1)", IMPORTS],
  ['renewal', "import { randomUUID } from 'node:crypto'; randomUUID()", IMPORTS],
  ['renewal', "import pino from 'pino'; pino()", IMPORTS],
  ['renewal', 'export const now = performance.now()', UNDEFINED],
  ['renewal', 'export const now = new Date()', GLOBALS],
  ['renewal', 'export const signal = AbortSignal.timeout(1)', PROPERTIES],
  ['renewal', 'setTimeout(() => undefined, 1)', UNDEFINED],
  ['renewal', "await fetch('https://example.com')", UNDEFINED],
  ['issuer', "import { x } from '../host/sshd.ts'; x()", IMPORTS],
  ['issuer', "import { x } from '../cli/context.ts'; x()", IMPORTS],
  ['issuer', "import { x } from '../doctor/tls.ts'; x()", IMPORTS],
  ['issuer/logins', "import { x } from '../../host/sshd.ts'; x()", IMPORTS],
  ['issuer/logins', "import { request } from 'undici'; request('x')", IMPORTS],
  ['host', "import { x } from '../issuer/client.ts'; x()", IMPORTS],
  ['host', "import { x } from '../health/server.ts'; x()", IMPORTS],
  ['host', "import { request } from 'undici'; request('x')", IMPORTS],
  ['host', 'export const id = crypto.randomUUID()', UNDEFINED],
  ['health', "import { x } from '../issuer/client.ts'; x()", IMPORTS],
  ['health', "import { x } from '../cli/status-text.ts'; x()", IMPORTS],
  ['health/page', "import { readFileSync } from 'node:fs'; readFileSync('x')", IMPORTS],
  ['health/page', 'export const pid = process.pid', UNDEFINED],
  ['log', "import { x } from '../cli/context.ts'; x()", IMPORTS],
  ['log', "import { x } from '../config/config.ts'; x()", IMPORTS],
  ['config', "import { x } from '../host/sshd.ts'; x()", IMPORTS],
  ['config', "import { x } from '../cli/context.ts'; x()", IMPORTS],
  ['config', 'export const path = process.env', UNDEFINED],
  ['cli', "import { x } from '../compose.ts'; x()", IMPORTS],
  ['cli', "import { x } from '../main.ts'; x()", IMPORTS],
  ['cli', "import { x } from '../host/sshd.ts'; x()", IMPORTS],
  ['cli', "import { x } from '../../test/fakes/fake-host.ts'; x()", IMPORTS],
  ['enroll', "import { x } from '../issuer/client.ts'; x()", IMPORTS],
  ['enroll', "import { x } from '../cli/context.ts'; x()", IMPORTS],
  ['enroll', "import { x } from '../compose.ts'; x()", IMPORTS],
  ['enroll', "import { spawn } from 'node:child_process'; spawn('x')", IMPORTS],
  ['enroll', "import { randomBytes } from 'node:crypto'; randomBytes(1)", IMPORTS],
  ['enroll', "await fetch('https://example.com')", UNDEFINED],
  ['doctor', "import { x } from '../compose.ts'; x()", IMPORTS],
  ['doctor', "import { x } from '../cli/program.ts'; x()", IMPORTS],
  ['doctor', "import { x } from '../../test/support/world.ts'; x()", IMPORTS],
  ['doctor', "import { x } from '../issuer/http.ts'; x()", IMPORTS],
  ['doctor', "import { x } from './issuer-diagnosis.ts'; x()", IMPORTS],
  ['doctor', "import { connect } from 'node:tls'; connect(1)", IMPORTS],
]

/** Files that import each other. */
const CIRCLES: readonly (readonly [name: string, importing: string])[] = [
  ['values', "import { x } from './FILE.ts'; export const y = () => x; export const z = 1"],
  [
    'types',
    "import type { X } from './FILE.ts'; export type Y = X | null; export const x = 1; export type X = 1",
  ],
]

interface Report {
  readonly diagnostics: readonly { readonly filename: string; readonly code: string }[]
}

/** The rules that lint breaks each file of a checkout with, under the project's own configuration. */
async function lint(files: ReadonlyMap<string, string>): Promise<ReadonlyMap<string, readonly string[]>> {
  await using folder = await makeTemporaryFolder()
  await copyFile('.oxlintrc.json', join(folder.path, '.oxlintrc.json'))
  await symlink(resolve('node_modules'), join(folder.path, 'node_modules'))
  for (const [file, source] of files) {
    const path = join(folder.path, file)
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, `${source}\n`)
  }
  const argv = [resolve('node_modules/oxlint/bin/oxlint'), '--format=json', 'agent']
  const run = promisify(execFile)(process.execPath, argv, { cwd: folder.path, maxBuffer: 2 ** 24 })
  const { stdout } = await run.catch((error: { readonly stdout: string }) => error)
  const broken = new Map<string, string[]>([...files.keys()].map((file) => [file, []]))
  for (const { filename, code } of (JSON.parse(stdout) as Report).diagnostics) {
    broken.get(filename)?.push(/\((.*)\)/.exec(code)?.[1] ?? code)
  }
  return broken
}

test('each planted violation of the layers is refused, and by its own rule', async () => {
  const planted = VIOLATIONS.map(([room, source, rule], index) => ({
    file: `agent/${room}/planted-${index}.ts`,
    source,
    rule,
  }))
  const broken = await lint(new Map(planted.map(({ file, source }) => [file, source])))
  const unseen = planted.filter(({ file, rule }) => !broken.get(file)?.includes(rule))
  expect(unseen).toEqual([])
})

test('a circle is refused, of types too', async () => {
  const planted = CIRCLES.flatMap(([name, source]) =>
    ['one', 'two'].map((which, index, both) => ({
      file: `agent/renewal/${name}-${which}.ts`,
      source: source.replace('FILE', `${name}-${both[1 - index]}`),
    })),
  )
  const broken = await lint(new Map(planted.map(({ file, source }) => [file, source])))
  expect([...broken.values()].map((rules) => rules.includes(CYCLE))).toEqual(planted.map(() => true))
})

test('what the layers allow is not refused', async () => {
  const allowed = new Map([
    [
      'agent/cert/one.ts',
      "import { createHash } from 'node:crypto'\nexport const hash = createHash('sha256')",
    ],
    ['agent/renewal/two.ts', "import { hash } from '../cert/one.ts'\nexport const two = hash"],
    [
      'agent/host/three.ts',
      "import { two } from '../renewal/two.ts'\nexport const three = [two, process.pid]",
    ],
  ])
  expect([...(await lint(allowed)).values()].flat()).toEqual([])
})

test('signals are listened to before anything else is loaded', async () => {
  const main = await readFile('agent/main.ts', 'utf8')
  expect(/^import .*$/m.exec(main)?.[0]).toBe("import './signals.ts'")
})
