/** What `stat` makes of servers that answer HEAD in their own ways; what messages must not say; proxies. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { openHttpRemote } from '../../../src/remote/http/http-remote.ts';
import { never, readInto } from './collect.ts';
import { answer, askedRange, scriptedOrigin } from './scripted-origin.ts';
import type { Script, ScriptedRequest } from './scripted-origin.ts';

const sizeBytes = 1_000_000;
const tag = '"v1"';
const version = `etag:${tag}`;
const lastModified = 'Thu, 04 Mar 2021 05:06:07 GMT';

function partial(request: ScriptedRequest): Uint8Array {
  const [first, last] = askedRange(request);
  const fields = { ETag: tag, 'Content-Range': `bytes ${first}-${last}/${sizeBytes}` };
  return answer(206, fields, 'x'.repeat(last - first + 1));
}

test('stat: HEAD refused, HEAD that lies, sizes and versions', async () => {
  const cases: readonly [Script, object][] = [
    [
      (request) => (request.method === 'HEAD' ? answer(405) : partial(request)),
      { kind: 'file', sizeBytes, version },
    ],
    [
      (request) =>
        request.method === 'HEAD' ? answer(200, { ETag: '"wrong"' }) : partial(request),
      { kind: 'file', sizeBytes, version },
    ],
    [
      () => answer(200, { 'Content-Length': 7, 'Last-Modified': lastModified }, ''),
      {
        kind: 'file',
        sizeBytes: 7,
        mtime: { seconds: 1_614_834_367, nanoseconds: 0 },
        version: 'mtime=1614834367;size=7',
      },
    ],
    [
      // Any other content of that length would have that version, too.
      () => answer(200, { 'Content-Length': 7 }, ''),
      { kind: 'file', sizeBytes: 7 },
    ],
    [
      (request) =>
        request.method === 'HEAD'
          ? answer(501)
          : answer(200, { 'Transfer-Encoding': 'chunked' }, '1\r\nx\r\n0\r\n\r\n'),
      { kind: 'file' },
    ],
    [
      (request) =>
        request.headers['range'] === undefined ? answer(200, { ETag: tag }) : answer(416),
      { kind: 'file', sizeBytes: 0, version },
    ],
  ];
  for (const [script, expected] of cases) {
    await using origin = await scriptedOrigin(script);
    const remote = await openHttpRemote({ url: origin.url });
    assert.deepEqual(await remote.stat('file.bin', { signal: never }), expected);
    await remote.close();
  }
});

test('an empty body that HEAD claims is believed of an object that has no first byte, and of no other', async () => {
  const content = 'made by a program';
  const plain = 'plain text';
  // `/made` as frameworks do that drop the body of a HEAD; `/empty` as Apache does, and as nginx.
  await using origin = await scriptedOrigin(({ path, method, headers }) => {
    const fields = { ETag: `"${path}"`, 'Accept-Ranges': 'bytes' };
    if (path === '/plain') {
      const length = { 'Content-Length': plain.length };
      return answer(200, { ...fields, ...length }, method === 'HEAD' ? '' : plain);
    }
    const isRange = headers['range'] !== undefined;
    if (path === '/empty-416' && isRange) return answer(416, { 'Content-Range': 'bytes */0' });
    if (path === '/made-416' && isRange) return answer(416);
    return answer(200, fields, path.startsWith('/made') && method === 'GET' ? content : '');
  });
  for (const fastLane of [false, true]) {
    const remote = await openHttpRemote({ url: origin.url, fastLane });
    const sizes: (number | undefined)[] = [];
    for (const key of ['made', 'plain', 'made', 'made-416', 'empty-200', 'empty-416']) {
      sizes.push((await remote.stat(key, { signal: never })).sizeBytes);
    }
    assert.deepEqual(sizes, [17, 10, 17, 17, 0, 0]);
    await remote.close();
  }
});

test('messages never hold credentials', async () => {
  const secret = 'hunter2';
  await using origin = await scriptedOrigin(() => answer(500));
  const url = origin.url.replace('http://', `http://me:${secret}@`);
  const remote = await openHttpRemote({ url });
  assert.doesNotMatch(remote.displayName, new RegExp(secret));
  const error: unknown = await remote
    .stat('x', { signal: never })
    .catch((caught: unknown) => caught);
  assert.ok(error instanceof Error);
  assert.doesNotMatch(`${error.message} ${error.stack}`, new RegExp(secret));
  await remote.close();
  await assert.rejects(openHttpRemote({ url: `http//me:${secret}@host` }), (wrong: Error) => {
    assert.doesNotMatch(wrong.message, new RegExp(secret));
    return true;
  });
});

test('a proxy gets the whole URL, and the credentials for the origin', async () => {
  await using proxy = await scriptedOrigin(partial);
  const url = 'http://me:secret@origin.invalid/pub/';
  const remote = await openHttpRemote({ url, proxy: proxy.url });
  const sink = await readInto(remote, 'file.bin', { offsetBytes: 5, lengthBytes: 7, version });
  assert.equal(sink.receivedBytes, 7);
  assert.equal(proxy.requests[0]?.path, 'http://origin.invalid/pub/file.bin');
  assert.match(proxy.requests[0]?.headers['authorization'] ?? '', /^Basic /);
  await remote.close();
});

test('a web page without a version is not taken for a file, unless the name says that it is one', async () => {
  const page = { 'Content-Type': 'text/html; charset=utf-8' };
  await using origin = await scriptedOrigin(({ path }) =>
    answer(200, path.includes('dated') ? { ...page, 'Last-Modified': lastModified } : page, 'body'),
  );
  const remote = await openHttpRemote({ url: origin.url });
  try {
    const stat = async (key: string): Promise<unknown> => await remote.stat(key, { signal: never });
    await assert.rejects(stat('data.bin'), { code: 'EIO', retryable: true });
    await assert.rejects(stat('noextension'), { code: 'EIO' });
    assert.equal(((await stat('page.html')) as { kind: string }).kind, 'file');
    assert.equal(((await stat('dated.txt')) as { kind: string }).kind, 'file');
  } finally {
    await remote.close();
  }
});

test('times are what they say, and days that no month has are none', async () => {
  const times = {
    'Mon, 01 Jan 0001 00:00:00 GMT': { seconds: -62_135_596_800, nanoseconds: 0 },
    'Thu, 29 Feb 2024 23:59:60 GMT': { seconds: 1_709_251_200, nanoseconds: 0 },
    'Wed, 29 Feb 2023 00:00:00 GMT': undefined,
    'Wed, 31 Apr 2023 00:00:00 GMT': undefined,
    'Wed, 00 Apr 2023 00:00:00 GMT': undefined,
  };
  const all = Object.entries(times);
  await using origin = await scriptedOrigin(({ path }) =>
    answer(200, { 'Last-Modified': all[Number(path.slice(1))]?.[0], 'Content-Length': 5 }),
  );
  const remote = await openHttpRemote({ url: origin.url });
  for (const [index, [text, time]] of all.entries()) {
    const { mtime } = await remote.stat(String(index), { signal: never });
    assert.deepEqual(mtime, time, text);
  }
  await remote.close();
});
