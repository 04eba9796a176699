/** How long to wait before trying again. Pure: randomness comes as an argument. */

export interface BackoffOptions {
  /** 0 for the wait after the first failure. */
  readonly attempt: number;
  /** Upper bound of the first wait. */
  readonly baseMs: number;
  /** Upper bound of every wait, except where the other side asked for more. */
  readonly maxMs: number;
  /** Uniform in [0, 1), as Math.random. */
  readonly random: () => number;
  /** What the other side asked for (Retry-After). */
  readonly retryAfterMs?: number | undefined;
}

/**
 * Exponential backoff with full jitter: uniform in [0, min(maxMs, baseMs * 2^attempt)), which
 * spreads clients best (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog). With
 * `retryAfterMs` never less than that; the jitter comes on top, because everybody was told the
 * same.
 */
export function backoffMs(options: BackoffOptions): number {
  const { attempt, baseMs, maxMs, random, retryAfterMs = 0 } = options;
  const ceilingMs = Math.min(maxMs, baseMs * 2 ** attempt);
  return Math.max(0, retryAfterMs) + random() * ceilingMs;
}
