/** One request, against remotes that break the contract: no byte of theirs reaches the file at a wrong place. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ebbError } from '../../src/base/errors.ts';
import { BufferPool } from '../../src/recall/buffer-pool.ts';
import { Transfer } from '../../src/recall/transfer.ts';
import type { ListingBatch, ObjectAttributes, RangeSink, Remote } from '../../src/remote/remote.ts';
import { fillPattern } from '../support/pattern.ts';
import { chunk, isCode, LocalFile, MiB, settle } from './support.ts';

const sizeBytes = 4 * MiB;
const attributes: ObjectAttributes = { kind: 'file', sizeBytes, version: 'v1' };

/** A remote that does to the sink whatever the test wants. */
function remoteOf(read: (sink: RangeSink) => Promise<void>): Remote {
  return {
    kind: 'evil',
    displayName: 'evil:',
    supportsRanges: true,
    async *list(): AsyncIterable<ListingBatch> {
      yield { objects: [], skipped: [] };
    },
    stat: () => Promise.resolve(attributes),
    read: (_key, sink) => read(sink),
    close: () => Promise.resolve(),
  };
}

function transferOf(
  file: LocalFile,
  pool: BufferPool,
  buffersMax = 4,
  frontEndBytes?: number,
): Transfer {
  return new Transfer({
    file,
    chunks: { first: 0, count: 8 },
    whole: false,
    pool,
    buffersMax,
    frontEndBytes,
    onFront: () => {},
    isWanted: () => false,
    onWritten: () => {},
    onReceived: () => {},
    makeRoom: () => {},
  });
}

async function send(sink: RangeSink, lengthBytes: number): Promise<void> {
  let at = 0;
  while (at < lengthBytes) {
    const buffer = sink.buffer();
    const count = Math.min(buffer.length, lengthBytes - at, 100_000);
    fillPattern(buffer.subarray(0, count), 1, at);
    await sink.filled(count);
    at += count;
  }
}

test('a remote that goes on while the front is written makes no chunk of it', async () => {
  const held = Promise.withResolvers<void>();
  const beforeWrite = (offsetBytes: number): void | Promise<void> =>
    offsetBytes === 0 ? held.promise : undefined;
  using file = new LocalFile({ sizeBytes, beforeWrite });
  const remote = remoteOf(async (sink) => {
    sink.head(attributes);
    const taken: (void | Promise<void>)[] = [];
    for (let at = 0; at < MiB;) {
      const buffer = sink.buffer();
      fillPattern(buffer, 1, at);
      taken.push(sink.filled(buffer.length));
      at += buffer.length;
    }
    await new Promise((resolve) => setImmediate(resolve));
    setTimeout(held.resolve, 20);
    await Promise.all(taken.map((one) => Promise.resolve(one)));
  });
  const run = transferOf(file, new BufferPool(MiB, 4 * MiB, 1), 4, chunk / 4).run(remote);
  await assert.rejects(run, isCode('EIO'));
  assert.ok(!file.residency.hasChunk(0));
});

test('less than asked for is an error, whole chunks of it are kept', async () => {
  using file = new LocalFile({ sizeBytes });
  const pool = new BufferPool(MiB, 4 * MiB, 1);
  const remote = remoteOf(async (sink) => {
    sink.head(attributes);
    await send(sink, MiB + 3 * chunk + 7);
  });
  await assert.rejects(transferOf(file, pool).run(remote), isCode('EIO'));
  assert.equal(file.residency.residentChunks, 4);
  assert.deepEqual(file.wrongChunks(1), []);
  assert.equal(pool.taken, 0);
});

test('more than asked for is an error, and nothing lands behind the range', async () => {
  using file = new LocalFile({ sizeBytes });
  const pool = new BufferPool(MiB, 4 * MiB, 1);
  const remote = remoteOf(async (sink) => {
    sink.head(attributes);
    await send(sink, 2 * MiB + 1);
  });
  await assert.rejects(transferOf(file, pool).run(remote), isCode('EIO'));
  assert.ok(Math.max(...file.writesOfChunk.keys()) < 8);
  assert.deepEqual(file.wrongChunks(1), []);
});

