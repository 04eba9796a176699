/**
 * Assertions for our own mistakes. Failures of the outside world are `EbbError`s, never assertions.
 */

/** A broken promise between two parts of Ebb: a bug, not an operating error. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/** Throws `AssertionError` unless `condition` holds. `message` says what should have been true. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(`Bug in Ebb: ${message}`);
}
