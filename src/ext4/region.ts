/**
 * The only way in which bytes of an image become numbers: little-endian reads that are checked
 * against the end of their structure. What lies outside is a damaged image, never a RangeError.
 */
import { corrupt } from './errors.ts';

const twoTo32 = 2 ** 32;

export class Region {
  readonly bytes: Uint8Array;
  readonly sizeBytes: number;
  readonly #view: DataView;
  readonly #what: string;

  /** `what` names the structure in messages. The bytes are not copied. */
  constructor(bytes: Uint8Array, what: string) {
    this.bytes = bytes;
    this.sizeBytes = bytes.byteLength;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
  }

  /** Throws EUCLEAN unless `sizeBytes` bytes from `offset` on lie inside. */
  #check(offset: number, sizeBytes: number): void {
    // Written so that NaN fails, too.
    if (!(offset >= 0 && sizeBytes >= 0 && offset + sizeBytes <= this.sizeBytes)) {
      throw corrupt(`${this.#what} ends before byte ${offset + sizeBytes}`);
    }
  }

  /**
   * For a structure of many fields: checked once as a whole. Only what lies in `[offset, offset + sizeBytes)` may be
   * read through the view, which is that of the whole region.
   */
  viewOf(offset: number, sizeBytes: number): DataView {
    this.#check(offset, sizeBytes);
    return this.#view;
  }

  u8(offset: number): number {
    this.#check(offset, 1);
    return this.#view.getUint8(offset);
  }

  u16(offset: number): number {
    this.#check(offset, 2);
    return this.#view.getUint16(offset, true);
  }

  u32(offset: number): number {
    this.#check(offset, 4);
    return this.#view.getUint32(offset, true);
  }

  i32(offset: number): number {
    this.#check(offset, 4);
    return this.#view.getInt32(offset, true);
  }

  /** A 64-bit number that must be exact as a JavaScript number: EUCLEAN from 2^53 on. */
  u64(offset: number): number {
    const value = this.u32(offset) + this.u32(offset + 4) * twoTo32;
    if (value > Number.MAX_SAFE_INTEGER) throw corrupt(`${this.#what} holds a number above 2^53`);
    return value;
  }

  /** A number whose upper half is stored elsewhere. Not exact above 2^53: hold it against a bound. */
  split(lowOffset: number, high: number): number {
    return this.u32(lowOffset) + high * twoTo32;
  }

  /** A view, not a copy. */
  slice(offset: number, sizeBytes: number): Uint8Array {
    this.#check(offset, sizeBytes);
    return this.bytes.subarray(offset, offset + sizeBytes);
  }

  /** A part of this structure as a structure of its own; a view, not a copy. */
  part(offset: number, sizeBytes: number, what = this.#what): Region {
    return new Region(this.slice(offset, sizeBytes), what);
  }
}

/** For numbers of any byte order in bytes whose length was checked, and for writing them. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
