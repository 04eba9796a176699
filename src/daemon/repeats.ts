/** Trouble that repeats itself: said a few times, then counted. Pure: time is an argument. */

/** Of one kind this many are said, each as it is; what they have in common is plain then. */
const saidMax = 10;
/** What is counted is said this often; after so long without any it is new again. */
export const countedEveryMs = 60_000;
/** All kinds beyond these are one. */
const kindsMax = 64;
const otherKind = 'other trouble';

interface Repeated {
  said: number;
  counted: number;
  last: string;
  /** Monotonic, when this count began. */
  sinceMs: number;
}

export interface Counted {
  readonly kind: string;
  /** 1 or more that were not said. */
  readonly count: number;
  readonly withinMs: number;
  /** What the last of them said. */
  readonly last: string;
}

export class Repeats {
  readonly #kinds = new Map<string, Repeated>();

  /** There are some that were counted and are not told yet. */
  get isCounting(): boolean {
    return this.#kinds.values().some(({ counted }) => counted > 0);
  }

  /** One more of this kind. True: to be said; false: it is counted. */
  isToBeSaid(kind: string, message: string, nowMs: number): boolean {
    const known = this.#kinds.has(kind) || this.#kinds.size < kindsMax ? kind : otherKind;
    const repeated = this.#kinds.get(known) ?? { said: 0, counted: 0, last: '', sinceMs: nowMs };
    this.#kinds.set(known, repeated);
    if (repeated.said < saidMax) {
      repeated.said += 1;
      return true;
    }
    repeated.counted += 1;
    repeated.last = message;
    return false;
  }

  /** What was counted for `countedEveryMs`; from now on it is counted anew. To be asked before `isToBeSaid`, too. */
  take(nowMs: number): Counted[] {
    const due: Counted[] = [];
    for (const [kind, repeated] of this.#kinds) {
      if (nowMs - repeated.sinceMs < countedEveryMs) continue;
      const { counted: count, last } = repeated;
      if (count === 0) {
        this.#kinds.delete(kind);
        continue;
      }
      due.push({ kind, count, withinMs: nowMs - repeated.sinceMs, last });
      repeated.counted = 0;
      repeated.sinceMs = nowMs;
    }
    return due;
  }
}
