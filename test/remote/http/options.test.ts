/** Options are checked before anything is tried, and in words. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { httpTarget } from '../../../src/remote/http/options.ts';
import type { HttpRemoteOptions } from '../../../src/remote/http/options.ts';
import { temporaryTree } from '../../support/hostile-tree.ts';

const url = 'http://host/pub';

void test('what is refused', async () => {
  const wrong: readonly Partial<HttpRemoteOptions>[] = [
    { url: 'ftp://host/' },
    { url: 'host/pub' },
    { url: 'http://host/?token=1' },
    { url: 'http://host/#x' },
    { headers: { Range: 'bytes=0-1' } },
    { headers: { Host: 'other' } },
    { headers: { 'X Y': 'z' } },
    { headers: { X: 'a\r\nInjected: b' } },
    { bearerToken: 'a\nb' },
    { bearerToken: 'a', user: 'b' },
    { user: 'a:b' },
    { proxy: 'no url' },
    { connections: 0 },
    { connections: 1000 },
    { bodyTimeoutMs: Number.NaN },
    { clientKeyFile: '/dev/null' },
    { caFile: '/dev/null' },
  ];
  for (const options of wrong) {
    const attempt = httpTarget({ url, ...options });
    await assert.rejects(attempt, { name: 'EbbError', code: 'EINVAL' }, JSON.stringify(options));
  }
  await assert.rejects(httpTarget({ url, caFile: '/no/such/file' }), { code: 'ENOENT' });
});

void test('what comes out', async () => {
  const target = await httpTarget({
    url: 'http://me%40home:p%3Aw@HOST:80/a%20b?',
    headers: { X: 'y' },
  });
  assert.equal(target.origin, 'http://host');
  assert.equal(target.basePath, '/a%20b/');
  assert.equal(target.displayName, 'http://host/a%20b/');
  const authorization = `Basic ${Buffer.from('me@home:p:w').toString('base64')}`;
  assert.deepEqual(target.privateHeaders, { x: 'y', authorization });
  const token = await httpTarget({ url, bearerToken: 'abc' });
  assert.deepEqual(token.privateHeaders, { authorization: 'Bearer abc' });
  assert.equal((await httpTarget({ url, proxy: '' })).proxy, undefined);
  using directory = temporaryTree();
  const caFile = path.join(directory.path, 'ca.pem');
  writeFileSync(caFile, '-----BEGIN CERTIFICATE-----\n');
  assert.match((await httpTarget({ url, caFile })).tls.ca ?? '', /BEGIN/);
});
