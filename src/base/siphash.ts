/**
 * SipHash-2-4 of one 64-bit number, lower half: a keyed function whose values nobody can foretell without the key
 * (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012). What the kernel signs its NFS handles with.
 *
 * By hand in 32-bit halves, because it runs once for each entry of a directory listing: a tenth of what
 * createHmac costs. Each 64-bit word is a pair, lower half first, in one Int32Array.
 */
import { assert } from './assert.ts';

export const sipKeyBytes = 16;

const twoTo32 = 4_294_967_296;
/** v0 .. v3 before the key is mixed in ("somepseudorandomlygeneratedbytes"), lower halves first. */
const initial = Int32Array.of(
  0x70736575,
  0x736f6d65,
  0x6e646f6d,
  0x646f7261,
  0x6e657261,
  0x6c796765,
  0x79746573,
  0x74656462,
);
/** The last block: no bytes left over, and the message's length (8) in the highest byte. */
const lengthHigh = 8 << 24;

export class SipHasher {
  /** v0 .. v3 with the key mixed in. */
  readonly #start: Int32Array;
  readonly #v = new Int32Array(8);

  /** `key`: 16 bytes. */
  constructor(key: Uint8Array) {
    assert(key.length === sipKeyBytes, 'a SipHash key has 16 bytes');
    const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
    this.#start = initial.map((word, index) => word ^ view.getInt32((index % 4) * 4, true));
  }

  /** The lower 32 bits, unsigned, of the hash of `value` as 8 bytes little endian. 0 <= value < 2^53. */
  low32(value: number): number {
    const v = this.#v;
    v.set(this.#start);
    this.#block(value | 0, (value / twoTo32) | 0);
    this.#block(0, lengthHigh);
    v[4] = (v[4] as number) ^ 0xff;
    for (let round = 0; round < 4; round += 1) sipRound(v);
    return ((v[0] as number) ^ (v[2] as number) ^ (v[4] as number) ^ (v[6] as number)) >>> 0;
  }

  #block(low: number, high: number): void {
    const v = this.#v;
    v[6] = (v[6] as number) ^ low;
    v[7] = (v[7] as number) ^ high;
    sipRound(v);
    sipRound(v);
    v[0] = (v[0] as number) ^ low;
    v[1] = (v[1] as number) ^ high;
  }
}

function sipRound(v: Int32Array): void {
  addXorRotate(v, 0, 2, 13);
  rotateHalf(v, 0);
  addXorRotate(v, 4, 6, 16);
  addXorRotate(v, 0, 6, 21);
  addXorRotate(v, 4, 2, 17);
  rotateHalf(v, 4);
}

/** a += b; b = rotl(b, bits) ^ a, of the words that begin at `a` and `b`. 1 <= bits <= 31. */
function addXorRotate(v: Int32Array, a: number, b: number, bits: number): void {
  const bLow = v[b] as number;
  const bHigh = v[b + 1] as number;
  const low = ((v[a] as number) + bLow) | 0;
  const carry = low >>> 0 < bLow >>> 0 ? 1 : 0;
  const high = ((v[a + 1] as number) + bHigh + carry) | 0;
  v[a] = low;
  v[a + 1] = high;
  v[b] = ((bLow << bits) | (bHigh >>> (32 - bits))) ^ low;
  v[b + 1] = ((bHigh << bits) | (bLow >>> (32 - bits))) ^ high;
}

/** Rotation by 32 bits: the halves change places. */
function rotateHalf(v: Int32Array, a: number): void {
  const low = v[a] as number;
  v[a] = v[a + 1] as number;
  v[a + 1] = low;
}
