import { formatTime, type UnixSeconds } from '../cert/time.ts'
import type { Log, LogFields } from '../renewal/ports.ts'
import type { RecentEvent } from '../renewal/status-document.ts'
import { scrubText } from './log-line.ts'

/** Enough for what went before a failure, little enough to hold forever. */
const MOST_EVENTS = 50
/** In UTF-16 units: an event is a line on a page. */
const LONGEST_TEXT = 500
const MOST_HOST_KEYS = 16

/** A log that also keeps its last lines in memory, debug lines apart. */
export interface RememberingLog extends Log {
  /** The newest first, whatever level the log itself is set to. */
  recent(): readonly RecentEvent[]
}

/**
 * Pass everything on to `log`, and remember the last lines. Of their fields only those are kept that are known to be
 * harmless, and texts without what looks like a credential.
 */
export function rememberRecent(log: Log, now: () => UnixSeconds, most = MOST_EVENTS): RememberingLog {
  const events: RecentEvent[] = []

  function remember(level: RecentEvent['level'], fields: LogFields, message: string): void {
    events.unshift(eventOf(level, fields, message, now()))
    events.length = Math.min(events.length, most)
  }

  return {
    debug: (fields, message) => log.debug(fields, message),
    info: (fields, message) => {
      remember('info', fields, message)
      log.info(fields, message)
    },
    warn: (fields, message) => {
      remember('warn', fields, message)
      log.warn(fields, message)
    },
    error: (fields, message) => {
      remember('error', fields, message)
      log.error(fields, message)
    },
    recent: () => events.slice(),
  }
}

function eventOf(
  level: RecentEvent['level'],
  fields: LogFields,
  message: string,
  now: UnixSeconds,
): RecentEvent {
  const retry = fields['retry_in_seconds']
  return {
    at: formatTime(now) ?? '',
    level,
    message: harmless(message),
    hostKeys: hostKeysIn(fields),
    code: textIn(fields, 'code'),
    serial: textIn(fields, 'serial'),
    requestId: textIn(fields, 'request_id'),
    retryInSeconds: typeof retry === 'number' && Number.isFinite(retry) ? retry : null,
  }
}

function hostKeysIn(fields: LogFields): string[] {
  const { host_key: one, host_keys: several } = fields
  const all: readonly unknown[] = Array.isArray(several) ? several : [one]
  return all
    .filter((name) => typeof name === 'string')
    .slice(0, MOST_HOST_KEYS)
    .map(harmless)
}

function textIn(fields: LogFields, key: string): string | null {
  const value = fields[key]
  return typeof value === 'string' ? harmless(value) : null
}

function harmless(text: string): string {
  const scrubbed = scrubText(text)
  return scrubbed.length > LONGEST_TEXT ? `${scrubbed.slice(0, LONGEST_TEXT)}…` : scrubbed
}
