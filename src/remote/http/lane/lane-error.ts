/**
 * `stale`: a kept connection that the server had closed before it saw the request: a new one will do. `misframed`: the
 * body is framed in a way that the lane does not understand.
 */
export type LaneErrorReason = 'stale' | 'misframed' | undefined;

/** A failure of one of the lane's connections; `code` is one that errors.ts explains. */
export class LaneError extends Error {
  override readonly name = 'LaneError';
  readonly code: string;
  readonly reason: LaneErrorReason;

  constructor(code: string, message: string, reason?: LaneErrorReason, cause?: unknown) {
    super(message, { cause });
    this.code = code;
    this.reason = reason;
  }
}
