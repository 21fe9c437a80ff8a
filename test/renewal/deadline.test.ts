import { describe, expect, test } from 'vitest'
import { AbandonedError, Deadline, withinLimits } from '../../agent/renewal/deadline.ts'
import { ManualClock, settle } from '../fakes/manual-clock.ts'

const LIMITS = { milliseconds: 120_000, afterStopMilliseconds: 8000 }
const forever = async (): Promise<never> => new Promise(() => {})

/** Work within limits, what its signal says, and how it ended as far as it has. */
function start<T>(work: (clock: ManualClock) => Promise<T>) {
  const clock = new ManualClock(0)
  const stop = new AbortController()
  const seen: { signal: AbortSignal | null; end: unknown } = { signal: null, end: 'not over' }
  const result = withinLimits(clock, LIMITS, stop.signal, async (signal) => {
    seen.signal = signal
    return work(clock)
  })
  void result.then(
    (value) => (seen.end = value),
    (error: unknown) => (seen.end = error),
  )
  return { clock, stop, seen }
}

describe('work that is done within limits', () => {
  test('gives its result, and nothing of it goes on', async () => {
    const { clock, seen } = start(async () => 7)
    await settle()
    expect([seen.end, clock.sleeping]).toEqual([7, 0])
  })

  test('fails with its own error', async () => {
    const error = new Error('broken')
    const { clock, seen } = start(async () => {
      throw error
    })
    await settle()
    expect([seen.end, clock.sleeping]).toEqual([error, 0])
  })

  test('is told at the limit, not before, and abandoned then whatever it does', async () => {
    const { clock, seen } = start(forever)
    await clock.advance(119.9)
    expect([seen.signal?.aborted, seen.end]).toEqual([false, 'not over'])
    await clock.advance(0.2)
    expect(seen.end).toEqual(new AbandonedError('not over after 120 s'))
    expect(seen.end).toBeInstanceOf(AbandonedError)
    expect([seen.signal?.reason, clock.sleeping]).toEqual([seen.end, 0])
  })

  test('is told at once when the program ends, and has a few seconds then', async () => {
    const { clock, stop, seen } = start(forever)
    await clock.advance(50)
    stop.abort(new Error('ended'))
    await clock.advance(7.9)
    expect([seen.signal?.aborted, seen.end]).toEqual([true, 'not over'])
    await clock.advance(0.2)
    expect([seen.end, clock.sleeping]).toEqual([new Error('ended'), 0])
  })

  test('may still end well in these seconds', async () => {
    const { clock, stop, seen } = start(async (time) => time.sleep(3000, new AbortController().signal))
    stop.abort(new Error('ended'))
    await clock.advance(4)
    expect([seen.end, clock.sleeping]).toEqual([undefined, 0])
  })

  test('so when the program ended before', async () => {
    const clock = new ManualClock(0)
    const ended = AbortSignal.abort(new Error('ended'))
    const work = withinLimits(clock, LIMITS, ended, forever)
    await Promise.all([expect(work).rejects.toThrow('ended'), clock.advance(8)])
  })
})

describe('a deadline', () => {
  test('fires after its time', async () => {
    const clock = new ManualClock(0)
    using deadline = new Deadline(clock, 60_000)
    await clock.advance(59.9)
    expect(deadline.signal.aborted).toBe(false)
    await clock.advance(0.2)
    expect(deadline.signal.reason).toEqual(new AbandonedError('not over after 60 s'))
  })

  test('does not when it was disposed of, and waits for nothing', async () => {
    const clock = new ManualClock(0)
    const deadline = new Deadline(clock, 60_000)
    deadline[Symbol.dispose]()
    await clock.advance(61)
    expect([deadline.signal.aborted, clock.sleeping]).toEqual([false, 0])
  })
})
