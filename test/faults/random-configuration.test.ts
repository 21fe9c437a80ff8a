import { readFile } from 'node:fs/promises'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { stringify } from 'yaml'
import type { LoadedConfig } from '../../agent/config/load.ts'
import { LEAST, loadFiles } from '../config/config-folder.ts'
import { INTERFACE_EXAMPLE } from '../config/interface-example.ts'
import { Dice, mutate, SEEDS } from './mutate.ts'
import { report } from './rows.ts'

/** For each seed. */
const CASES = 300
/** Of computing, for any configuration within the size limit of its files; a fifth of it on a quiet machine. */
const MOST_CPU_SECONDS = 5

const WORDS = [
  ': ',
  '\n',
  '\n  ',
  '- ',
  '&a ',
  '!!str ',
  '---\n',
  '...\n',
  '%YAML 1.1\n',
  '\t',
  '\0',
  '\uFEFF',
  '\u2028',
  '"0 0 31 2 *"',
  '"*/0 * * * *"',
  ...`[ ] { } " ' | > ~ null .inf 0x10 1e999 2026-11-27 __proto__ constructor toString`.split(' '),
  ...'credential: credential:../x unix:/x [::1]:22 33% 101% -5% 0s 999999999d 1.5h 10 -1m 1m30s "@daily"'.split(
    ' ',
  ),
  ...'issuer auth host_keys renewal verify sshd health log tick maintenance window'.split(' '),
]

const cronField = fc.oneof(
  fc.constantFrom(
    '*',
    '*/0',
    '*/5',
    '*/99',
    '0',
    '59',
    '60',
    '-1',
    '1-5',
    '5-1',
    '1,2,3',
    '1-5/2',
    'L',
    'MON',
    'JAN',
    '?',
    '31',
    '',
  ),
  fc.array(fc.nat(99), { minLength: 1, maxLength: 200 }).map((numbers) => numbers.join(',')),
  fc.string({ maxLength: 5 }),
)
const odd = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.double(),
  fc.bigInt(),
  fc.boolean(),
  fc.constant(null),
  fc.array(fc.string({ maxLength: 5 }), { maxLength: 3 }),
  fc.dictionary(fc.string({ maxLength: 5 }), fc.string({ maxLength: 5 }), { maxKeys: 3 }),
  fc.constantFrom(
    'auto',
    'none',
    'always',
    '/x',
    'relative',
    '127.0.0.1:0',
    ':::',
    'http://example.com',
    '9'.repeat(400),
  ),
)
const duration = fc.tuple(
  fc.oneof(fc.nat(), fc.double(), fc.bigInt()),
  fc.constantFrom('s', 'm', 'h', 'd', '%', 'ms', ''),
)
const cron = fc
  .array(fc.oneof({ arbitrary: fc.constant('*'), weight: 3 }, { arbitrary: cronField, weight: 1 }), {
    minLength: 4,
    maxLength: 7,
  })
  .map((parts) => parts.join(' '))
const section = (keys: Readonly<Record<string, fc.Arbitrary<unknown>>>) =>
  fc.oneof({ arbitrary: fc.record(keys, { requiredKeys: [] }), weight: 9 }, { arbitrary: odd, weight: 1 })
const sections: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  issuer: section({
    timeout: duration.map((parts) => parts.join('')),
    url: odd,
    ca_file: odd,
    command: odd,
  }),
  host_keys: odd,
  certificates: section({ directory: odd }),
  renewal: section({
    tick: cron,
    maintenance: cron,
    window: duration.map((parts) => parts.join('')),
    jitter: duration.map((parts) => parts.join('')),
  }),
  verify: section({ host_ca_file: odd, principals: odd }),
  sshd: section({ address: odd, reload: odd, reload_command: odd }),
  health: section({ listen: odd, hosts: odd }),
  log: section({ level: odd, format: odd }),
  state_directory: odd,
}
/** One or two at a time: among more of them hardly any would be valid. */
const overrides = fc
  .subarray(Object.keys(sections), { minLength: 1, maxLength: 2 })
  .chain((names) => fc.record(Object.fromEntries(names.map((name) => [name, sections[name] ?? odd]))))

/** What is wrong with the result; null for nothing. */
function flawIn(loaded: LoadedConfig): string | null {
  switch (loaded.kind) {
    case 'not-enrolled':
      return 'counts as absent'
    case 'ok': {
      const { stateDirectory, renewal } = loaded.config
      return typeof stateDirectory === 'string' && renewal.tickGapSeconds <= 300
        ? null
        : 'is no configuration'
    }
    case 'invalid':
      if (loaded.problems.length === 0) return 'invalid without a problem'
      for (const { path, message } of loaded.problems) {
        if (path === '' || message === '') return `a problem without a path or a message: ${path}: ${message}`
        if (/[\p{Cc}\p{Zl}\p{Zp}]/u.test(path + message))
          return `controls in a problem: ${JSON.stringify([path, message])}`
      }
      return null
  }
}

type Files = Readonly<Record<string, string | Uint8Array>>

/** Load each, and keep what is wrong. */
class Trial {
  readonly wrong: string[] = []
  tried = 0
  valid = 0
  longest = 0

