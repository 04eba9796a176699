/** The lane's parser of answer heads: right on plain ones, never sure of anything else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { headBytesMax, parseResponseHead } from '../../../src/remote/http/lane/response-head.ts';

const plain =
  'HTTP/1.1 206 Partial Content\r\nServer: nginx\r\nContent-Length: 300\r\nETag: "a:b"\r\n' +
  'Content-Range: bytes 0-299/1000\r\nConnection: keep-alive\r\n\r\n';

function parse(text: string): ReturnType<typeof parseResponseHead> {
  return parseResponseHead(Buffer.from(text, 'latin1'));
}

void test('a plain head', () => {
  const head = parse(`${plain}body`);
  assert.ok(head.is === 'head');
  assert.deepEqual(
    { ...head, headers: { ...head.headers } },
    {
      is: 'head',
      status: 206,
      headers: {
        server: 'nginx',
        'content-length': '300',
        etag: '"a:b"',
        'content-range': 'bytes 0-299/1000',
        connection: 'keep-alive',
      },
      headBytes: plain.length,
      bodyBytes: 300,
      keepAlive: true,
      idleMaxMs: undefined,
    },
  );
});

void test('the answer to a HEAD ends with its head', () => {
  const chunked = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
  assert.equal(parse(chunked).is, 'unusual');
  for (const text of [plain, chunked, 'HTTP/1.1 200 OK\r\n\r\n']) {
    const head = parseResponseHead(Buffer.from(text, 'latin1'), 'bodiless');
    assert.ok(head.is === 'head');
    assert.equal(head.bodyBytes, 0);
  }
});

void test('every beginning of a head is incomplete', () => {
  for (let length = 0; length < plain.length; length += 1) {
    assert.deepEqual(parse(plain.slice(0, length)), { is: 'incomplete' });
  }
});

void test('how long the server keeps a connection', () => {
  const hints: readonly (readonly [string, number | undefined])[] = [
    ['timeout=5, max=100', 5_000],
    ['max=100,timeout=60', 60_000],
    ['Timeout = 7', 7_000],
    ['timeout=5s', undefined],
    ['timeout=-1', undefined],
    ['max=5', undefined],
  ];
  for (const [value, expectedMs] of hints) {
    const head = parse(plain.replace('\r\n\r\n', `\r\nKeep-Alive: ${value}\r\n\r\n`));
    assert.ok(head.is === 'head');
    assert.equal(head.idleMaxMs, expectedMs, value);
  }
});

void test('what is not plain is unusual', () => {
  const change = (from: string, to: string): string => plain.replace(from, to);
  const cases = [
    change('HTTP/1.1', 'HTTP/1.0'),
    change('HTTP/1.1', 'HTTP/2'),
    change('HTTP/1.1', 'http/1.1'),
    change('206', '100'),
    change('206', '204'),
    change('206', '304'),
    change('206', '2060'),
    change('206', '06'),
    change('Server: nginx', 'Transfer-Encoding: chunked'),
    change('Server: nginx', 'transfer-encoding: identity'),
    change('Content-Length: 300', 'Content-Size: 300'),
    change('Content-Length: 300', 'Content-Length: 300\r\nContent-Length: 300'),
    change('Content-Length: 300', 'Content-Length: 300, 300'),
    change('Content-Length: 300', 'Content-Length: +300'),
    change('Content-Length: 300', 'Content-Length: 0x12c'),
    change('Content-Length: 300', 'Content-Length: -1'),
    change('Content-Length: 300', 'Content-Length: 300\u00a0'),
    change('Content-Length: 300', 'Content-Length:'),
    change('Content-Length: 300', 'Content-Length: 1000000000000000000'),
    change('Content-Length: 300', 'Content-Length : 300'),
    change('Server: nginx', 'Server: a\r\n folded'),
    change('Server: nginx', 'Server nginx'),
    change('Server: nginx', ': nginx'),
    change('Server: nginx', 'Server: a\nX: b'),
    change('Server: nginx', 'Server: a\rX: b'),
    change('Server: nginx', 'Server: a\0b'),
    change('Server: nginx', Array.from({ length: 200 }, (_, n) => `X-${n}: y`).join('\r\n')),
    change('nginx', 'x'.repeat(headBytesMax)),
    'x'.repeat(headBytesMax + 1),
    '\r\n\r\n',
  ];
  for (const text of cases) assert.equal(parse(text).is, 'unusual', text.slice(0, 200));
});

void test('connections that end, fields that repeat', () => {
  const closing = parse(plain.replace('keep-alive', 'Foo, Close'));
  assert.ok(closing.is === 'head' && !closing.keepAlive);
  const twice = parse(plain.replace('Server: nginx', 'Link: a\r\nlink: b\r\nLINK:c'));
  assert.ok(twice.is === 'head');
  assert.deepEqual(twice.headers['link'], ['a', 'b', 'c']);
  const prototype = parse(plain.replace('Server', '__proto__'));
  assert.ok(prototype.is === 'head');
  assert.equal(prototype.headers['__proto__'], 'nginx');
});

void test('any bytes: no exception, and a head only with a framing that is beyond doubt', () => {
  const line = fc.constantFrom(
    'HTTP/1.1 206 OK',
    'HTTP/1.1 200',
    'Content-Length: 5',
    'Content-Length: 6',
    'Transfer-Encoding: chunked',
    'Connection: close',
    'X: y',
    ' z',
    '',
  );
  const lines = fc.array(line, { maxLength: 8 }).map((all) => `${all.join('\r\n')}\r\n\r\n`);
  const mutated = fc
    .tuple(fc.nat(plain.length - 1), fc.nat(255))
    .map(([at, byte]) => plain.slice(0, at) + String.fromCharCode(byte) + plain.slice(at + 1));
  const noise = fc
    .uint8Array({ maxLength: 400 })
    .map((bytes) => Buffer.from(bytes).toString('latin1'));
  const property = fc.property(fc.oneof(lines, mutated, noise), (text) => {
    const head = parse(text);
    if (head.is !== 'head') return;
    const raw = text.slice(0, head.headBytes).toLowerCase();
    assert.ok(raw.startsWith('http/1.1 ') && raw.endsWith('\r\n\r\n'));
    assert.equal(raw.match(/\r\ncontent-length:/g)?.length, 1);
    assert.ok(!raw.includes('\r\ntransfer-encoding:'));
    assert.match(raw, new RegExp(`\\r\\ncontent-length:[\\t ]*0*${head.bodyBytes}[\\t ]*\\r\\n`));
  });
  fc.assert(property, { numRuns: 5000 });
});
