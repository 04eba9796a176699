/** Memory of the last things that were told: a Map with an end. */

/** A Map of at most `max` entries: the one that was set longest ago makes room. */
export class BoundedMap<Key, Value> extends Map<Key, Value> {
  readonly #max: number;
  /**
   * Where the oldest is. A new iterator for each would skip, each time, all that has gone since the Map was last
   * rehashed: a hundred thousand steps for each entry of a large Map.
   */
  #oldest: Iterator<Key> | undefined;
  /** Since that iterator was begun. One that stays behind keeps in memory all that the Map has held since. */
  #sets = 0;

  /** 1 <= max. */
  constructor(max: number) {
    super();
    this.#max = max;
  }

  override set(key: Key, value: Value): this {
    super.delete(key);
    super.set(key, value);
    this.#sets += 1;
    if (this.#sets > this.#max) this.#forgetOldest();
    if (this.size > this.#max) this.#dropOldest();
    return this;
  }

  override clear(): void {
    super.clear();
    this.#forgetOldest();
  }

  #forgetOldest(): void {
    this.#oldest = undefined;
    this.#sets = 0;
  }

  #dropOldest(): void {
    // What the iterator has given is gone, and what is set goes to the end: it is never past the oldest.
    this.#oldest ??= this.keys();
    const { done, value } = this.#oldest.next();
    if (done !== true) super.delete(value);
  }
}
