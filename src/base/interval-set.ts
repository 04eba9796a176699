/**
 * Sets of byte ranges: sorted, disjoint, never touching half-open intervals `[start, end)` of whole
 * numbers 0 .. 2^53-1. Used for what is missing, in flight or wanted. No I/O; not safe to change
 * while iterating.
 */
import { assert } from './assert.ts';

export interface Interval {
  readonly start: number;
  /** First number behind the interval; start < end. */
  readonly end: number;
}

export class IntervalSet implements Iterable<Interval> {
  #intervals: Interval[] = [];

  /** A set of the given intervals, in any order; empty ones (start = end) count as nothing. */
  static of(...intervals: readonly Interval[]): IntervalSet {
    const set = new IntervalSet();
    for (const { start, end } of intervals) set.add(start, end);
    return set;
  }

  /** Number of separate intervals. */
  get size(): number {
    return this.#intervals.length;
  }

  get isEmpty(): boolean {
    return this.#intervals.length === 0;
  }

  /** How many numbers are in the set. O(size). */
  get totalLength(): number {
    return this.#intervals.reduce((sum, { start, end }) => sum + (end - start), 0);
  }

  [Symbol.iterator](): Iterator<Interval> {
    return this.#intervals[Symbol.iterator]();
  }

  clone(): IntervalSet {
    const copy = new IntervalSet();
    copy.#intervals = [...this.#intervals];
    return copy;
  }

  clear(): void {
    this.#intervals = [];
  }

  /** Adds `[start, end)`, joining what overlaps or touches. O(log size + intervals behind it). */
  add(start: number, end: number): void {
    checkInterval(start, end);
    if (start === end) return;
    // Those that touch are joined too, hence one wider on both sides than `remove`.
    const first = this.#firstEndingAtOrAfter(start);
    let behind = first;
    let joinedStart = start;
    let joinedEnd = end;
    for (; behind < this.#intervals.length; behind += 1) {
      const interval = this.#intervals[behind] as Interval;
      if (interval.start > end) break;
      joinedStart = Math.min(joinedStart, interval.start);
      joinedEnd = Math.max(joinedEnd, interval.end);
    }
    this.#intervals.splice(first, behind - first, { start: joinedStart, end: joinedEnd });
  }

  /** Removes `[start, end)`, cutting intervals in two where needed. */
  remove(start: number, end: number): void {
    checkInterval(start, end);
    if (start === end) return;
    const first = this.#firstEndingAtOrAfter(start + 1);
    const rest: Interval[] = [];
    let behind = first;
    for (; behind < this.#intervals.length; behind += 1) {
      const interval = this.#intervals[behind] as Interval;
      if (interval.start >= end) break;
      if (interval.start < start) rest.push({ start: interval.start, end: start });
      if (interval.end > end) rest.push({ start: end, end: interval.end });
    }
    this.#intervals.splice(first, behind - first, ...rest);
  }

  /** Removes everything that is in `other`. */
  subtract(other: IntervalSet): void {
    assert(other !== this, 'a set is not subtracted from itself');
    for (const { start, end } of other.#intervals) this.remove(start, end);
  }

  has(value: number): boolean {
    return this.contains(value, value + 1);
  }

  /** Whether all of `[start, end)` is in the set; an empty range always is. */
  contains(start: number, end: number): boolean {
    checkInterval(start, end);
    if (start === end) return true;
    const interval = this.#intervals[this.#firstEndingAtOrAfter(start + 1)];
    return interval !== undefined && interval.start <= start && interval.end >= end;
  }

  /** Whether any of `[start, end)` is in the set. */
  intersects(start: number, end: number): boolean {
    checkInterval(start, end);
    if (start === end) return false;
    const interval = this.#intervals[this.#firstEndingAtOrAfter(start + 1)];
    return interval !== undefined && interval.start < end;
  }

  /** The parts of `[start, end)` that are in the set, ascending. */
  *within(start: number, end: number): IterableIterator<Interval> {
    checkInterval(start, end);
    if (start === end) return;
    for (let index = this.#firstEndingAtOrAfter(start + 1); ; index += 1) {
      const interval = this.#intervals[index];
      if (interval === undefined || interval.start >= end) return;
      yield { start: Math.max(start, interval.start), end: Math.min(end, interval.end) };
    }
  }

  /** The parts of `[start, end)` that are not in the set, ascending. */
  *gaps(start: number, end: number): IterableIterator<Interval> {
    let position = start;
    for (const covered of this.within(start, end)) {
      if (covered.start > position) yield { start: position, end: covered.start };
      position = covered.end;
    }
    if (position < end) yield { start: position, end };
  }

  /** Index of the first interval with `interval.end >= value`; `size` when there is none. */
  #firstEndingAtOrAfter(value: number): number {
    let low = 0;
    let high = this.#intervals.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#intervals[middle] as Interval).end >= value) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

function checkInterval(start: number, end: number): void {
  assert(
    Number.isSafeInteger(start) && Number.isSafeInteger(end) && start >= 0 && end >= start,
    'an interval is 0 <= start <= end < 2^53',
  );
}