test('memory that a failed remote may still write into is never used again', async () => {
  using file = new LocalFile({ sizeBytes });
  const pool = new BufferPool(MiB, MiB, 1);
  let kept = new Uint8Array();
  const failing = remoteOf(async (sink) => {
    sink.head(attributes);
    kept = sink.buffer() as Uint8Array<ArrayBuffer>;
    throw ebbError('EIO', 'broken');
  });
  await assert.rejects(transferOf(file, pool).run(failing), isCode('EIO'));
  await transferOf(file, pool).run(
    remoteOf(async (sink) => {
      sink.head(attributes);
      const before = sink.buffer();
      fillPattern(before.subarray(0, chunk), 1, 0);
      kept.fill(0xee);
      await sink.filled(chunk);
      let at = chunk;
      while (at < 2 * MiB) {
        const buffer = sink.buffer();
        const count = Math.min(buffer.length, 2 * MiB - at);
        fillPattern(buffer.subarray(0, count), 1, at);
        kept.fill(0xee);
        await sink.filled(count);
        at += count;
      }
    }),
  );
  assert.equal(file.residency.residentChunks, 8);
  assert.deepEqual(file.wrongChunks(1), []);
});

test('a slow disk holds the remote back: never more buffers than allowed', async () => {
  const release: (() => void)[] = [];
  const beforeWrite = (): Promise<void> =>
    new Promise((resolve) => {
      release.push(resolve);
    });
  using file = new LocalFile({ sizeBytes, chunkBytes: 64 * 1024, beforeWrite });
  const pool = new BufferPool(64 * 1024, MiB, 1);
  let takenMax = 0;
  const remote = remoteOf(async (sink) => {
    sink.head(attributes);
    let at = 0;
    while (at < 512 * 1024) {
      const buffer = sink.buffer();
      fillPattern(buffer, 1, at);
      at += buffer.length;
      takenMax = Math.max(takenMax, pool.taken);
      await sink.filled(buffer.length);
    }
  });
  const running = transferOf(file, pool, 2).run(remote);
  for (let index = 0; index < 8; index += 1) {
    await settle();
    assert.ok(release.length <= index + 2);
    release[index]?.();
  }
  await running;
  assert.equal(takenMax, 2);
  assert.equal(pool.taken, 0);
  assert.deepEqual(file.wrongChunks(1), []);
});

test('a stopped transfer rejects with the reason, although it waits for a buffer', async () => {
  using file = new LocalFile({ sizeBytes });
  const pool = new BufferPool(MiB, MiB, 1);
  const held = await pool.take();
  const transfer = transferOf(file, pool);
  const running = transfer.run(remoteOf(() => Promise.resolve()));
  transfer.stop(ebbError('EINTR', 'given up'));
  pool.give(held);
  await assert.rejects(running, isCode('EINTR'));
  assert.equal(pool.taken, 0);
});

test('a disk that loses a part of a chunk while the next is written: the chunk is not claimed', async () => {
  const partBytes = 64 * 1024;
  let writes = 0;
  using file = new LocalFile({
    sizeBytes,
    chunkBytes: chunk,
    beforeWrite: () => {
      writes += 1;
      if (writes === 6) file.losses += 1;
    },
  });
  const pool = new BufferPool(partBytes, MiB, 1);
  const remote = remoteOf(async (sink) => {
    sink.head(attributes);
    await send(sink, 2 * MiB);
  });
  // One buffer at a time: the first chunk is marked before the loss.
  await assert.rejects(transferOf(file, pool, 1).run(remote), isCode('EIO'));
  assert.deepEqual(file.residency.runs(), [{ first: 0, count: 1 }]);
  await transferOf(file, pool, 1).run(remote);
  assert.equal(file.residency.residentChunks, 8);
  assert.deepEqual(file.wrongChunks(1), []);
  assert.equal(pool.taken, 0);
});
