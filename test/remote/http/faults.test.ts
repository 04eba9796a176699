/**
 * Origins that lie, stop, cut and confuse. Over both transports the answer is the same: the right bytes or an
 * error, and never a byte of anything else in the sink.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import type { EbbError } from '../../../src/base/errors.ts';
import { openHttpRemote } from '../../../src/remote/http/http-remote.ts';
import type { HttpRemoteOptions } from '../../../src/remote/http/options.ts';
import type { Remote } from '../../../src/remote/remote.ts';
import { knownBytes } from '../../support/hostile-tree.ts';
import { freePort } from '../../support/ports.ts';
import { waitFor } from '../../support/wait-for.ts';
import { listAll, MemorySink, readInto } from './collect.ts';
import { answer, askedRange, scriptedOrigin } from './scripted-origin.ts';
import type { Script, ScriptedOrigin, ScriptedRequest } from './scripted-origin.ts';

const sizeBytes = 1_000_000;
const content = knownBytes(0, sizeBytes);
const tag = '"v1"';
const version = `etag:${tag}`;
const lastModified = 'Thu, 04 Mar 2021 05:06:07 GMT';
const range = { offsetBytes: 200_000, lengthBytes: 300_000, version };
/** No answer of this process to itself takes so long, on whatever machine. */
const patient = { connectTimeoutMs: 60_000, headersTimeoutMs: 60_000, bodyTimeoutMs: 60_000 };
const quick = { connectTimeoutMs: 1000, headersTimeoutMs: 1000, bodyTimeoutMs: 1000 };

/** The honest answer to a request for a range, with changes. */
function partial(
  request: ScriptedRequest,
  changes: Readonly<Record<string, string | number | undefined>> = {},
  body?: Uint8Array | string,
): Uint8Array {
  const [first, last] = askedRange(request);
  const fields = { ETag: tag, 'Content-Range': `bytes ${first}-${last}/${sizeBytes}`, ...changes };
  return answer(206, fields, body ?? content.subarray(first, last + 1));
}

for (const fastLane of [false, true]) {
  describe(fastLane ? 'fast lane' : 'undici', () => faults(fastLane));
}

