/**
 * A bitmap over 32-bit words that several threads may share. Every access is an atomic of one word:
 * a bit that one thread set is seen by all, and setting neighbours at the same time loses nothing.
 * Ranges are *not* atomic as a whole: who reads during a `setRange` sees some of it.
 */
import { assert } from './assert.ts';

/** 2^31 bits: with chunks of 256 KiB that is a file of 512 TiB. */
export const bitmapBitsMax = 2 ** 31;

export class Bitmap {
  /**
   * The memory; post its buffer to another thread and build a `Bitmap` over it there. Bit b: word
   * b/32, bit b%32.
   */
  readonly words: Int32Array;
  readonly bitCount: number;

  /**
   * Over the given memory (any content; bits behind `bitCount` are ignored and never changed), or
   * over new, clear, shared memory. 0 <= bitCount <= bitmapBitsMax.
   */
  constructor(bitCount: number, words?: Int32Array) {
    assert(
      Number.isSafeInteger(bitCount) && bitCount >= 0 && bitCount <= bitmapBitsMax,
      `a bitmap has 0 .. 2^31 bits, not ${bitCount}`,
    );
    this.bitCount = bitCount;
    this.words = words ?? new Int32Array(new SharedArrayBuffer(Bitmap.wordCount(bitCount) * 4));
    assert(this.words.length >= Bitmap.wordCount(bitCount), 'the memory holds all bits');
  }

  /** How many words hold that many bits. */
  static wordCount(bitCount: number): number {
    return Math.ceil(bitCount / 32);
  }

  get(bit: number): boolean {
    this.#check(bit, 1);
    return ((Atomics.load(this.words, bit >>> 5) >>> (bit & 31)) & 1) === 1;
  }

  /** Sets `count` bits from `first`; returns how many of them were clear before. */
  setRange(first: number, count: number): number {
    this.#check(first, count);
    let changed = 0;
    for (let bit = first; bit < first + count;) {
      const mask = maskOf(bit, first + count);
      changed += countOnes(~Atomics.or(this.words, bit >>> 5, mask) & mask);
      bit = nextWord(bit);
    }
    return changed;
  }

  /** Clears `count` bits from `first`; returns how many of them were set before. */
  clearRange(first: number, count: number): number {
    this.#check(first, count);
    let changed = 0;
    for (let bit = first; bit < first + count;) {
      const mask = maskOf(bit, first + count);
      changed += countOnes(Atomics.and(this.words, bit >>> 5, ~mask) & mask);
      bit = nextWord(bit);
    }
    return changed;
  }

  /** Whether all of the bits are set (true for none). */
  isRangeSet(first: number, count: number): boolean {
    this.#check(first, count);
    for (let bit = first; bit < first + count; bit = nextWord(bit)) {
      const mask = maskOf(bit, first + count);
      if ((Atomics.load(this.words, bit >>> 5) & mask) !== mask) return false;
    }
    return true;
  }

  /** Whether all of the bits are clear (true for none). */
  isRangeClear(first: number, count: number): boolean {
    this.#check(first, count);
    for (let bit = first; bit < first + count; bit = nextWord(bit)) {
      if ((Atomics.load(this.words, bit >>> 5) & maskOf(bit, first + count)) !== 0) return false;
    }
    return true;
  }

  /** The first set bit in `[from, end)`, or `end`. 0 <= from <= end <= bitCount. */
  nextSet(from: number, end: number = this.bitCount): number {
    return this.#next(from, end, 0);
  }

  /** The first clear bit in `[from, end)`, or `end`. 0 <= from <= end <= bitCount. */
  nextClear(from: number, end: number = this.bitCount): number {
    return this.#next(from, end, -1);
  }

  /** How many of the bits are set. */
  countSet(first = 0, count: number = this.bitCount - first): number {
    this.#check(first, count);
    let ones = 0;
    for (let bit = first; bit < first + count; bit = nextWord(bit)) {
      ones += countOnes(Atomics.load(this.words, bit >>> 5) & maskOf(bit, first + count));
    }
    return ones;
  }

  #next(from: number, end: number, flip: 0 | -1): number {
    this.#check(from, end - from);
    for (let bit = from; bit < end; bit = nextWord(bit)) {
      const found = (Atomics.load(this.words, bit >>> 5) ^ flip) & maskOf(bit, end);
      // The lowest one: a number with only that bit has 31 - clz32 zeros below it.
      if (found !== 0) return (bit >>> 5) * 32 + (31 - Math.clz32(found & -found));
    }
    return end;
  }

  #check(first: number, count: number): void {
    assert(
      Number.isSafeInteger(first) && first >= 0 && count >= 0 && first + count <= this.bitCount,
      'the bits are inside the bitmap',
    );
  }
}

/** First bit of the word behind the one that holds `bit`. Not `|`: the result may be 2^31. */
function nextWord(bit: number): number {
  return ((bit >>> 5) + 1) * 32;
}

/** The bits of `[bit, end)` that lie in the word of `bit`, as a mask of that word. */
function maskOf(bit: number, end: number): number {
  const from = bit & 31;
  const width = Math.min(end - bit, 32 - from);
  return width === 32 ? -1 : ((1 << width) - 1) << from;
}

function countOnes(word: number): number {
  let value = word - ((word >>> 1) & 0x55555555);
  value = (value & 0x33333333) + ((value >>> 2) & 0x33333333);
  return (((value + (value >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}
