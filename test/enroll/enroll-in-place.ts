import { existsSync } from 'node:fs'
import { chmod, chown, mkdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { createInterface } from 'node:readline'
import { messageOf } from '../../agent/cert/errors.ts'
import { parseCaKeys } from '../../agent/cert/public-key.ts'
import type { Access, Change } from '../../agent/enroll/change.ts'
import { enroll } from '../../agent/enroll/enroll.ts'
import { openJournal } from '../../agent/enroll/journal.ts'
import { USER_CA_DROP_IN, USER_CA_FILE } from '../../agent/enroll/sshd-logins.ts'
import type { EnrollTools } from '../../agent/enroll/wanted.ts'
import { systemClock } from '../../agent/host/machine.ts'
import type { ExchangeClient } from '../../agent/issuer/exchange-client.ts'
import { signCertificate } from '../support/ssh-keygen.ts'
import { type Looked, type Looking, NAMES } from './enroll-host.ts'

/** A program of enroll-host.ts: runs where /etc and /var/lib are a test's own, and there does `enroll`. */

const NO_USER_CA = {
  code: 'USER_CA_INVALID',
  message: 'it answered nothing',
  next: 'issuer-backoff',
  retryAfterSeconds: null,
  requestId: null,
} as const

const never = async (): Promise<never> => Promise.reject(new Error('nobody asks for that'))

async function look(looking: Looking): Promise<Looked> {
  const { files, options, environment, issuer, isThere, meanwhile, failsBefore } = looking
  for (const [path, { content, mode, owner }] of Object.entries(files)) {
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, content)
    await chown(path, owner ?? 0, owner ?? 0)
    await chmod(path, mode ?? 0o644)
  }
  const host = {
    id: issuer.hostId,
    projectId: NAMES.project,
    hostname: NAMES.host,
    alias: null,
    hostCertTtl: null,
  }
  const exchange: Pick<
    ExchangeClient,
    'findHost' | 'registerHost' | 'issue' | 'hostCa' | 'userCa' | 'health' | 'end'
  > = {
    findHost: async () => ({ kind: 'found', project: null, host: null, similar: [], visible: 1 }),
    registerHost: async () => ({ kind: 'registered', host }),
    async issue({ publicKey, principals }) {
      const names = principals.length > 0 ? principals : [NAMES.host]
      const wish = { keyId: `host-${issuer.hostId}`, principals: names, validity: '-5m:+1h' }
      return {
        ok: true,
        signedKey: await signCertificate({ ...wish, ca: issuer.ca, publicKey }),
        serialNumber: null,
        requestId: null,
      }
    },
    userCa: async () =>
      issuer.userCa === ''
        ? { kind: 'failed', failure: NO_USER_CA }
        : { kind: 'user-ca', key: parseCaKeys(issuer.userCa)[0]! },
    hostCa: async () => ({ ok: true, keys: parseCaKeys(issuer.caKey) }),
    health: () => ({ reachable: true, lastSuccess: null, clockSkewSeconds: issuer.clockSkewSeconds }),
    end: () => {},
  }

  const told: string[] = []
  const asked: string[] = []
  let changes: readonly Change[] = []
  const writeMeanwhile = async (): Promise<void> => {
    for (const [path, content] of Object.entries(meanwhile)) await writeFile(path, content)
  }
  const person: EnrollTools['person'] = {
    isThere,
    print(line) {
      told.push(line)
      if (line === failsBefore) throw new Error('cut off')
    },
    show: (all) => (changes = all),
    async agrees() {
      await writeMeanwhile()
      return Object.keys(meanwhile).length > 0
    },
    async secret(what) {
      asked.push(what)
      await writeMeanwhile()
      return 'typed'
    },
    input: never,
  }
  const calls: string[] = []
  const locked: string[] = []
  await using journal = await openJournal({
    folder: '/var/lib/hostcertd-enroll',
    performers: {
      async systemctl(args) {
        calls.push(args.join(' '))
        return { status: 0, failure: null, stderr: '' }
      },
      async reloadSshd() {
        calls.push(`reload sshd${existsSync(USER_CA_FILE) ? ', which can read user-ca.pub' : ''}`)
        return null
      },
      async lockSshd() {
        const before = filesOfSshd()
        return async () => {
          for (const path of filesOfSshd()) if (!before.includes(path)) locked.push(`${path} written`)
          for (const path of before) if (!filesOfSshd().includes(path)) locked.push(`${path} removed`)
        }
      },
    },
  })
  const tools: EnrollTools = {
    version: '0',
    environment,
    clock: systemClock,
    person,
    journal,
    hostNames: async () => [NAMES.host],
    openExchange: () => exchange as ExchangeClient,
    untilServed: never,
    testSshd: async () => null,
    reloadSshd: never,
  }

  try {
    const { hostId, steps, knownHosts } = await enroll(options, tools, AbortSignal.timeout(30_000))
    const afterwards = changes.flatMap((change) => {
      if (change.kind !== 'file') return []
      const { path, after } = change
      return [[path, after && { content: after.content.toString(), mode: after.mode }] as const]
    })
    const accesses = changes.flatMap((change) =>
      (change.kind === 'file' || change.kind === 'folder') && change.after !== null
        ? [[change.path, textOf(change.after)] as const]
        : [],
    )
    return {
      error: null,
      told,
      asked,
      calls,
      locked,
      hostId,
      steps,
      knownHosts,
      files: Object.fromEntries(afterwards),
      access: Object.fromEntries(accesses),
    }
  } catch (error) {
    const nothing = { hostId: null, steps: [], knownHosts: [], files: {}, access: {} }
    return { ...nothing, error: messageOf(error), told, asked, calls, locked }
  }
}

function filesOfSshd(): readonly string[] {
  return [USER_CA_FILE, USER_CA_DROP_IN].filter((path) => existsSync(path))
}

/** `0600 0:0`. */
function textOf({ mode, uid, gid }: Access): string {
  return `0${mode.toString(8)} ${uid}:${gid}`
}

for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(`${JSON.stringify(await look(JSON.parse(line) as Looking))}\n`)
