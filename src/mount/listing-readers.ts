/**
 * Programs that are reading a directory. One that began while the listing was fresh is served from that listing to its
 * end, however long that takes: going through a directory of a million names takes longer than the time to live, and
 * asking the remote about each of the names that are left would take hours.
 *
 * So that nobody is served old names for ever, a reader is trusted with each name once, in the order of the listing:
 * `find`, `ls -l`, `tar` and `du` look at names in the order in which they were given them. It may have closed the
 * directory by then (fts(3) does), but not have paused for longer than the time to live.
 */
import { BoundedMap } from '../base/bounded-map.ts';

/** Readers remembered; what is older is served by the time to live alone. */
export const readersMax = 4_096;
/** Long enough for what a program does with one name; others may see it, too. */
const trustMaxMs = 1_000;

export class ListingReader {
  /** How long the kernel may trust what it is told. */
  readonly trustMs: number;
  /** What it did last; at first: until when it need not be trusted. */
  usedAtMs: number;
  #givenId = 0;
  #passedId = 0;

  constructor(usedAtMs: number, trustMs: number) {
    this.usedAtMs = usedAtMs;
    this.trustMs = trustMs;
  }

  /** Whether a name may be given along with what the listing says of it. */
  mayBeGiven(nodeId: number): boolean {
    return nodeId > this.#givenId;
  }

  /** It was. */
  gave(nodeId: number): void {
    this.#givenId = Math.max(this.#givenId, nodeId);
  }

  /** Whether the name that is looked up is the next one. */
  comesTo(nodeId: number): boolean {
    if (nodeId <= this.#passedId) return false;
    this.#passedId = nodeId;
    return true;
  }
}

export class ListingReaders {
  readonly #ttlMs: number;
  readonly #nowMs: () => number;
  /** By directory and thread, in the order in which they began. */
  readonly #readers = new BoundedMap<string, ListingReader>(readersMax);

  constructor(ttlMs: number, nowMs: () => number) {
    this.#ttlMs = ttlMs;
    this.#nowMs = nowMs;
  }

  get count(): number {
    return this.#readers.size;
  }

  /** A thread (`pid` of a request is the id of one) opened a directory whose listing is fresh for `freshMs` still. */
  opened(directoryId: number, pid: number, freshMs: number): void {
    if (freshMs === 0) return;
    const key = `${directoryId} ${pid}`;
    this.#readers.set(
      key,
      new ListingReader(this.#nowMs() + freshMs, Math.min(trustMaxMs, this.#ttlMs)),
    );
  }

  /** Undefined: it is none, or has paused too long. */
  find(directoryId: number, pid: number): ListingReader | undefined {
    const key = `${directoryId} ${pid}`;
    const reader = this.#readers.get(key);
    if (reader === undefined) return undefined;
    const nowMs = this.#nowMs();
    if (nowMs - reader.usedAtMs >= this.#ttlMs) {
      this.#readers.delete(key);
      return undefined;
    }
    reader.usedAtMs = Math.max(reader.usedAtMs, nowMs);
    return reader;
  }
}
