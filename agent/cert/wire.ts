/** Thrown by {@link WireReader} on input that ends early or goes on too long. */
export class WireError extends Error {
  override readonly name = 'WireError'
}

/** Reads the data types of RFC 4251, section 5, from one buffer, strictly: nothing is skipped or padded. */
export class WireReader {
  readonly #bytes: Buffer
  #offset = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get offset(): number {
    return this.#offset
  }

  uint32(): number {
    return this.#take(4).readUInt32BE(0)
  }

  uint64(): bigint {
    return this.#take(8).readBigUInt64BE(0)
  }

  /** `string`: a length and so many bytes, any bytes. */
  string(): Buffer {
    return this.#take(this.uint32())
  }

  /** A `string` that must be UTF-8. */
  text(): string {
    const bytes = this.string()
    const text = bytes.toString('utf8')
    if (!Buffer.from(text, 'utf8').equals(bytes)) throw new WireError('a text is not UTF-8')
    return text
  }

  /** `mpint` that is not negative, in its shortest form; RFC 4251 demands both. */
  positiveMpint(): Buffer {
    const bytes = this.string()
    const [first = 0, second = 0] = bytes
    if (first >= 0x80) throw new WireError('a number is negative')
    if (bytes.length > 0 && first === 0 && second < 0x80) throw new WireError('a number has leading zeros')
    return bytes
  }

  atEnd(): boolean {
    return this.#offset === this.#bytes.length
  }

  /** @throws WireError when bytes are left */
  end(what: string): void {
    if (!this.atEnd())
      throw new WireError(`${this.#bytes.length - this.#offset} bytes after the end of ${what}`)
  }

  #take(length: number): Buffer {
    if (length > this.#bytes.length - this.#offset) throw new WireError('the data ends early')
    const part = this.#bytes.subarray(this.#offset, this.#offset + length)
    this.#offset += length
    return part
  }
}
