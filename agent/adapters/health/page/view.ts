import type { RecentEvent } from '../../../core/recent-event.ts'
import type { StatusDocument } from '../../../core/status-document.ts'
import type { UnixSeconds } from '../../../core/time.ts'

/** All that the status page shows. */
export interface PageView {
  readonly hostName: string
  /** Of the program. */
  readonly version: string
  readonly now: UnixSeconds
  /** Null before the first look is done. */
  readonly status: StatusDocument | null
  readonly live: { readonly ok: boolean; readonly lastTurn: UnixSeconds | null }
  /** The newest first. */
  readonly events: readonly RecentEvent[]
}
