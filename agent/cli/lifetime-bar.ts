import type { CertificateStatus } from '../core/status-document.ts'
import { parseTime, type UnixSeconds } from '../core/time.ts'

/**
 * `[=====>----!---]`: `>` is now, `!` is where renewal falls due. Where both fall into one cell the later one moves up,
 * so that both are seen and stand in their order.
 *
 * @param cells between the brackets, 2 at least
 * @returns null for what has no lifetime: no certificate, or one that never ends
 */
export function lifetimeBar(
  { valid_after, valid_before, renewal_due }: CertificateStatus,
  now: UnixSeconds,
  cells: number,
): string | null {
  if (valid_after === null || valid_before === null) return null
  const start = parseTime(valid_after)
  const cellOf = (at: UnixSeconds): number => {
    const share = (at - start) / (parseTime(valid_before) - start)
    return Math.min(cells - 1, Math.max(0, Math.floor(share * cells)))
  }
  const dueAt = renewal_due === null ? null : parseTime(renewal_due)
  const [nowCell, dueCell] =
    dueAt === null ? [cellOf(now), null] : apart(cellOf(now), cellOf(dueAt), now < dueAt, cells)
  const bar: string[] = Array.from({ length: cells }, (_, cell) => (cell < nowCell ? '=' : '-'))
  if (dueCell !== null) bar[dueCell] = '!'
  bar[nowCell] = '>'
  return `[${bar.join('')}]`
}

function apart(now: number, due: number, isNowFirst: boolean, cells: number): readonly [number, number] {
  if (now !== due) return [now, due]
  const first = Math.min(now, cells - 2)
  return isNowFirst ? [first, first + 1] : [first + 1, first]
}
