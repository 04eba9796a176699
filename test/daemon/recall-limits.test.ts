/** What a daemon recalls with: large pieces from a directory, and still no more than what was asked for. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { optionDefaults } from '../../src/daemon/options.ts';
import { recallLimits, treeRecallLimits } from '../../src/daemon/recall-limits.ts';
import { RecallEngine } from '../../src/recall/engine.ts';
import { openRemote } from '../../src/remote/open-remote.ts';
import { noSignal } from '../conformance/collect.ts';
import { by, chunk, LocalFile, MiB } from '../recall/support.ts';
import { patternBytes } from '../support/pattern.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const sizeBytes = 20 * MiB + 5;
const seed = 3;

test('a directory is recalled in writes of 2 MiB, a chunk of it alone in one of its size', async () => {
  await using directory = await temporaryDirectory('recall-limits');
  await writeFile(path.join(directory.path, 'file'), patternBytes(seed, sizeBytes));
  const remote = await openRemote({ url: directory.path });
  const version = (await remote.stat('file', { signal: noSignal })).version ?? '';
  const writes: number[] = [];
  using file = new LocalFile({
    version,
    sizeBytes,
    beforeWrite: (_offsetBytes, lengthBytes) => void writes.push(lengthBytes),
  });
  const engine = new RecallEngine({ remote, limits: recallLimits(optionDefaults, remote) });
  try {
    await engine.ensure(file, 10 * MiB + 5, 1, by(1));
    assert.deepEqual(writes, [chunk]);
    await engine.ensure(file, 0, sizeBytes, by(1, 'get'));
    assert.equal(file.differenceTo(seed, 0, sizeBytes), -1);
    const large = writes.filter((lengthBytes) => lengthBytes === 2 * MiB).length;
    assert.ok(large >= 4 && Math.max(...writes) === 2 * MiB, `writes: ${writes.join(' ')}`);
  } finally {
    await engine.close();
    await remote.close();
  }
});

test('a web server is recalled as it was: many requests, small buffers, in trees of 2 MiB', () => {
  const { bufferBytes, bytesInFlightMax } = recallLimits(optionDefaults, { kind: 'http' });
  assert.deepEqual([bufferBytes, bytesInFlightMax], [undefined, undefined]);
  const ofTree = treeRecallLimits(optionDefaults, { kind: 'http' });
  assert.deepEqual([ofTree.bufferBytes, ofTree.bytesInFlightMax], [2 * MiB, undefined]);
});
