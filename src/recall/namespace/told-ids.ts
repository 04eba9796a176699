/** Ids in any order, 8 bytes each, for a directory of millions of names. */

const bytesPerId = Float64Array.BYTES_PER_ELEMENT;
/** The memory grows in place by so many ids. */
const stepIds = 65_536;

export class ToldIds {
  readonly #buffer: ArrayBuffer;
  readonly #ids: Float64Array<ArrayBuffer>;
  #count = 0;

  /** `idsMax`: address space for so many is reserved; `add` throws a RangeError beyond it. */
  constructor(idsMax: number) {
    this.#buffer = new ArrayBuffer(0, { maxByteLength: (idsMax + stepIds) * bytesPerId });
    this.#ids = new Float64Array(this.#buffer);
  }

  add(id: number): void {
    if (this.#count === this.#ids.length) {
      this.#buffer.resize(this.#buffer.byteLength + stepIds * bytesPerId);
    }
    this.#ids[this.#count] = id;
    this.#count += 1;
  }

  /** All of them, ascending: the memory itself, sorted in place. */
  sorted(): Float64Array {
    return this.#ids.subarray(0, this.#count).sort();
  }
}
