import { Attempts } from '../../agent/renewal/attempts.ts'
import {
  pass as makePass,
  ROUTINE_PASS,
  type PassRequest,
  type PassResult,
} from '../../agent/renewal/pass.ts'
import type { FakeHost } from '../fakes/fake-host.ts'

/** The host key that a {@link FakeHost} has. */
export const KEY = 'ssh_host_ed25519_key'
export const NEVER = new AbortController().signal

/** One pass as a process of its own would make it: nothing but the host's files carries over. */
export async function pass(
  host: FakeHost,
  request: Partial<PassRequest> = {},
  signal = NEVER,
): Promise<PassResult> {
  const attempts = new Attempts(host.records, host.clock)
  await attempts.load()
  const work = makePass(host, attempts, { ...ROUTINE_PASS, ...request }, signal)
  const settled = { done: false }
  void work.finally(() => (settled.done = true)).catch(() => {})
  for (let second = 0; second < 60 && !settled.done; second++) await host.clock.advance(0.1)
  return work
}

/** `STATE REASON` of one host key. */
export const stateOf = (result: PassResult, name = KEY): string => {
  const view = result.views.find((other) => other.name === name)
  return `${view?.state.state} ${view?.state.reason}`
}
