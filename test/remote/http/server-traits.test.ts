/** What is learnt of a server's way with ranges, and for how long. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { FinalHead } from '../../../src/remote/http/http-client.ts';
import { ServerTraits } from '../../../src/remote/http/server-traits.ts';
import { openRemote } from '../../../src/remote/open-remote.ts';
import { knownBytes } from '../../support/hostile-tree.ts';
import { readInto } from './collect.ts';
import { answer, scriptedOrigin } from './scripted-origin.ts';

function head(fields: Readonly<Record<string, string>> = {}, redirected = false): FinalHead {
  const about = {
    url: 'http://h/f',
    redirected,
    namesDirectory: false,
    credentialsWithheld: false,
  };
  return { status: 200, headers: fields, ...about };
}

test('three objects without ranges are the way of the server, for ten minutes', () => {
  let nowMs = 1_000_000;
  const traits = new ServerTraits(() => nowMs);
  const ignored = (...keys: readonly string[]): boolean => {
    for (const key of keys) traits.ignoredRange(key, head());
    return !traits.supportsRanges;
  };
  assert.equal(ignored('a', 'a', 'a', 'b'), false);
  traits.honouredRange(head());
  assert.equal(ignored('c', 'd'), false);
  assert.equal(ignored('e'), true);
  nowMs += 10 * 60_000 - 1;
  assert.equal(traits.supportsRanges, false);
  nowMs += 1;
  assert.equal(traits.supportsRanges, true);
  assert.equal(ignored('a', 'b'), false);
  assert.equal(ignored('c'), true);
});

test('Accept-Ranges: none counts for its object; answers of other servers count for nothing', () => {
  const traits = new ServerTraits(() => 0);
  const none = { 'accept-ranges': 'None' };
  for (const key of ['a', 'b', 'c', 'd']) traits.learnFrom(key, head(none, true));
  for (const key of ['a', 'b', 'c', 'd']) traits.ignoredRange(key, head({}, true));
  for (const key of ['a', 'b', 'c', 'd']) traits.learnFrom(key, head({ 'accept-ranges': 'bytes' }));
  traits.learnFrom('a', head(none));
  traits.learnFrom('b', head(none));
  traits.honouredRange(head({}, true));
  assert.equal(traits.supportsRanges, true);
  traits.learnFrom('c', head(none));
  assert.equal(traits.supportsRanges, false);
});

test('a whole read that broke off begins again where ranges are ignored, and gives each byte once', async () => {
  const content = knownBytes(0, 300_000);
  await using origin = await scriptedOrigin((request) => {
    const whole = answer(200, { ETag: '"v1"' }, content);
    if (request.count > 1) return whole;
    request.socket.end(whole.subarray(0, 100_000));
    return undefined;
  });
  const retryPauses = { baseMs: 1, maxMs: 2 };
  const remote = await openRemote({ url: origin.url, proxy: '', retryPauses });
  try {
    assert.deepEqual((await readInto(remote, 'f')).bytes(), Buffer.from(content));
    assert.ok(remote.supportsRanges);
  } finally {
    await remote.close();
  }
});
