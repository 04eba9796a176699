/** Which writes the calling thread does itself. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '../../src/base/clock.ts';
import { WritesAtOnce } from '../../src/tree/local-io.ts';

const KiB = 1024;

test('small pieces are written at once, a chunk only after a pause; after a slow write none, for some seconds', () => {
  const clock = new ManualClock();
  let [takesMs, fails] = [1, false];
  let written = 0;
  const atOnce = new WritesAtOnce(clock, (_fd, bytes) => {
    clock.advance(takesMs);
    if (fails) throw new Error('full');
    written += bytes.byteLength;
  });
  const writes = (lengthBytes: number, uncommittedBytes: number): boolean => {
    const before = written;
    const isWritten = atOnce.write(1, new Uint8Array(lengthBytes), 0, uncommittedBytes);
    assert.equal(written - before, isWritten ? lengthBytes : 0);
    return isWritten;
  };
  assert.equal(writes(256 * KiB, 0), true);
  assert.equal(writes(256 * KiB + 1, 0), false);
  assert.equal(writes(256 * KiB, 1), false);
  assert.equal(writes(64 * KiB, 1024 * 1024 * KiB), true);
  assert.equal(writes(64 * KiB + 1, 1), false);
  takesMs = 51;
  assert.equal(writes(1, 0), true);
  assert.equal(writes(1, 0), false);
  clock.advance(4_999);
  assert.equal(writes(1, 0), false);
  clock.advance(1);
  fails = true;
  assert.throws(() => writes(1, 0), /full/);
  assert.equal(writes(1, 0), false, 'a slow failure counts');
  clock.advance(5_000);
  [takesMs, fails] = [50, false];
  assert.equal(writes(1, 0), true);
  assert.equal(writes(1, 0), true);
});
