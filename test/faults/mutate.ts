import { isWhole } from './rows.ts'

/**
 * Of every random case, so that a failure is there again the next time. The whole suite tries as many cases with each
 * of these as the short form does with the first.
 */
export const SEEDS: readonly number[] = Array.from(
  { length: isWhole ? 20 : 1 },
  (_, index) => 20_261_127 + index,
)

/** Random numbers that a seed repeats: mulberry32. */
export class Dice {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** A whole number from 0 to `below` - 1. */
  below(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below)
  }

  pick<T>(list: readonly T[]): T {
    if (list.length === 0) throw new Error('nothing to pick from')
    return list[this.below(list.length)] as T
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)))
  }
}

/** Numbers at the edges of what a field holds, big-endian, four bytes each. */
const EDGES = [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff]

/**
 * Change some bytes: flip, overwrite, insert, remove, repeat, cut, or put in a part of another input or a word.
 *
 * @param others inputs to take parts from
 * @param words what means something in this format
 */
export function mutate(
  input: Buffer,
  dice: Dice,
  others: readonly Buffer[],
  words: readonly string[] = [],
): Buffer {
  let bytes = input
  for (let change = dice.below(4); change >= 0; change--) bytes = mutateOnce(bytes, dice, others, words)
  return bytes
}

function mutateOnce(input: Buffer, dice: Dice, others: readonly Buffer[], words: readonly string[]): Buffer {
  const at = dice.below(input.length + 1)
  const replaceWith = (count: number, by: Buffer): Buffer =>
    Buffer.concat([input.subarray(0, at), by, input.subarray(at + count)])
  switch (dice.below(words.length === 0 ? 8 : 10)) {
    case 0:
      return replaceWith(1, Buffer.of((input[at] ?? 0) ^ (1 << dice.below(8))))
    case 1: {
      const by = dice.bytes(1 + dice.below(8))
      return replaceWith(by.length, by)
    }
    case 2:
      return replaceWith(0, dice.bytes(1 + dice.below(8)))
    case 3:
      return replaceWith(1 + dice.below(32), Buffer.alloc(0))
    case 4:
      return replaceWith(0, input.subarray(at, at + 1 + dice.below(64)))
    case 5: {
      const edge = Buffer.alloc(4)
      edge.writeUInt32BE(dice.pick(EDGES))
      return replaceWith(4, edge)
    }
    case 6: {
      const other = dice.pick(others)
      const from = dice.below(other.length + 1)
      return replaceWith(dice.below(64), other.subarray(from, from + dice.below(64)))
    }
    case 7:
      return dice.below(4) === 0 ? input.subarray(0, at) : replaceWith(1, Buffer.of(dice.below(256)))
    default: {
      const word = Buffer.from(dice.pick(words))
      return replaceWith(dice.below(2) * word.length, word)
    }
  }
}
