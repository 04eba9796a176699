/** One caller of `ensure`: the chunks it waits for, how far they are planned, and how it is told. */
import type { EbbError } from '../base/errors.ts';
import type { ContentFile } from '../tree/content.ts';
import type { ChunkRun } from '../tree/residency.ts';
import type { Intent, Requester } from './recall.ts';

export interface WaiterOptions {
  readonly file: ContentFile;
  /** What it waits for. */
  readonly wanted: ChunkRun;
  /** What is fetched on its behalf: at least `wanted` (small files come whole). */
  readonly planned: ChunkRun;
  readonly intent: Intent;
  readonly requester: Requester;
  readonly streamId: number | undefined;
  /** Monotonic; Infinity = none. */
  readonly deadlineAtMs: number;
  readonly deadlineMs: number;
  readonly signal: AbortSignal | undefined;
  /** See `EnsureOptions.onBytes`: it waits for bytes of one chunk, up to there. */
  readonly bytes: { readonly neededToBytes: number; readonly onBytes: () => void } | undefined;
  readonly resolve: () => void;
  readonly reject: (error: EbbError) => void;
}

export class Waiter {
  readonly options: WaiterOptions;
  /** Everything wanted before this chunk is resident. */
  front: number;
  readonly end: number;
  /** Everything planned before this chunk is resident or has a flight. */
  cursor: number;
  readonly cursorEnd: number;
  /** It had joined somebody's less urgent flight that failed, and now has its own. */
  retried = false;
  settled = false;
  readonly #onAbort: (() => void) | undefined;

  /** `onAbort` is called when the caller gave up. */
  constructor(options: WaiterOptions, onAbort: (waiter: Waiter) => void) {
    this.options = options;
    this.front = options.wanted.first;
    this.end = options.wanted.first + options.wanted.count;
    this.cursor = options.planned.first;
    this.cursorEnd = options.planned.first + options.planned.count;
    if (options.signal !== undefined) {
      this.#onAbort = () => onAbort(this);
      options.signal.addEventListener('abort', this.#onAbort, { once: true });
    }
  }

  waitsFor(firstChunk: number, endChunk: number): boolean {
    return !this.settled && this.front < endChunk && firstChunk < this.end;
  }

  /** Whether bytes of this chunk, up to `toBytes`, are all that it waits for. */
  needsOnly(chunk: number, toBytes: number): boolean {
    const { bytes } = this.options;
    return bytes !== undefined && bytes.neededToBytes <= toBytes && this.waitsFor(chunk, chunk + 1);
  }

  /** Those are in the file. */
  resolveByBytes(): void {
    this.options.bytes?.onBytes();
    this.resolve();
  }

  /** Looks at the bitmap again. True when all that was wanted is here. */
  advance(): boolean {
    const { residency } = this.options.file;
    while (this.front < this.end && residency.hasChunk(this.front)) this.front += 1;
    return this.front === this.end;
  }

  /** Of one file: what cannot be planned for this one cannot be for the other, as far as flights and room decide. */
  wantsAs(other: Waiter): boolean {
    return (
      this.front === other.front &&
      this.cursorEnd === other.cursorEnd &&
      this.options.intent === other.options.intent
    );
  }

  /** A flight for these chunks ended early: those that are wanted have to be planned again. */
  unplan(firstChunk: number, endChunk: number): void {
    if (!this.waitsFor(firstChunk, endChunk)) return;
    this.cursor = Math.min(this.cursor, Math.max(firstChunk, this.front));
  }

  resolve(): void {
    if (this.#settle()) this.options.resolve();
  }

  reject(error: EbbError): void {
    if (this.#settle()) this.options.reject(error);
  }

  #settle(): boolean {
    if (this.settled) return false;
    this.settled = true;
    if (this.#onAbort !== undefined) {
      this.options.signal?.removeEventListener('abort', this.#onAbort);
    }
    return true;
  }
}
