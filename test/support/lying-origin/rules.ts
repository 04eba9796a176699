/**
 * How the lying origin lies: rules that match requests and name a fault. Plain data, so that they
 * can be sent to an origin in another process. All rules that match a request apply to it together.
 */

export type OriginFault =
  /** Waits before anything is sent. */
  | { readonly kind: 'latency'; readonly latencyMs: number }
  /** Closes the connection before the answer. */
  | { readonly kind: 'cutBeforeHeaders'; readonly reset?: boolean }
  /** Closes the connection after so many bytes of the body (never, if the body is shorter). */
  | { readonly kind: 'cut'; readonly afterBytes: number; readonly reset?: boolean }
  /** Announces the whole length and sends less, then closes. */
  | { readonly kind: 'short'; readonly byBytes: number }
  /** Sends more than it announced. */
  | { readonly kind: 'long'; readonly byBytes: number }
  | {
      readonly kind: 'status';
      readonly status: number;
      /** Value of Retry-After: seconds or an HTTP date. */
      readonly retryAfter?: string;
      readonly body?: string;
    }
  /** 200 with the whole file to a ranged request. */
  | { readonly kind: 'ignoreRange' }
  /** 206 with another range, and a Content-Range that says so. */
  | { readonly kind: 'shiftRange'; readonly byBytes: number }
  /**
   * 206 with the Content-Range that was asked for and the bytes of another place: only a checksum
   * can tell.
   */
  | { readonly kind: 'shiftBody'; readonly byBytes: number }
  | { readonly kind: 'wrongTotal'; readonly totalBytes: number }
  | { readonly kind: 'unknownTotal' }
  | { readonly kind: 'noContentRange' }
  | { readonly kind: 'multipart' }
  /** 200 with an HTML page that says that something went wrong. */
  | { readonly kind: 'htmlPage' }
  | { readonly kind: 'loginRedirect' }
  | { readonly kind: 'redirectLoop' }
  | { readonly kind: 'stallHeaders' }
  | { readonly kind: 'stallBody'; readonly afterBytes: number }
  | { readonly kind: 'drip'; readonly bytesPerSecond: number }
  /** Every answer has another ETag. */
  | { readonly kind: 'changingEtag' }
  | { readonly kind: 'etag'; readonly value: string }
  | { readonly kind: 'noEtag' }
  | { readonly kind: 'noLastModified' }
  /**
   * As if the file had been replaced by one of the same size: every byte inverted, other
   * validators.
   */
  | { readonly kind: 'replaced'; readonly sameValidators?: boolean }
  /** The same from this byte of the body on: a file that is overwritten while it is being sent. */
  | { readonly kind: 'replacedMidway'; readonly afterBytes: number }
  /** Transfer-Encoding: chunked, no Content-Length; `cut`: ends without the last chunk. */
  | { readonly kind: 'chunked'; readonly cutAfterBytes?: number }
  /** No length at all: the end of the connection is the end of the body. */
  | { readonly kind: 'closeDelimited' }
  | { readonly kind: 'headRefused' }
  | {
      readonly kind: 'headLies';
      readonly sizeBytes?: number;
      readonly etag?: string;
      readonly lastModified?: string;
    }
  /** Content-Encoding: gzip, whatever was asked for. */
  | { readonly kind: 'gzip' }
  /**
   * A listing that ends half-way; clean: as a complete answer (only the missing end of the page
   * tells).
   */
  | { readonly kind: 'listingCut'; readonly afterBytes: number; readonly clean?: boolean }
  /** A listing in which every second name is missing, otherwise perfect. */
  | { readonly kind: 'listingHalf' }
  | { readonly kind: 'garbage'; readonly text?: string }
  /** Interim answers (default 103; 100 is one that nobody asked for) before the real one. */
  | { readonly kind: 'informational'; readonly count?: number; readonly status?: number }
  /** More header lines. */
  | { readonly kind: 'headers'; readonly lines: readonly string[] };

export interface OriginMatch {
  /** Decoded path with leading slash, in the lossless form of base/name.ts. */
  readonly path?: string;
  readonly prefix?: string;
  readonly method?: 'GET' | 'HEAD';
  readonly ranged?: boolean;
  /** Directory listings only, or files only. */
  readonly listing?: boolean;
}

export interface OriginRule {
  readonly fault: OriginFault;
  /** Absent: every request. */
  readonly match?: OriginMatch;
  /** Requests that it applies to; then it is spent. Default: no end. */
  readonly times?: number;
  /** Matching requests that it lets pass first. Default 0. */
  readonly skip?: number;
}

export interface RequestFacts {
  readonly path: string;
  readonly method: string;
  readonly ranged: boolean;
}

interface ActiveRule {
  readonly id: number;
  readonly rule: OriginRule;
  skipLeft: number;
  timesLeft: number;
}

export type FaultOf<Kind extends OriginFault['kind']> = Extract<OriginFault, { kind: Kind }>;

/** The faults of one request. */
export class FaultSet {
  readonly #faults: readonly OriginFault[];

  constructor(faults: readonly OriginFault[]) {
    this.#faults = faults;
  }

  get kinds(): string[] {
    return this.#faults.map((fault) => fault.kind);
  }

  has(kind: OriginFault['kind']): boolean {
    return this.#faults.some((fault) => fault.kind === kind);
  }

  /** The first fault of this kind. */
  get<Kind extends OriginFault['kind']>(kind: Kind): FaultOf<Kind> | undefined {
    return this.#faults.find((fault): fault is FaultOf<Kind> => fault.kind === kind);
  }
}

export class RuleTable {
  #rules: ActiveRule[] = [];
  #lastId = 0;

  add(rule: OriginRule): number {
    this.#lastId += 1;
    this.#rules.push({
      id: this.#lastId,
      rule,
      skipLeft: rule.skip ?? 0,
      timesLeft: rule.times ?? Infinity,
    });
    return this.#lastId;
  }

  remove(id: number): void {
    this.#rules = this.#rules.filter((active) => active.id !== id);
  }

  clear(): void {
    this.#rules = [];
  }

  /** Decides for one request, and counts it. */
  apply(facts: RequestFacts): FaultSet {
    const faults: OriginFault[] = [];
    for (const active of this.#rules) {
      if (!matches(active.rule.match ?? {}, facts)) continue;
      if (active.skipLeft > 0) active.skipLeft -= 1;
      else if (active.timesLeft > 0) {
        active.timesLeft -= 1;
        faults.push(active.rule.fault);
      }
    }
    return new FaultSet(faults);
  }
}

function matches(match: OriginMatch, facts: RequestFacts): boolean {
  if (match.path !== undefined && match.path !== facts.path) return false;
  if (match.prefix !== undefined && !facts.path.startsWith(match.prefix)) return false;
  if (match.method !== undefined && match.method !== facts.method) return false;
  if (match.ranged !== undefined && match.ranged !== facts.ranged) return false;
  return match.listing === undefined || match.listing === facts.path.endsWith('/');
}
