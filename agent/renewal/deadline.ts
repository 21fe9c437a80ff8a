import type { Clock } from './ports.ts'

/** Work that was not over in time. */
export class AbandonedError extends Error {
  override readonly name = 'AbandonedError'
}

interface WorkLimits {
  /** From the start. */
  readonly milliseconds: number
  /** From the moment that `stop` fires. */
  readonly afterStopMilliseconds: number
}

/**
 * Run work that may ignore its abort signal: it must delay neither the loop nor the end of the program.
 * What is abandoned may still go on; its result and its errors are dropped.
 *
 * @param work its signal fires at the limit and with `stop`
 * @throws AbandonedError at the limit; the reason of `stop`; what the work throws
 */
export async function withinLimits<T>(
  clock: Clock,
  { milliseconds, afterStopMilliseconds }: WorkLimits,
  stop: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = new AbortController()
  const over = new AbortController()
  const abandoned = Promise.withResolvers<never>()
  const atLimit = async (): Promise<void> => {
    await clock.sleep(milliseconds, over.signal)
    limit.abort(new AbandonedError(`not over after ${milliseconds / 1000} s`))
    abandoned.reject(limit.signal.reason)
  }
  const afterStop = async (): Promise<void> => {
    await fired(AbortSignal.any([stop, over.signal]))
    await clock.sleep(afterStopMilliseconds, over.signal)
    abandoned.reject(stop.reason)
  }
  // Both end when the work is over; that they were cut short then is nobody's business.
  void Promise.allSettled([atLimit(), afterStop()])
  try {
    return await Promise.race([work(AbortSignal.any([stop, limit.signal])), abandoned.promise])
  } finally {
    over.abort()
  }
}

async function fired(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

/** A signal that fires after a time, unless it is disposed of before. */
export class Deadline implements Disposable {
  readonly #fired = new AbortController()
  readonly #over = new AbortController()

  constructor(clock: Clock, milliseconds: number) {
    void Promise.allSettled([this.#wait(clock, milliseconds)])
  }

  get signal(): AbortSignal {
    return this.#fired.signal
  }

  [Symbol.dispose](): void {
    this.#over.abort()
  }

  async #wait(clock: Clock, milliseconds: number): Promise<void> {
    await clock.sleep(milliseconds, this.#over.signal)
    this.#fired.abort(new AbandonedError(`not over after ${milliseconds / 1000} s`))
  }
}
