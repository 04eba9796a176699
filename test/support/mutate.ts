/** Blind mutation: a parser of what others made may refuse with an `EbbError`, and nothing else. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { EbbError } from '../../src/base/errors.ts';

export interface Span {
  readonly start: number;
  readonly end: number;
}

/** What parsers are asked to be done with, on a slow machine under load, too. */
const runMaxMs = 20_000;
const interesting = [0, 1, 2, 7, 8, 0x40, 0x7f, 0x80, 0xfe, 0xff] as const;

/**
 * Calls `parse` `runs` times with `bytes`, 1 to 6 of them within `places` changed, or cut off; afterwards they are as
 * before. Fails when it throws anything but the errors of a damaged, unknown or unreadable image, or takes long.
 */
export function mutate(
  bytes: Uint8Array,
  places: readonly Span[],
  runs: number,
  parse: (mutant: Uint8Array) => void,
): void {
  const change = fc.record({
    place: fc.nat(places.length - 1),
    where: fc.nat(2 ** 31 - 1),
    value: fc.oneof(fc.constantFrom(...interesting), fc.nat(255)),
  });
  const cut = fc.option(fc.nat(bytes.length), { freq: 8 });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), cut, (changes, length) => {
      const mutant = bytes.subarray(0, length ?? bytes.length);
      const undo: (readonly [number, number])[] = [];
      for (const { place, where, value } of changes) {
        const span = places[place];
        assert.ok(span !== undefined);
        const at = span.start + (where % (span.end - span.start));
        undo.unshift([at, bytes[at] ?? 0]);
        bytes[at] = value;
      }
      const start = performance.now();
      try {
        parse(mutant);
      } catch (error) {
        assert.ok(error instanceof EbbError, String(error instanceof Error ? error.stack : error));
        assert.ok(['EUCLEAN', 'EOPNOTSUPP', 'EIO', 'EINVAL'].includes(error.code), error.message);
      } finally {
        for (const [at, value] of undo) bytes[at] = value;
      }
      assert.ok(performance.now() - start < runMaxMs, 'a parser hangs');
    }),
    { numRuns: runs },
  );
}
