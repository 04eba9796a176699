/** What is asked for again, and what is not: answers that leave their end open, proxies that refuse, lost bits. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { describe, test } from 'node:test';

import { openRemote } from '../../../src/remote/open-remote.ts';
import type { Remote } from '../../../src/remote/remote.ts';
import { makeCertificates } from '../../support/certificates.ts';
import { knownBytes, temporaryTree } from '../../support/hostile-tree.ts';
import { never, readInto } from './collect.ts';
import { answer, askedRange, scriptedOrigin } from './scripted-origin.ts';

const sizeBytes = 1_000_000;
const content = knownBytes(0, sizeBytes);
const tag = '"v1"';
const retryPauses = { baseMs: 1, maxMs: 2 };

function chunk(bytes: Uint8Array): Buffer {
  const size = Buffer.from(`${bytes.length.toString(16)}\r\n`);
  return Buffer.concat([size, bytes, Buffer.from('\r\n')]);
}

async function against(
  options: Parameters<typeof openRemote>[0],
  use: (remote: Remote) => Promise<void>,
): Promise<void> {
  const remote = await openRemote({ proxy: '', retryPauses, ...options });
  try {
    await use(remote);
  } finally {
    await remote.close();
  }
}

for (const fastLane of [false, true]) {
  describe(fastLane ? 'fast lane' : 'undici', () => {
    test('a range to the end of a file of which nobody tells the size is no proof of where it ends', async () => {
      let wholes = 0;
      await using origin = await scriptedOrigin((request) => {
        const { headers, socket } = request;
        if (headers['range'] !== undefined) {
          const [first] = askedRange(request);
          const part = content.subarray(first, first + 10_000);
          const range = `bytes ${first}-${first + part.length - 1}/*`;
          return answer(206, { ETag: tag, 'Content-Range': range }, part);
        }
        wholes += 1;
        const fields = { ETag: tag, 'Transfer-Encoding': 'chunked' };
        if (wholes === 1) {
          socket.end(answer(200, fields, chunk(content.subarray(0, sizeBytes / 2))));
          return undefined;
        }
        return answer(200, fields, Buffer.concat([chunk(content), Buffer.from('0\r\n\r\n')]));
      });
      await against({ url: origin.url, fastLane }, async (remote) => {
        assert.deepEqual((await readInto(remote, 'file')).bytes(), Buffer.from(content));
      });
    });
  });
}

test('a bit that is lost within a TLS connection costs another one, and no byte', async () => {
  using directory = temporaryTree();
  const certificates = makeCertificates(directory.path);
  const pem = {
    cert: readFileSync(certificates.certificateFile, 'utf8'),
    key: readFileSync(certificates.keyFile, 'utf8'),
  };
  await using origin = await scriptedOrigin((request) => {
    const [first, last] = askedRange(request);
    const fields = { ETag: tag, 'Content-Range': `bytes ${first}-${last}/${sizeBytes}` };
    return answer(206, fields, content.subarray(first, last + 1));
  }, pem);
  const port = Number(new URL(origin.url).port);
  // Behind the handshake and the head, in the middle of the body.
  let flips = 0;
  const relay = createServer((here) => {
    const there = connect({ port, host: '127.0.0.1' });
    let passedBytes = 0;
    there.on('data', (data: Buffer) => {
      passedBytes += data.length;
      if (flips > 0 && passedBytes > sizeBytes / 2) {
        flips -= 1;
        data[data.length - 1] = (data.at(-1) ?? 0) ^ 1;
      }
      here.write(data);
    });
    here.on('data', (data) => there.write(data));
    for (const [one, other] of [
      [here, there],
      [there, here],
    ] as const) {
      one.on('error', () => other.destroy()).on('close', () => other.destroy());
    }
  });
  await new Promise<void>((resolve) => {
    relay.listen(0, '127.0.0.1', resolve);
  });
  await using _relay = {
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        relay.close(() => resolve());
      }),
  };
  const url = `https://localhost:${(relay.address() as AddressInfo).port}/`;
  const { caFile } = certificates;
  for (const fastLane of [false, true]) {
    flips = 1;
    await against({ url, caFile, fastLane }, async (remote) => {
      const what = { offsetBytes: 0, lengthBytes: sizeBytes, version: `etag:${tag}` };
      assert.deepEqual((await readInto(remote, 'file', what)).bytes(), Buffer.from(content));
    });
    assert.equal(flips, 0, 'a bit was lost');
  }
});

for (const [what, url] of [
  ['a web server', 'http://origin.invalid/'],
  ['a web server with TLS', 'https://origin.invalid/'],
] as const) {
  test(`a proxy that wants credentials on the way to ${what} is asked once: EACCES`, async () => {
    await using proxy = await scriptedOrigin(() =>
      answer(407, { 'Proxy-Authenticate': 'Basic realm="x"' }, 'no'),
    );
    await against({ url, proxy: proxy.url }, async (remote) => {
      await assert.rejects(remote.stat('file', { signal: never }), (error: Error) => {
        assert.match(error.message, /proxy wants credentials \(407\)/);
        assert.equal((error as { code?: string }).code, 'EACCES');
        return true;
      });
      assert.equal(proxy.requests.length, 1);
    });
  });
}
