/**
 * Tables for a cyclic redundancy check of eight bytes at a time ("slicing by 8": Kounavis and Berry, 2005): table k
 * holds the effect of a byte that k more bytes follow.
 */
export type SlicingTables = readonly [
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
];

/**
 * `effectOf`: of one byte alone. `another`: what becomes of an effect when a byte of zeros follows, with the table of
 * those effects.
 */
export function slicingTables(
  effectOf: (byte: number) => number,
  another: (effect: number, first: Uint32Array) => number,
): SlicingTables {
  const first = Uint32Array.from({ length: 256 }, (_, byte) => effectOf(byte));
  const next = (table: Uint32Array) => table.map((effect) => another(effect, first));
  const second = next(first);
  const third = next(second);
  const fourth = next(third);
  const fifth = next(fourth);
  const sixth = next(fifth);
  const seventh = next(sixth);
  return [first, second, third, fourth, fifth, sixth, seventh, next(seventh)];
}
