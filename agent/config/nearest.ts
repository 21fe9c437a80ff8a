/** A guess further off than this is more of a riddle than a help. */
const MAX_DISTANCE = 2
/** What is longer is no slip of the pen, and need not be compared. */
const MAX_LENGTH = 64

/**
 * The word that was probably meant: `sshHostId` and `ssh-host-id` for `ssh_host_id`, or a slip or two.
 *
 * @returns null when none is near
 */
export function nearest(typed: string, words: readonly string[]): string | null {
  if (typed.length > MAX_LENGTH) return null
  let best: string | null = null
  // At most a third of the letters: `log` is not meant by `xyz`.
  let bestDistance = Math.min(MAX_DISTANCE, Math.floor(typed.length / 3)) + 1
  for (const word of words) {
    const apart = distance(plain(typed), plain(word))
    if (apart < bestDistance) {
      best = word
      bestDistance = apart
    }
  }
  return best
}

function plain(word: string): string {
  return word.replaceAll(/[-_ ]/g, '').toLowerCase()
}

/** Letters to insert, remove, replace or swap with the next to make one word the other (optimal string alignment). */
function distance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let least = Math.min(at(last, j) + 1, at(row, j - 1) + 1, at(last, j - 1) + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, at(beforeLast, j - 2) + 1)
      row.push(least)
    }
    beforeLast = last
    last = row
  }
  return at(last, b.length)
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Infinity
}
