/** A mount with `--connections 1` whose cache is full: room is made while a read waits for it, by asking the remote. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { openRemote } from '../../../src/remote/open-remote.ts';
import { never } from './collect.ts';
import { answer, scriptedOrigin } from './scripted-origin.ts';

for (const fastLane of [false, true]) {
  const how = fastLane ? 'lane' : 'undici';
  test(`a stat is answered while a read waits for its receiver, over one connection (${how})`, async () => {
    const body = Buffer.alloc(5_000_000, 'A');
    await using origin = await scriptedOrigin((request) => {
      const fields = { ETag: '"v1"', 'Content-Length': body.length };
      return answer(200, fields, request.method === 'HEAD' ? '' : body);
    });
    const remote = await openRemote({ url: origin.url, proxy: '', connections: 1, fastLane });
    const memory = new Uint8Array(1_000_000);
    const sizes: (number | undefined)[] = [];
    const filled = async (): Promise<void> => {
      sizes.push((await remote.stat('other', { signal: never })).sizeBytes);
    };
    try {
      const sink = { head: () => undefined, buffer: () => memory, filled };
      const whole = { offsetBytes: 0, lengthBytes: undefined, version: undefined };
      await remote.read('file', sink, { ...whole, signal: never });
      assert.ok(sizes.length >= 5);
      assert.ok(sizes.every((size) => size === body.length));
    } finally {
      await remote.close();
    }
  });
}
