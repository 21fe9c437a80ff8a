import { AgentError, type Failure } from '../cert/errors.ts'
import type { Certificate } from '../cert/host-certificate.ts'
import type { PublicKey } from '../cert/public-key.ts'
import { tryParse } from '../cert/verify-issued.ts'
import type { Copied, Host, HostKeyFile, StoredCertificate } from './ports.ts'

/** What is there, each file read once. Judged by `judge`. */
export interface Facts {
  readonly keys: readonly KeyFacts[]
  /** CA keys that an administrator pinned; null when none are configured; a failure when they cannot be read. */
  readonly pinned: readonly PublicKey[] | Failure | null
  readonly machine: MachineFacts
}

export interface MachineFacts {
  readonly copied: Copied
  /** Why nothing is renewed on this machine; null: it is. */
  readonly stopped: Failure | null
}

export interface KeyFacts {
  readonly file: HostKeyFile
  readonly certificatePath: string
  readonly stored: StoredFacts
}

/** The content of the certificate file. */
export type StoredFacts =
  | { readonly kind: 'absent' }
  /** Cannot be read (STORE_FAILED) or is no certificate (CERT_UNPARSABLE). */
  | { readonly kind: 'unreadable'; readonly failure: Failure }
  | { readonly kind: 'certificate'; readonly certificate: Certificate; readonly text: string }

/** Step "observed" of the path: host keys, the certificates on disk, the pinned CAs, the machine. Writes nothing, asks nobody. */
export async function observe(host: Host): Promise<Facts> {
  const keys: KeyFacts[] = []
  for (const file of await host.hostKeys.list()) keys.push(await observeKey(host, file))
  const copied = await host.machine.copied()
  const isStopped = copied !== null && copied !== false && host.settings.onCopy === 'stop'
  return { keys, pinned: await readPinned(host), machine: { copied, stopped: isStopped ? copied : null } }
}

async function observeKey(host: Host, file: HostKeyFile): Promise<KeyFacts> {
  const certificatePath = host.store.pathOf(file.name)
  // No certificate of ours is of any use for what is not a key.
  if (file.content.kind !== 'key') return { file, certificatePath, stored: { kind: 'absent' } }
  return { file, certificatePath, stored: storedFacts(await host.store.read(file.name)) }
}

/** What the pass itself changed: this certificate is now in the place of that key's. */
export function withCertificate(facts: Facts, name: string, text: string): Facts {
  return withKey(facts, name, (key) => ({ ...key, stored: storedFacts({ kind: 'text', text }) }))
}

/** The host key changed while its certificate was being issued; the certificate file did not. */
export function withKeyFile(facts: Facts, file: HostKeyFile): Facts {
  return withKey(facts, file.name, (key) => ({ ...key, file }))
}

function withKey(facts: Facts, name: string, change: (key: KeyFacts) => KeyFacts): Facts {
  return { ...facts, keys: facts.keys.map((key) => (key.file.name === name ? change(key) : key)) }
}

function storedFacts(stored: StoredCertificate): StoredFacts {
  if (stored.kind !== 'text') return stored
  const parsed = tryParse(stored.text)
  return parsed.ok
    ? { kind: 'certificate', certificate: parsed.certificate, text: stored.text }
    : { kind: 'unreadable', failure: parsed.failure }
}

async function readPinned(host: Host): Promise<Facts['pinned']> {
  try {
    return await host.pinnedCas.read()
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    return { code: error.code, message: error.message }
  }
}

/** Whether the pinned CAs are configured and cannot be read. */
export function isUnreadable(pinned: Facts['pinned']): pinned is Failure {
  return pinned !== null && 'code' in pinned
}