  async load(name: string, files: Files): Promise<void> {
    this.tried += 1
    const before = process.cpuUsage()
    try {
      const loaded = await loadFiles(files)
      if (loaded.kind === 'ok') this.valid += 1
      const flaw = flawIn(loaded)
      if (flaw !== null) this.wrong.push(`${name}: ${flaw}`)
    } catch (error) {
      this.wrong.push(`${name}: threw ${String(error)}`)
    }
    const { user, system } = process.cpuUsage(before)
    const seconds = (user + system) / 1e6
    this.longest = Math.max(this.longest, seconds)
    if (seconds > MOST_CPU_SECONDS) this.wrong.push(`${name}: took ${seconds} s`)
  }

  async report(fault: string): Promise<void> {
    await report({
      part: 'Input: configuration',
      fault,
      tried: this.tried,
      lost: 0,
      wrong: this.wrong.length,
      recoveredSeconds: null,
      remark: `${this.valid} valid; each read within ${this.longest.toFixed(1)} s of computing`,
    })
  }
}

test('odd values', async () => {
  const trial = new Trial()
  for (const seed of SEEDS) {
    for (const [index, over] of fc.sample(overrides, { numRuns: CASES, seed }).entries()) {
      // A number that YAML cannot write is left to the mutations.
      const text = stringify(over)
      await trial.load(`seed ${seed}, ${index}`, { 'hostcertd.yaml': LEAST, 'conf.d/over.yaml': text })
    }
  }
  await trial.report('odd values, durations and cron expressions')
  expect(trial.wrong.slice(0, 10)).toEqual([])
  expect(trial.valid).toBeGreaterThan(0)
})

test('mutated documents', async () => {
  const trial = new Trial()
  const documents = [await readFile('config.example.yaml', 'utf8'), INTERFACE_EXAMPLE, LEAST].map((text) =>
    Buffer.from(text),
  )
  // Without its comments more of the mutations count.
  const seeds = [
    ...documents,
    ...documents.map((text) => Buffer.from(text.toString().replaceAll(/^ *#( .*)?\n/gm, ''))),
  ]
  for (const seed of SEEDS) {
    const dice = new Dice(seed)
    for (let count = 0; count < CASES; count++) {
      const text =
        dice.below(20) === 0 ? dice.bytes(dice.below(200)) : mutate(dice.pick(seeds), dice, seeds, WORDS)
      await trial.load(`seed ${seed}, ${count}`, { 'hostcertd.yaml': text })
    }
  }
  await trial.report('mutated documents')
  expect(trial.wrong.slice(0, 10)).toEqual([])
})

const KEYS_PER_FILE = 4000

test('documents that are large or deep', async () => {
  const trial = new Trial()
  const fill = (line: (index: number) => string, count = KEYS_PER_FILE): string =>
    Array.from({ length: count }, (_, index) => line(index)).join('\n')
  const many = (files: number, text: (file: number) => string): Files => ({
    'hostcertd.yaml': LEAST,
    ...Object.fromEntries(
      Array.from({ length: files }, (_, file) => [`conf.d/${1000 + file}.yaml`, text(file)]),
    ),
  })
  const cases: readonly (readonly [name: string, files: Files])[] = [
    ['60,000 keys in 15 files', many(15, (file) => fill((index) => `k${file}x${index}: 1`))],
    [
      '60,000 keys in one section',
      many(15, (file) => `issuer:\n${fill((index) => ` k${file}x${index}: 1`)}`),
    ],
    ['60,000 keys in one file', { 'hostcertd.yaml': fill((index) => `key${index}: 12`, 60_000) }],
    ['60,000 times the same key', many(15, () => fill(() => 'issuer: {url: 1}', 4000))],
    [
      'a list of 60,000 host keys',
      many(15, () => `host_keys: [${fill(() => '/x,').replaceAll('\n', '')}/y]`),
    ],
    ['500 files', many(500, (file) => `log: {level: ${file}}`)],
    ...['[', '{a: ', '- ', '? ', '&a ', '"', '|\n', '!', '*'].map(
      (unit) => [`${JSON.stringify(unit)} 20,000 times`, { 'hostcertd.yaml': unit.repeat(20_000) }] as const,
    ),
    ['deep indentation', { 'hostcertd.yaml': fill((depth) => `${' '.repeat(depth)}a:`, 350) }],
    ['a cycle', { 'hostcertd.yaml': 'issuer: &a {url: *a, auth: *a}' }],
    [
      'aliases of aliases',
      { 'hostcertd.yaml': `a0: &a0 [x]\n${fill((i) => `a${i + 1}: &a${i + 1} [*a${i}, *a${i}]`, 60)}` },
    ],
    ['a key of 60,000 characters', { 'hostcertd.yaml': `${'k'.repeat(60_000)}: 1\n` }],
    [
      'a cron expression of 60,000 characters',
      { 'hostcertd.yaml': `renewal: {tick: "${'1,'.repeat(30_000)}2 * * * *"}\n` },
    ],
    [
      'all minutes, hours and days',
      { 'hostcertd.yaml': `renewal: {maintenance: "${fill(String, 60).replaceAll('\n', ',')} * 29 2 1"}` },
    ],
  ]
  for (const [name, files] of cases) await trial.load(name, files)
  await trial.report('60,000 keys, deep nesting, aliases, very long values')
  expect(trial.wrong.slice(0, 10)).toEqual([])
})
