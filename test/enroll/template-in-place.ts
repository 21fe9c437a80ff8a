import { text } from 'node:stream/consumers'
import { enrollAtBoot } from '../../agent/enroll/first-boot.ts'
import { openJournal } from '../../agent/enroll/journal.ts'
import { prepareImage } from '../../agent/enroll/prepare-image.ts'
import type { Mode } from '../../agent/enroll/show.ts'
import type { EnrollOptions, EnrollTools } from '../../agent/enroll/wanted.ts'
import { fileChange, fileState } from './small-host.ts'

/** A program of template.test.ts: runs where /etc and /var/lib are folders of the test, as root of a host has them. */

const signal = AbortSignal.timeout(60_000)
const said: string[] = []
const tell = (line: string): void => void said.push(line)
const never = (): never => {
  throw new Error('not expected')
}
let now = 0
const clock: EnrollTools['clock'] = {
  now: () => now,
  uptime: () => now,
  dice: () => 0,
  sleep: async (milliseconds) => void (now += milliseconds / 1000),
}
const openTools = async (): Promise<EnrollTools & AsyncDisposable> => {
  const journal = await openJournal({
    folder: '/var/lib/hostcertd-enroll',
    performers: { deleteHost: async () => {} },
  })
  const person = { isThere: false, tell, show: () => {}, agrees: never, secret: never, input: never }
  return {
    version: 'test',
    environment: {},
    clock,
    person,
    journal,
    hostNames: never,
    openExchange: never,
    untilServed: never,
    testSshd: never,
    [Symbol.asyncDispose]: async () => journal[Symbol.asyncDispose](),
  }
}

const OPTIONS: EnrollOptions = {
  url: 'https://issuer.example.com',
  hostId: null,
  project: 'ssh',
  hostname: null,
  register: { ttl: null, alias: null },
  fromCertificate: false,
  method: 'aws',
  login: { identity_id: '2b5dd1f5-7a4f-4b3a-9a0c-6e7e0b9d3c11' },
  adminTokenFile: null,
  caFile: null,
  caFingerprints: [],
  takeOver: false,
  onCopy: null,
  mode: 'yes',
  waitSeconds: 1,
}

type What = Mode | 'interrupted' | 'boot'

async function run(mode: What): Promise<unknown> {
  if (mode === 'boot') return enrollAtBoot({ clock, log: tell, openTools }, signal)
  await using tools = await openTools()
  if (mode === 'interrupted')
    return tools.journal.begin().make(fileChange('/etc/left', null, fileState('left\n')))
  return prepareImage({ ...OPTIONS, mode }, false, tools, signal)
}

const result = await run((await text(process.stdin)) as What).catch((error: unknown) => String(error))
process.stdout.write(JSON.stringify({ result, said }))
