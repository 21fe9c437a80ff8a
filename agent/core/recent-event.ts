/** One of the last things that happened, as the status page shows it. Holds no secrets. */
export interface RecentEvent {
  /** RFC 3339 UTC. */
  readonly at: string
  readonly level: 'info' | 'warn' | 'error'
  readonly message: string
  /** Names; empty when it is about none. */
  readonly hostKeys: readonly string[]
  readonly code: string | null
  readonly serial: string | null
  readonly requestId: string | null
  /** Until what failed is tried again, counted from `at`. */
  readonly retryInSeconds: number | null
}
