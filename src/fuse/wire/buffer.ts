/**
 * One ArrayBuffer seen as bytes and as words: what requests are read into and answers are built in.
 *
 * FUSE speaks host byte order and aligns every struct to 8 bytes, so words are read through a
 * Uint32Array: no DataView calls and no allocation on the hot path. 64-bit fields are Numbers made
 * of a low and a high word; what does not fit below 2^53 is refused with `ProtocolError`, never
 * rounded.
 */
import { endianness } from 'node:os';
import { assert } from '../../base/assert.ts';
import { Errno } from '../../base/errno.ts';

assert(endianness() === 'LE', 'the FUSE codecs are written for little-endian machines');

const twoTo32 = 4_294_967_296;
const highWordMaximum = 0x1f_ffff;

/** A message that does not follow the protocol, or a number in it that this library cannot hold. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
  /** The errno to answer with, positive. */
  readonly errno: number;

  constructor(message: string, errno: number = Errno.EIO) {
    super(message);
    this.errno = errno;
  }
}

export class WireBuffer {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly words: Uint32Array<ArrayBuffer>;
  readonly halves: Uint16Array<ArrayBuffer>;
  readonly capacityBytes: number;

  /** Zero-filled. The capacity is rounded up to 8 bytes. */
  constructor(capacityBytes: number) {
    this.capacityBytes = Math.ceil(capacityBytes / 8) * 8;
    const memory = new ArrayBuffer(this.capacityBytes);
    this.bytes = new Uint8Array(memory);
    this.words = new Uint32Array(memory);
    this.halves = new Uint16Array(memory);
  }

  /**
   * Unsigned 64-bit number at a multiple of 4 bytes. Throws `ProtocolError(errno)` at 2^53 and
   * above.
   */
  u64(atBytes: number, errno: number = Errno.EINVAL): number {
    const index = atBytes >>> 2;
    const high = this.words[index + 1] ?? 0;
    if (high > highWordMaximum) throw new ProtocolError('a 64-bit number is 2^53 or more', errno);
    return high * twoTo32 + (this.words[index] ?? 0);
  }

  /** Signed 64-bit number. Throws `ProtocolError` outside -2^53 .. 2^53. */
  i64(atBytes: number, errno: number = Errno.EINVAL): number {
    const index = atBytes >>> 2;
    const high = (this.words[index + 1] ?? 0) | 0;
    if (high > highWordMaximum || high < -highWordMaximum - 1) {
      throw new ProtocolError('a signed 64-bit number does not fit in 53 bits', errno);
    }
    return high * twoTo32 + (this.words[index] ?? 0);
  }

  /**
   * The low 53 bits of an opaque 64-bit token (lock owners are hashed pointers: only equality
   * counts).
   */
  token(atBytes: number): number {
    const index = atBytes >>> 2;
    return ((this.words[index + 1] ?? 0) & highWordMaximum) * twoTo32 + (this.words[index] ?? 0);
  }

  u32(atBytes: number): number {
    return this.words[atBytes >>> 2] ?? 0;
  }

  u16(atBytes: number): number {
    return this.halves[atBytes >>> 1] ?? 0;
  }

  setU32(atBytes: number, value: number): void {
    this.words[atBytes >>> 2] = value;
  }

  setU16(atBytes: number, value: number): void {
    this.halves[atBytes >>> 1] = value;
  }

  /** Signed or unsigned; two's complement. The value must be a safe integer (the caller's duty). */
  set64(atBytes: number, value: number): void {
    const index = atBytes >>> 2;
    this.words[index] = value;
    this.words[index + 1] = Math.floor(value / twoTo32);
  }
}
