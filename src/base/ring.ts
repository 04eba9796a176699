/** The last N of something: bounded, oldest dropped first. */
import { assert } from './assert.ts';

export class Ring<T> {
  readonly capacity: number;
  #items: T[] = [];
  /** Where the next item goes once the ring is full: the place of the oldest. */
  #next = 0;

  /** 1 <= capacity. */
  constructor(capacity: number) {
    assert(Number.isSafeInteger(capacity) && capacity >= 1, 'a ring holds at least one');
    this.capacity = capacity;
  }

  get length(): number {
    return this.#items.length;
  }

  push(item: T): void {
    if (this.#items.length < this.capacity) {
      this.#items.push(item);
      return;
    }
    this.#items[this.#next] = item;
    this.#next = (this.#next + 1) % this.capacity;
  }

  /** The last `count` items, oldest first. */
  last(count: number = this.capacity): T[] {
    const ordered = [...this.#items.slice(this.#next), ...this.#items.slice(0, this.#next)];
    return ordered.slice(Math.max(0, ordered.length - count));
  }

  clear(): void {
    this.#items = [];
    this.#next = 0;
  }
}
