/** Seconds since 1970-01-01T00:00:00Z, fractions allowed; `Infinity` = forever. */
export type UnixSeconds = number

/** `valid before` of a certificate without end: PROTOCOL.certkeys, all 64 bits set. */
export const FOREVER = 0xffff_ffff_ffff_ffffn

/** A certificate's time for arithmetic, exact up to the year 285 million; `Infinity` for {@link FOREVER}. */
export function secondsOf(seconds: bigint): UnixSeconds {
  return seconds === FOREVER ? Infinity : Number(seconds)
}

/** The Gregorian calendar repeats after so many years. */
const CYCLE_YEARS = 400
const CYCLE_SECONDS = 146_097n * 86_400n
const YEAR_10000 = 253_402_300_800n

/**
 * A certificate's time as RFC 3339 UTC, exact for all 64 bits.
 *
 * @param seconds as read from the certificate
 * @returns `2026-11-23T13:00:00Z`; years past 9999 in ISO 8601's expanded form (`+12345-…`); null for forever
 */
export function formatCertificateTime(seconds: bigint): string | null {
  if (seconds === FOREVER) return null
  if (seconds < YEAR_10000) return isoSeconds(Number(seconds))
  const cycles = seconds / CYCLE_SECONDS
  const inCycle = isoSeconds(Number(seconds % CYCLE_SECONDS))
  const year = BigInt(inCycle.slice(0, 4)) + cycles * BigInt(CYCLE_YEARS)
  return `+${year}${inCycle.slice(4)}`
}

/**
 * A moment of the program's own as RFC 3339 UTC in whole seconds; null for null and for forever.
 * A renewal time may be as far in the future as the certificate's validity, so no year is too late.
 */
export function formatTime(at: UnixSeconds | null): string | null {
  return at === null || !Number.isFinite(at) ? null : formatCertificateTime(BigInt(Math.floor(at)))
}

/**
 * Back from what {@link formatCertificateTime} or {@link formatTime} wrote: the years past 9999 too, which `Date` does
 * not read.
 *
 * @returns NaN for a text of another shape
 */
export function parseTime(time: string): UnixSeconds {
  const [, year, rest] = /^\+?(\d+)(-.*)$/.exec(time) ?? []
  if (year === undefined) return NaN
  const cycles = Math.floor(Number(year) / CYCLE_YEARS)
  // A year that `Date` reads, and as long as the one that is meant.
  const yearInCycle = Number(year) - cycles * CYCLE_YEARS + 5 * CYCLE_YEARS
  return Date.parse(`${yearInCycle}${rest}`) / 1000 + (cycles - 5) * Number(CYCLE_SECONDS)
}

function isoSeconds(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace('.000Z', 'Z')
}

const UNIT_SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const

/**
 * One whole number and one of s, m, h, d.
 *
 * @returns seconds, or null when the text is not a duration
 */
export function parseDuration(text: string): number | null {
  const match = /^(\d{1,9})([smhd])$/.exec(text)
  if (match === null) return null
  return Number(match[1]) * UNIT_SECONDS[match[2] as keyof typeof UNIT_SECONDS]
}

/** `3d`, `5h`, `12m`, `40s`: the two largest units that matter, for people. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return 'forever'
  const s = Math.max(0, Math.round(seconds))
  const parts: string[] = []
  let rest = s
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    const size = UNIT_SECONDS[unit]
    const count = Math.floor(rest / size)
    rest -= count * size
    if (count > 0) parts.push(`${count}${unit}`)
    else if (parts.length > 0) break
    if (parts.length === 2) break
  }
  return parts.length === 0 ? '0s' : parts.join(' ')
}
