/** Counts by name, added up. Pure. */

/** Both have the same names. */
export function addCounts<Counts extends Readonly<Record<keyof Counts, number>>>(
  left: Counts | undefined,
  right: Counts,
): Counts {
  if (left === undefined) return right;
  const sum: Counts = { ...right };
  for (const name of Object.keys(right) as (keyof Counts)[]) {
    Object.assign(sum, { [name]: left[name] + right[name] });
  }
  return sum;
}
