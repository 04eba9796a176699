/** Which copies of a remote image go before it is mounted. Pure: rows and numbers in, a choice out. */
import type { Content } from '../../catalog/catalog.ts';
import type { SpaceLimits, SpaceUse } from '../../policy/release-policy.ts';

/** Of `--cache-size`, when a mount begins: with less it would be full again at once. */
const freeShare = 0.25;

type CopyRow = Pick<Content, 'id' | 'residentBytes' | 'complete' | 'pinned'>;

/** The version that the remote was just seen to have. */
export interface OwnVersion {
  readonly id: number;
  readonly sizeBytes: number;
}

export interface CopyChoice {
  readonly ids: readonly number[];
  /** `--min-free` would not be there if all went: then no whole copy goes for it. */
  readonly isMinFreeOutOfReach: boolean;
}

/**
 * Parts of other versions go first, since they are of no use to anybody; then what is here of this one; then whole
 * copies of others, which may be the last ones: `rows` is in the order of their last use. What turns out to be needless
 * for the limits stays. The choice is made once: what a deletion frees may be seen later (XFS), or never.
 */
export function chooseCopies(
  rows: readonly CopyRow[],
  use: SpaceUse,
  limits: SpaceLimits,
  own: OwnVersion,
): CopyChoice {
  const { cacheSizeBytes, minFreeBytes = 0 } = limits;
  const isOwn = ({ id }: CopyRow): boolean => id === own.id;
  const candidates = rows.filter(({ pinned }) => !pinned);
  const parts = candidates.filter((row) => !isOwn(row) && !row.complete);
  const larger = [
    ...candidates.filter(isOwn),
    ...candidates.filter((row) => !isOwn(row) && row.complete),
  ];
  const isMinFreeOutOfReach = use.freeBytes + sumOf(candidates) < minFreeBytes;

  const suffices = (gone: readonly CopyRow[], wantedFreeBytes: number): boolean => {
    const goneBytes = sumOf(gone);
    if (use.freeBytes + goneBytes < wantedFreeBytes) return false;
    if (cacheSizeBytes === undefined) return true;
    // What may still come: nothing, if all is here.
    const hereBytes = sumOf(rows.filter((row) => isOwn(row) && !gone.includes(row)));
    const missingBytes = Math.max(0, own.sizeBytes - hereBytes);
    const roomBytes = Math.min(Math.ceil(freeShare * cacheSizeBytes), missingBytes);
    return use.allocatedBytes - goneBytes + roomBytes <= cacheSizeBytes;
  };

  let gone: CopyRow[] = [];
  for (const row of parts) if (!suffices(gone, minFreeBytes)) gone.push(row);
  const wantedFreeBytes = isMinFreeOutOfReach ? 0 : minFreeBytes;
  for (const row of larger) if (!suffices(gone, wantedFreeBytes)) gone.push(row);
  for (const row of larger.toReversed()) {
    const others = gone.filter((other) => other !== row);
    if (suffices(others, wantedFreeBytes)) gone = others;
  }
  return { ids: gone.map(({ id }) => id), isMinFreeOutOfReach };
}

function sumOf(rows: readonly CopyRow[]): number {
  return rows.reduce((sum, { residentBytes }) => sum + residentBytes, 0);
}
