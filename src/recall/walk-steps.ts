/**
 * Steps in order: who takes one entry of a directory after the other. A walker is a process (or, for builds that start
 * a process per file, everybody together) that makes `stepsNeeded` steps forward in one directory, each to one of
 * the next `stepMax` entries. Random readers do not do that, and one open file is no walk. Advice doubles while the
 * walker keeps up with it, and ends when it leaves the order or stops for `idleMaxMs`. Pure.
 */

export type WalkKind =
  /** The content of a file was asked for. */
  | 'open'
  /** Exact attributes of an entry were asked for that the listing did not tell. */
  | 'lookup'
  /** A directory was listed. */
  | 'list';

export interface WalkEvent {
  readonly kind: WalkKind;
  readonly pid: number;
  /** The directory that holds the entry (for `list`: the parent of the listed directory). */
  readonly directoryId: number;
  /**
   * Place of the entry in the order of the listing, from 0, counted among the entries of its sort: files for
   * `open` and `lookup`, directories for `list`.
   */
  readonly ordinal: number;
  /** Of a file, where known. Large files are passed over: reading them is no walk over small things. */
  readonly sizeBytes?: number;
  /** Monotonic. */
  readonly nowMs: number;
}

/** Do `kind` for the entries `firstOrdinal` .. `firstOrdinal + count - 1` (as far as they exist). */
export interface WalkAdvice {
  readonly kind: WalkKind;
  /** It is the process itself that walks, not everybody together. */
  readonly isOwn: boolean;
  readonly directoryId: number;
  readonly firstOrdinal: number;
  readonly count: number;
  /** For `open`: skip larger files ... */
  readonly fileMaxBytes: number;
  /** ... and stop when so much has been asked for. */
  readonly totalMaxBytes: number;
}

export interface WalkLimits {
  readonly walkersMax: number;
  readonly idleMaxMs: number;
  /** Steps in order before the first advice. */
  readonly stepsNeeded: number;
  /** How far ahead the next step may be. */
  readonly stepMax: number;
  readonly countInitial: number;
  readonly countMax: Readonly<Record<WalkKind, number>>;
  readonly fileMaxBytes: number;
  readonly totalMaxBytes: number;
}

export const defaultWalkLimits: WalkLimits = Object.freeze({
  walkersMax: 256,
  idleMaxMs: 10_000,
  stepsNeeded: 2,
  stepMax: 2,
  countInitial: 4,
  countMax: Object.freeze({ open: 64, lookup: 64, list: 16 }),
  fileMaxBytes: 1024 * 1024,
  totalMaxBytes: 16 * 1024 * 1024,
});

interface Walker {
  ordinal: number;
  steps: number;
  /** 0 before the first advice. */
  count: number;
  /** Entries before this one have been advised. */
  advisedEnd: number;
  seenAtMs: number;
}

/** Process ids are positive. */
const everybody = 0;

export class StepDetector {
  readonly #limits: WalkLimits;
  /** In the order of last use. */
  readonly #walkers: Map<string, Walker> = new Map();

  constructor(limits: Partial<WalkLimits> = {}) {
    this.#limits = { ...defaultWalkLimits, ...limits };
  }

  /** Walkers remembered; at most `walkersMax`. */
  get size(): number {
    return this.#walkers.size;
  }

  /** Takes note of a step; returns what to ask for ahead, if anything. Nothing is advised twice to one walker. */
  observe(event: WalkEvent): WalkAdvice | undefined {
    const own = this.#step(event, event.pid);
    const shared = this.#step(event, everybody);
    if (own === undefined || shared === undefined) return own ?? shared;
    // What everybody does together is less certain than what one does.
    return own;
  }

  /** The directory was listed again or is gone: its ordinals mean something else now. */
  forgetDirectory(directoryId: number): void {
    for (const key of this.#walkers.keys()) {
      if (key.endsWith(` ${directoryId}`)) this.#walkers.delete(key);
    }
  }

  #step(event: WalkEvent, pid: number): WalkAdvice | undefined {
    const walker = this.#walkerOf(event, pid);
    const distance = event.ordinal - walker.ordinal;
    const idle = event.nowMs - walker.seenAtMs > this.#limits.idleMaxMs;
    walker.seenAtMs = event.nowMs;
    if (distance === 0 && !idle) return undefined;
    const inAdvice = distance > 0 && event.ordinal < walker.advisedEnd;
    const forward = distance > 0 && (distance <= this.#limits.stepMax || inAdvice);
    walker.ordinal = event.ordinal;
    if (idle || !forward) {
      // Parallel programs finish out of order: a step back within what was advised ends nothing.
      if (!idle && distance < 0 && -distance <= this.#limits.stepMax && walker.count > 0) {
        walker.ordinal -= distance;
        return undefined;
      }
      walker.steps = 0;
      walker.count = 0;
      walker.advisedEnd = 0;
      return undefined;
    }
    if ((event.sizeBytes ?? 0) > this.#limits.fileMaxBytes) return undefined;
    walker.steps += 1;
    return this.#advise(event, walker, pid !== everybody);
  }

  #advise(event: WalkEvent, walker: Walker, isOwn: boolean): WalkAdvice | undefined {
    const { stepsNeeded, countInitial, countMax, fileMaxBytes, totalMaxBytes } = this.#limits;
    if (walker.steps < stepsNeeded) return undefined;
    const next = event.ordinal + 1;
    if (walker.advisedEnd - next > walker.count / 2) return undefined;
    const grown = walker.count === 0 ? countInitial : walker.count * 2;
    walker.count = Math.min(countMax[event.kind], grown);
    const firstOrdinal = Math.max(next, walker.advisedEnd);
    const end = next + walker.count;
    if (end <= firstOrdinal) return undefined;
    walker.advisedEnd = end;
    return {
      kind: event.kind,
      isOwn,
      directoryId: event.directoryId,
      firstOrdinal,
      count: end - firstOrdinal,
      fileMaxBytes,
      totalMaxBytes,
    };
  }

  #walkerOf(event: WalkEvent, pid: number): Walker {
    const key = `${event.kind} ${pid} ${event.directoryId}`;
    const known = this.#walkers.get(key);
    if (known !== undefined) {
      this.#walkers.delete(key);
      this.#walkers.set(key, known);
      return known;
    }
    if (this.#walkers.size >= this.#limits.walkersMax) {
      const [oldest] = this.#walkers.keys();
      if (oldest !== undefined) this.#walkers.delete(oldest);
    }
    // The first entry ever seen is no step forward, wherever it is.
    const walker = {
      ordinal: event.ordinal,
      steps: 0,
      count: 0,
      advisedEnd: 0,
      seenAtMs: event.nowMs,
    };
    this.#walkers.set(key, walker);
    return walker;
  }
}
