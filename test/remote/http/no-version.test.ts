/** Servers that give neither ETag nor Last-Modified: nothing tells two contents of one size from each other. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { openRemote } from '../../../src/remote/open-remote.ts';
import type { Remote } from '../../../src/remote/remote.ts';
import { MemorySink, never, readInto } from './collect.ts';
import { answer, askedRange, scriptedOrigin } from './scripted-origin.ts';
import type { Script } from './scripted-origin.ts';

const sizeBytes = 200_000;
const oldContent = Buffer.alloc(sizeBytes, 'A');
const newContent = Buffer.alloc(sizeBytes, 'B');

/** The first GET breaks off after a quarter; then the object is another one of the same size. */
function replacedMidway(): Script {
  let gets = 0;
  return (request) => {
    if (request.method === 'HEAD') return answer(200, { 'Content-Length': sizeBytes });
    gets += 1;
    const content = gets === 1 ? oldContent : newContent;
    const isRanged = request.headers['range'] !== undefined;
    const [first, last] = isRanged ? askedRange(request) : [0, sizeBytes - 1];
    const end = Number.isNaN(last) ? sizeBytes : last + 1;
    const fields = isRanged ? { 'Content-Range': `bytes ${first}-${end - 1}/${sizeBytes}` } : {};
    const whole = answer(isRanged ? 206 : 200, fields, content.subarray(first, end));
    if (gets > 1) return whole;
    request.socket.end(whole.subarray(0, sizeBytes / 4));
    return undefined;
  };
}

for (const fastLane of [false, true]) {
  describe(fastLane ? 'fast lane' : 'undici', () => {
    async function against(use: (remote: Remote) => Promise<void>): Promise<void> {
      await using origin = await scriptedOrigin(replacedMidway());
      const remote = await openRemote({
        url: origin.url,
        proxy: '',
        fastLane,
        retryPauses: { baseMs: 1, maxMs: 2 },
      });
      try {
        await use(remote);
      } finally {
        await remote.close();
      }
    }

    test('a read that broke off is not gone on with: what follows may be of another content', async () => {
      await against(async (remote) => {
        const { version, sizeBytes: told } = await remote.stat('f', { signal: never });
        assert.deepEqual([version, told], [undefined, sizeBytes]);
        const sink = new MemorySink();
        await assert.rejects(readInto(remote, 'f', {}, sink), { code: 'EIO' });
        assert.ok(sink.receivedBytes > 0, 'it broke off in the middle');
        assert.deepEqual(sink.bytes(), oldContent.subarray(0, sink.receivedBytes));
        assert.deepEqual((await readInto(remote, 'f')).bytes(), newContent);
      });
    });

    test('a size that was a version once is none: it is refused before a byte', async () => {
      await against(async (remote) => {
        const sink = new MemorySink();
        const what = { offsetBytes: 10, lengthBytes: 20, version: `size=${sizeBytes}` };
        await assert.rejects(readInto(remote, 'f', what, sink), { code: 'EIO' });
        assert.equal(sink.receivedBytes, 0);
      });
    });
  });
}
