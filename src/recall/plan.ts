/**
 * The planner: which chunks have to be fetched, in which requests. Pure arithmetic over runs of chunks.
 *
 * A plan takes away what is resident and what a flight already brings (one flight per chunk, always), and cuts
 * the rest into pieces. It stops after so many pieces: who wants more
 * plans again when some have landed, so that `get` of 1 TiB queues no more than `get` of 1 GiB.
 */

import type { ChunkRun } from '../tree/residency.ts';

/** `runs` without `covered`. Both ascending and each without overlaps; so is the result. */
export function subtractRuns(runs: readonly ChunkRun[], covered: readonly ChunkRun[]): ChunkRun[] {
  const left: ChunkRun[] = [];
  let index = 0;
  for (const run of runs) {
    let first = run.first;
    const end = run.first + run.count;
    while (index < covered.length && endOf(covered[index]) <= first) index += 1;
    for (let next = index; next < covered.length; next += 1) {
      const cover = covered[next] as ChunkRun;
      if (cover.first >= end) break;
      if (cover.first > first) left.push({ first, count: cover.first - first });
      first = Math.max(first, cover.first + cover.count);
      if (first >= end) break;
    }
    if (first < end) left.push({ first, count: end - first });
  }
  return left;
}

function endOf(run: ChunkRun | undefined): number {
  return run === undefined ? Infinity : run.first + run.count;
}

export interface PlanRequest {
  /** Ascending runs of chunks that are wanted and not resident. */
  readonly missing: readonly ChunkRun[];
  /** Ascending runs of chunks that flights bring already, anywhere in the file. */
  readonly covered: readonly ChunkRun[];
  /** Where the wanted chunks end: a complete plan reaches to here. */
  readonly plannedEnd: number;
  /** No piece is larger. 1 .. */
  readonly pieceChunksMax: number;
  /** No more pieces than this; the rest is for a later plan. 0 .. */
  readonly piecesMax: number;
}

export interface Plan {
  /** Ascending, without overlaps, none resident, none covered: one request each. */
  readonly pieces: readonly ChunkRun[];
  /**
   * Every wanted chunk before this one is resident, covered or in a piece. Equal to `plannedEnd` when the plan
   * is complete.
   */
  readonly plannedToChunk: number;
}

/** Plans requests for the wanted chunks that nobody brings yet. */
export function planPieces(request: PlanRequest): Plan {
  const { pieceChunksMax, piecesMax } = request;
  const pieces: ChunkRun[] = [];
  for (const run of subtractRuns(request.missing, request.covered)) {
    const end = run.first + run.count;
    for (let first = run.first; first < end;) {
      if (pieces.length >= piecesMax) return { pieces, plannedToChunk: first };
      const count = Math.min(pieceChunksMax, end - first);
      pieces.push({ first, count });
      first += count;
    }
  }
  return { pieces, plannedToChunk: request.plannedEnd };
}

/**
 * Piece size for a demanded range: all requests that may run at once share it, within the limits, because its
 * reader goes on only when the last chunk is here.
 */
export function demandPieceBytes(
  lengthBytes: number,
  parallelRequests: number,
  pieceMinBytes: number,
  pieceMaxBytes: number,
): number {
  const share = Math.ceil(lengthBytes / Math.max(1, parallelRequests));
  return Math.min(pieceMaxBytes, Math.max(pieceMinBytes, share));
}
