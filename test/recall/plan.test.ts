/** The planner's arithmetic, by properties: covers what was asked, never twice, never beyond. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { demandPieceBytes, planPieces, subtractRuns } from '../../src/recall/plan.ts';
import type { ChunkRun } from '../../src/tree/residency.ts';

const chunkCount = 48;

function runsOf(chunks: ReadonlySet<number>): ChunkRun[] {
  const runs: ChunkRun[] = [];
  for (let first = 0; first < chunkCount; first += 1) {
    if (!chunks.has(first)) continue;
    let end = first;
    while (chunks.has(end)) end += 1;
    runs.push({ first, count: end - first });
    first = end;
  }
  return runs;
}

function chunksOf(runs: readonly ChunkRun[]): number[] {
  return runs.flatMap((run) => Array.from({ length: run.count }, (_, index) => run.first + index));
}

const someChunks = fc
  .uniqueArray(fc.nat(chunkCount - 1))
  .map((chunks) => new Set(chunks) as ReadonlySet<number>);

/** Cuts runs at random places: flights that touch are separate runs. */
function cut(runs: readonly ChunkRun[], at: ReadonlySet<number>): ChunkRun[] {
  return runs.flatMap((run) => {
    const pieces: ChunkRun[] = [];
    let first = run.first;
    for (let chunk = run.first + 1; chunk <= run.first + run.count; chunk += 1) {
      if (chunk < run.first + run.count && !at.has(chunk)) continue;
      pieces.push({ first, count: chunk - first });
      first = chunk;
    }
    return pieces;
  });
}

test('subtractRuns is set difference, ascending', () => {
  fc.assert(
    fc.property(someChunks, someChunks, someChunks, (wanted, covered, cuts) => {
      const left = subtractRuns(runsOf(wanted), cut(runsOf(covered), cuts));
      const expected = [...wanted].filter((chunk) => !covered.has(chunk)).sort((a, b) => a - b);
      assert.deepEqual(chunksOf(left), expected);
      assert.ok(left.every((run) => run.count > 0));
    }),
  );
});

test('a plan covers everything up to plannedToChunk, in pieces that keep their maximum', () => {
  fc.assert(
    fc.property(
      someChunks,
      someChunks,
      fc.integer({ min: 1, max: 9 }),
      fc.nat(12),
      (missing, covered, pieceChunksMax, piecesMax) => {
        const plan = planPieces({
          missing: runsOf(missing),
          covered: runsOf(covered),
          plannedEnd: chunkCount,
          pieceChunksMax,
          piecesMax,
        });
        assert.ok(plan.pieces.length <= piecesMax);
        assert.ok(plan.pieces.every((piece) => piece.count <= pieceChunksMax && piece.count > 0));
        const planned = chunksOf(plan.pieces);
        assert.equal(new Set(planned).size, planned.length, 'no chunk twice');
        assert.deepEqual(
          planned,
          [...missing]
            .filter((chunk) => !covered.has(chunk) && chunk < plan.plannedToChunk)
            .sort((a, b) => a - b),
        );
        if (plan.pieces.length < piecesMax) assert.equal(plan.plannedToChunk, chunkCount);
      },
    ),
  );
});

test('a big demanded range is shared by all requests that may run, within the limits', () => {
  const MiB = 1024 * 1024;
  assert.equal(demandPieceBytes(4096, 8, MiB, 8 * MiB), MiB);
  assert.equal(demandPieceBytes(16 * MiB, 8, MiB, 8 * MiB), 2 * MiB);
  assert.equal(demandPieceBytes(1024 * MiB, 8, MiB, 8 * MiB), 8 * MiB);
  assert.equal(demandPieceBytes(3 * MiB, 0, MiB, 8 * MiB), 3 * MiB);
});
