import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { WireError, WireReader } from '../../agent/cert/wire.ts'
import { sshString, uint32, uint64 } from './craft.ts'

const reader = (hex: string): WireReader => new WireReader(Buffer.from(hex, 'hex'))

test('reads back whatever was written', () => {
  const part = fc.oneof(
    fc.nat(0xffff_ffff).map((value) => ({ kind: 'uint32' as const, value })),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((value) => ({ kind: 'uint64' as const, value })),
    fc.uint8Array().map((value) => ({ kind: 'string' as const, value: Buffer.from(value) })),
    fc.string({ unit: 'grapheme' }).map((value) => ({ kind: 'text' as const, value })),
  )
  fc.assert(
    fc.property(fc.array(part), (parts) => {
      const bytes = parts.map((one) => {
        switch (one.kind) {
          case 'uint32':
            return uint32(one.value)
          case 'uint64':
            return uint64(one.value)
          case 'string':
          case 'text':
            return sshString(one.value)
        }
      })
      const back = new WireReader(Buffer.concat(bytes))
      expect(parts.map((one) => back[one.kind]())).toEqual(parts.map((one) => one.value))
      expect(back.atEnd()).toBe(true)
      back.end('it')
    }),
  )
})

test('a part of a larger buffer is read as that part', () => {
  const bytes = Uint8Array.from([9, 9, 0, 0, 0, 1, 65, 9])
  const inner = new WireReader(bytes.subarray(2, 7))
  expect(inner.text()).toBe('A')
  expect(inner.atEnd()).toBe(true)
})

describe('what ends early', () => {
  test.each([
    { name: 'nothing', read: () => reader('').uint32() },
    { name: 'three bytes of four', read: () => reader('000000').uint32() },
    { name: 'seven of eight', read: () => reader('00000000000000').uint64() },
    { name: 'a string without its end', read: () => reader('0000000241').string() },
    { name: 'a length of 4 GB', read: () => reader('ffffffff41').string() },
    { name: 'a length of 2 GB', read: () => reader('8000000041').string() },
  ])('$name', ({ read }) => {
    expect(read).toThrow(new WireError('the data ends early'))
  })
})

test('what goes on too long is told in bytes', () => {
  expect(() => reader('000102').end('the key')).toThrow(new WireError('3 bytes after the end of the key'))
})

test.each([
  { name: 'overlong', hex: '00000002c080' },
  { name: 'cut short', hex: '00000001c3' },
  { name: 'a surrogate', hex: '00000003eda080' },
  { name: 'no start', hex: '0000000180' },
])('a text that is not UTF-8: $name', ({ hex }) => {
  expect(() => reader(hex).text()).toThrow('not UTF-8')
})

test.each([
  { hex: '00000000', want: '' },
  { hex: '0000000101', want: '01' },
  { hex: '000000017f', want: '7f' },
  { hex: '000000020080', want: '0080' },
])('mpint $hex', ({ hex, want }) => {
  expect(reader(hex).positiveMpint().toString('hex')).toBe(want)
})

test.each([
  { hex: '0000000180', says: 'negative' },
  { hex: '00000002ff01', says: 'negative' },
  { hex: '0000000100', says: 'leading zeros' },
  { hex: '000000020001', says: 'leading zeros' },
  { hex: '00000003000080', says: 'leading zeros' },
])('mpint $hex is refused', ({ hex, says }) => {
  expect(() => reader(hex).positiveMpint()).toThrow(says)
})
