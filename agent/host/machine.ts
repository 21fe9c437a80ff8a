import { stat } from 'node:fs/promises'
import { isIP } from 'node:net'
import { hostname } from 'node:os'
import { setTimeout as wait } from 'node:timers/promises'
import type { Clock } from '../renewal/ports.ts'
import { runProgram } from './programs.ts'

/** The machine's clock, timers and dice. */
export const systemClock: Clock = {
  now: () => Date.now() / 1000,
  uptime: () => performance.now() / 1000,
  dice: () => Math.random(),
  sleep: async (milliseconds, signal) => {
    try {
      await wait(milliseconds, undefined, { signal })
    } catch (error) {
      // Node rejects with an AbortError of its own, which hides why.
      throw signal.aborted ? signal.reason : error
    }
  },
}

/** Call it before each thing that must not happen too often; it waits while there were too many. */
export type Pace = (signal: AbortSignal) => Promise<void>

/**
 * Allow so many calls within so many milliseconds; further ones wait until the oldest is that long ago.
 *
 * @returns what throws the signal's reason when that fires
 */
export function createPace(calls: number, milliseconds: number): Pace {
  let recent: number[] = []
  return async (signal) => {
    for (;;) {
      signal.throwIfAborted()
      const now = performance.now()
      recent = recent.filter((at) => now - at < milliseconds)
      if (recent.length < calls) {
        recent.push(now)
        return
      }
      const [oldest = now] = recent
      // An abort ends the wait; the loop then throws its reason.
      await wait(oldest + milliseconds - now, undefined, { signal }).catch(() => undefined)
    }
  }
}

/** A resolver that does not answer is not waited for any longer. */
const LOOKUP_MILLISECONDS = 1500
/** How long names are kept: a client cannot make us start more programs than one in this time. */
const NAMES_KEPT_MILLISECONDS = 60_000

/**
 * The short and the full name of this machine. The full one, where the kernel's is short, is the canonical name that the
 * resolver has for it, as for `hostname --fqdn`.
 *
 * @param name of the machine, as the kernel has it
 */
export function createHostNames(name: () => string = hostname): () => Promise<readonly string[]> {
  let latest: { readonly at: number; readonly names: Promise<readonly string[]> } | null = null
  return async () => {
    const now = performance.now()
    if (latest === null || now - latest.at > NAMES_KEPT_MILLISECONDS)
      latest = { at: now, names: namesOf(name()) }
    return latest.names
  }
}

async function namesOf(name: string): Promise<readonly string[]> {
  const [short = name] = name.split('.', 1)
  if (short !== name) return [short, name]
  // Node's own resolver leaves out the canonical name.
  const { stdout } = await runProgram(['getent', 'ahosts', name], {
    timeoutMilliseconds: LOOKUP_MILLISECONDS,
  })
  const canonical = /^\S+\s+STREAM\s+(\S+)$/m.exec(stdout)?.[1]
  return canonical === undefined || isIP(canonical) !== 0 ? [name] : [name, canonical]
}

/**
 * When run as root, become the owner of a folder, for good: user, group and no other groups. Files that root made in
 * what the daemon owns would lock the daemon out. Does nothing for other users, nor when the folder is root's own or
 * missing.
 *
 * @throws Error when the kernel forbids it
 */
export async function dropPrivileges(folder: string): Promise<void> {
  if (process.geteuid?.() !== 0) return
  const owner = await stat(folder).catch(() => null)
  if (owner === null || owner.uid === 0) return
  // The user last: without root, groups cannot be changed.
  process.setgroups?.([owner.gid])
  process.setgid?.(owner.gid)
  process.setuid?.(owner.uid)
}