function faults(fastLane: boolean): void {
  async function against(
    script: Script,
    use: (remote: Remote, origin: ScriptedOrigin) => Promise<void>,
    options: Partial<HttpRemoteOptions> = {},
  ): Promise<void> {
    await using origin = await scriptedOrigin(script);
    const remote = await openHttpRemote({ url: origin.url, fastLane, ...patient, ...options });
    try {
      await use(remote, origin);
    } finally {
      await remote.close();
    }
  }

  /** The read fails as expected, and what reached the sink is a right beginning. */
  async function refuses(
    script: Script,
    expected: Partial<EbbError> | object,
    what: { offsetBytes?: number; lengthBytes?: number; version?: string } = range,
    options: Partial<HttpRemoteOptions> = {},
  ): Promise<void> {
    const read = async (remote: Remote): Promise<void> => {
      const sink = new MemorySink();
      await assert.rejects(readInto(remote, 'file.bin', what, sink), {
        name: 'EbbError',
        ...expected,
      });
      const offset = what.offsetBytes ?? 0;
      assert.deepEqual(
        sink.bytes(),
        Buffer.from(content.subarray(offset, offset + sink.receivedBytes)),
      );
    };
    await against(script, read, options);
  }

  const io = { code: 'EIO', retryable: true };

  test('an honest range arrives, with backpressure and in small pieces, on one connection', async () => {
    await against(partial, async (remote, origin) => {
      for (const options of [{}, { pieceBytes: 1000 }, { pieceBytes: 50_000, pauseMs: 2 }]) {
        const sink = await readInto(remote, 'file.bin', range, new MemorySink(options));
        assert.deepEqual(sink.bytes(), Buffer.from(content.subarray(200_000, 500_000)));
        assert.equal(sink.heads[0]?.sizeBytes, sizeBytes);
        assert.equal(sink.heads[0]?.version, version);
      }
      assert.equal(origin.requests[0]?.headers['if-match'], tag);
      assert.equal(origin.requests[0]?.headers['accept-encoding'], 'identity');
      assert.equal(origin.requests[0]?.headers['range'], 'bytes=200000-499999');
      // undici takes a second one when the first was given back in this very moment.
      assert.ok(origin.openConnections <= (fastLane ? 1 : 2));
    });
  });

  test('wrong ranges', async () => {
    const wrong = [
      'bytes 200001-500000/1000000',
      'bytes 0-299999/1000000',
      'bytes 200000-499998/1000000',
    ];
    wrong.push('bytes 200000-500000/1000000', 'bytes */1000000', 'items 200000-499999/1000000');
    wrong.push(
      'bytes 200000-499999/400000',
      'bytes 499999-200000/1000000',
      '',
      '200000-499999/1000000',
    );
    for (const value of wrong) {
      await refuses((request) => partial(request, { 'Content-Range': value }), io);
    }
    await refuses((request) => partial(request, { 'Content-Range': undefined }), io);
    const multipart = 'multipart/byteranges; boundary=x';
    await refuses((request) => partial(request, { 'Content-Type': multipart }), io);
    await refuses(() => answer(204), io);
    await refuses((request) => partial(request), io, { version });
  });

  test('bodies that are too short or too long', async () => {
    const cut = (request: ScriptedRequest): undefined => {
      const whole = partial(request);
      request.socket.end(whole.subarray(0, whole.length - 1));
    };
    await refuses(cut, io);
    const shorter = (request: ScriptedRequest): Uint8Array =>
      partial(request, {}, content.subarray(200_000, 499_999));
    await refuses(shorter, io);
    const longer = (request: ScriptedRequest): Uint8Array =>
      partial(request, {}, content.subarray(200_000, 500_001));
    await refuses(longer, io);
    await refuses((request) => {
      request.socket.resetAndDestroy();
      return undefined;
    }, io);
    await refuses((request) => {
      request.socket.end(partial(request).subarray(0, 20));
      return undefined;
    }, io);
  });

  test('chunked answers: counted, and cut ones noticed', async () => {
    const chunked = (bytes: Uint8Array, end: string): Buffer =>
      Buffer.concat([
        Buffer.from(`${bytes.length.toString(16)}\r\n`),
        bytes,
        Buffer.from(`\r\n${end}`),
      ]);
    const coding = { 'Transfer-Encoding': 'chunked' };
    const body = content.subarray(200_000, 500_000);
    await against(
      (request) => partial(request, coding, chunked(body, '0\r\n\r\n')),
      async (remote) => {
        const sink = await readInto(remote, 'file.bin', range);
        assert.deepEqual(sink.bytes(), Buffer.from(body));
      },
    );
    const shorter = chunked(body.subarray(0, -1), '0\r\n\r\n');
    await refuses((request) => partial(request, coding, shorter), io);
    const longer = chunked(content.subarray(200_000, 500_001), '0\r\n\r\n');
    await refuses((request) => partial(request, coding, longer), io);
    await refuses((request) => {
      request.socket.end(partial(request, coding, chunked(body, '')));
      return undefined;
    }, io);
  });

  test('another version never reaches the sink', async () => {
    const stale = { code: 'ESTALE', retryable: false };
    await refuses(
      (request) =>
        request.method === 'HEAD'
          ? answer(200, { ETag: '"v2"', 'Content-Length': 5 })
          : answer(412),
      stale,
    );
    await refuses((request) => partial(request, { ETag: '"v2"' }), stale);
    await refuses(() => answer(200, { ETag: '"v2"' }, content), stale);
    const weak = { ...range, version: `weak:W/"a";mtime=1614834367;size=${sizeBytes}` };
    const fields = { ETag: 'W/"a"', 'Last-Modified': lastModified };
    await against(
      (request) => partial(request, fields),
      async (remote) => {
        assert.equal((await readInto(remote, 'file.bin', weak)).receivedBytes, 300_000);
      },
    );
    await refuses((request) => partial(request, { ...fields, ETag: 'W/"b"' }), stale, weak);
    const grown = { ...fields, 'Content-Range': 'bytes 200000-499999/1000001' };
    await refuses((request) => partial(request, grown), stale, weak);
  });

  test('an answer without evidence is no new version', async () => {
    await refuses((request) => partial(request, { ETag: undefined }), io);
    const page = { 'Content-Type': 'text/html', 'Content-Length': 9 };
    await refuses(() => answer(200, page, '<html>err'), io);
    await refuses(() => answer(200, { ...page, ETag: '"page"' }, '<html>err'), io);
    const sized = { ...range, version: `mtime=1614834367;size=${sizeBytes}` };
    await refuses(() => answer(200, page, '<html>err'), io, sized);
  });

  test('412 for everything: If-Match is given up, the bytes still checked', async () => {
    const script: Script = (request) => {
      if (request.method === 'HEAD') return answer(200, { ETag: tag, 'Content-Length': sizeBytes });
      return request.headers['if-match'] === undefined ? partial(request) : answer(412);
    };
    await against(script, async (remote, origin) => {
      assert.equal((await readInto(remote, 'file.bin', range)).receivedBytes, 300_000);
      assert.equal((await readInto(remote, 'file.bin', range)).receivedBytes, 300_000);
      assert.equal(origin.requests.length, 4);
    });
  });

  test('ranges ignored: refused for that file, and a prefix is still of use', async () => {
    const whole: Script = () => answer(200, { ETag: tag }, content);
    await against(whole, async (remote) => {
      const prefix = { offsetBytes: 0, lengthBytes: 1000, version };
      const sink = await readInto(remote, 'file.bin', prefix, new MemorySink({ pauseMs: 1 }));
      assert.deepEqual(sink.bytes(), Buffer.from(content.subarray(0, 1000)));
      await assert.rejects(readInto(remote, 'file.bin', range), { code: 'EOPNOTSUPP' });
      assert.equal((await readInto(remote, 'file.bin', { version })).receivedBytes, sizeBytes);
      assert.equal(remote.supportsRanges, true);
    });
    await against(
      () => answer(200, { ETag: '"other"' }, content),
      async (remote) => {
        await assert.rejects(readInto(remote, 'file.bin', range), { code: 'ESTALE' });
        assert.equal(remote.supportsRanges, true);
      },
    );
  });

  test('ranges ignored for one file say nothing of others; for several, it is the way of the server', async () => {
    const script: Script = (request) =>
      request.path.startsWith('/whole') ? answer(200, { ETag: tag }, content) : partial(request);
    const ignored = { code: 'EOPNOTSUPP' };
    await against(script, async (remote, origin) => {
      for (let count = 0; count < 5; count += 1) {
        await assert.rejects(readInto(remote, 'whole-1', range), ignored);
      }
      assert.equal((await readInto(remote, 'file.bin', range)).receivedBytes, 300_000);
      for (const key of ['whole-1', 'whole-2']) {
        await assert.rejects(readInto(remote, key, range), ignored);
        assert.equal(remote.supportsRanges, true);
      }
      await assert.rejects(readInto(remote, 'whole-3', range), ignored);
      assert.equal(remote.supportsRanges, false);
      const { length } = origin.requests;
      await assert.rejects(readInto(remote, 'file.bin', range), ignored);
      assert.equal(origin.requests.length, length, 'nothing is asked for in vain');
    });
  });

  test('a server that we are redirected to says nothing of the given one', async () => {
    await using mirror = await scriptedOrigin(() => answer(200, { ETag: tag }, content));
    const script: Script = (request) =>
      answer(302, { Location: `${mirror.url}elsewhere${request.path}` });
    await against(script, async (remote) => {
      for (const key of ['a', 'b', 'c', 'd']) {
        await assert.rejects(readInto(remote, key, range), { code: 'EOPNOTSUPP' });
      }
      assert.equal(remote.supportsRanges, true);
    });
  });

  test('encoded answers are refused, except where the name says that the stored bytes are', async () => {
    await refuses((request) => partial(request, { 'Content-Encoding': 'gzip' }), { code: 'EIO' });
    await against(
      (request) => partial(request, { 'Content-Encoding': 'x-gzip' }),
      async (remote) => {
        assert.equal((await readInto(remote, 'archive.tar.gz', range)).receivedBytes, 300_000);
      },
    );
  });

  test('statuses', async () => {
    const cases: readonly [number, object][] = [
      [401, { code: 'EACCES', retryable: false }],
      [403, { code: 'EACCES', retryable: false }],
      [404, { code: 'ENOENT', retryable: false }],
      [410, { code: 'ENOENT' }],
      [418, { code: 'EIO', retryable: false }],
      [500, io],
      [502, io],
      [504, io],
    ];
    for (const [status, expected] of cases) await refuses(() => answer(status), expected);
    await refuses(() => answer(429, { 'Retry-After': '7' }), { ...io, retryAfterMs: 7000 });
    await refuses(() => answer(503, { 'Retry-After': '999999999' }), {
      ...io,
      retryAfterMs: 3_600_000,
    });
    await refuses(() => answer(503, { 'Retry-After': lastModified }), { ...io, retryAfterMs: 0 });
    await refuses(
      (request) =>
        request.method === 'HEAD' ? answer(200, { ETag: tag, 'Content-Length': 5 }) : answer(416),
      { code: 'EIO', retryable: false },
    );
  });

  test('a huge size is refused, not rounded', async () => {
    const huge = { 'Content-Range': 'bytes 200000-499999/9007199254740993' };
    await refuses((request) => partial(request, huge), { code: 'EOVERFLOW' });
  });

  test('silence ends in time', async () => {
    await refuses(() => undefined, io, range, quick);
    const half: Script = (request) => {
      request.socket.write(partial(request).subarray(0, 100_000));
      return undefined;
    };
    await refuses(half, io, range, quick);
  });

  test('nobody there, and nobody by that name', async () => {
    const port = await freePort();
    for (const [url, code] of [
      [`http://127.0.0.1:${port}/`, 'ECONNREFUSED'],
      ['http://no-such-host.invalid/', 'EHOSTUNREACH'],
      // connect(2) itself fails: nothing is sent to all.
      ['http://255.255.255.255/', 'ENETUNREACH'],
    ] as const) {
      const remote = await openHttpRemote({
        url,
        fastLane,
        proxy: '',
        connections: 1,
        ...patient,
      });
      const reads = [1, 2, 3].map(() => readInto(remote, 'file.bin', range));
      const failures = reads.map((read) => assert.rejects(read, { code, retryable: true }));
      await Promise.all(failures);
      await assert.rejects(listAll(remote, ''), { code });
      await remote.close();
    }
  });

  test('an abort closes the connection at once, also while the sink makes us wait', async () => {
    const script: Script = (request) => {
      request.socket.write(partial(request).subarray(0, 150_000));
      return undefined;
    };
    for (const sinkOptions of [{}, { pauseMs: 500, pieceBytes: 1000 }]) {
      await against(script, async (remote, origin) => {
        const stop = new AbortController();
        const reason = new Error('stop');
        const sink = new MemorySink(sinkOptions);
        const reading = readInto(remote, 'file.bin', { ...range, signal: stop.signal }, sink);
        setTimeout(() => stop.abort(reason), 100);
        await assert.rejects(reading, reason);
        const received = sink.receivedBytes;
        await waitFor(() => origin.openConnections === 0, { what: 'the end of the connection' });
        assert.equal(sink.receivedBytes, received);
      });
    }
  });

  test('close rejects what is under way', async () => {
    await against(
      () => undefined,
      async (remote) => {
        const reading = assert.rejects(readInto(remote, 'file.bin', range), { name: 'EbbError' });
        setTimeout(() => void remote.close(), 50);
        await reading;
      },
    );
  });

  test('what the sink throws comes out, and the connection is not reused', async () => {
    await against(partial, async (remote, origin) => {
      const mine = new Error('mine');
      const sink = new MemorySink();
      sink.head = (): never => {
        throw mine;
      };
      await assert.rejects(readInto(remote, 'file.bin', range, sink), /mine/);
      assert.equal((await readInto(remote, 'file.bin', range)).receivedBytes, 300_000);
      assert.equal(origin.requests.length, 2);
    });
  });

  test('a kept connection that the server closed is replaced without an error', async () => {
    await against(
      (request) => {
        request.socket.end(partial(request));
        return undefined;
      },
      async (remote) => {
        for (let count = 0; count < 5; count += 1) {
          assert.equal((await readInto(remote, 'file.bin', range)).receivedBytes, 300_000);
          await new Promise((resolve) => {
            setTimeout(resolve, 20);
          });
        }
      },
    );
  });

  test('redirects: followed, but credentials stay with their origin', async () => {
    await using mirror = await scriptedOrigin(partial);
    const script: Script = (request) =>
      answer(302, { Location: `${mirror.url}elsewhere${request.path}?signed=1` });
    const options = { user: 'me', password: 'secret', headers: { 'X-Key': 'secret' } };
    await against(
      script,
      async (remote, origin) => {
        assert.equal((await readInto(remote, 'file.bin', range)).receivedBytes, 300_000);
        assert.match(origin.requests[0]?.headers['authorization'] ?? '', /^Basic /);
        assert.equal(origin.requests[0]?.headers['x-key'], 'secret');
        assert.equal(mirror.requests[0]?.path, '/elsewhere/file.bin?signed=1');
        assert.equal(mirror.requests[0]?.headers['authorization'], undefined);
        assert.equal(mirror.requests[0]?.headers['x-key'], undefined);
        assert.equal(mirror.requests[0]?.headers['range'], 'bytes=200000-499999');
      },
      options,
    );
  });

  test('redirects that lead nowhere good', async () => {
    await refuses((request) => answer(302, { Location: request.path }), { code: 'ELOOP' });
    await refuses(() => answer(302), { code: 'EIO' });
    await refuses(() => answer(302, { Location: 'ftp://x/' }), { code: 'EIO' });
    const login: Script = (request) =>
      request.path === '/login'
        ? answer(200, { 'Content-Type': 'text/html' }, '<form>')
        : answer(302, { Location: '/login' });
    await refuses(login, { code: 'EACCES' });
    await against(login, async (remote) => {
      const page = 'page.html';
      await assert.rejects(readInto(remote, page, range), { code: 'EACCES' });
      await assert.rejects(readInto(remote, page, {}), { code: 'EACCES' });
      await assert.rejects(remote.stat(page, { signal: new AbortController().signal }), {
        code: 'EACCES',
      });
    });
    const slash: Script = (request) => answer(301, { Location: `${request.path}/` });
    await refuses(slash, { code: 'EISDIR' });
  });
}
