/** The lying origin is honest by default, and each of its lies is the lie that it claims to be. */
import assert from 'node:assert/strict';
import { mkdir, utimes, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { startLyingOrigin, startLyingOriginProcess } from './lying-origin.ts';
import type { LyingOrigin, OriginFault, OriginRule } from './lying-origin.ts';
import { patternBytes } from './pattern.ts';
import { temporaryDirectory } from './temporary.ts';
import type { TemporaryDirectory } from './temporary.ts';
import { waitFor } from './wait-for.ts';

const content = patternBytes(1, 100_000);

async function makeTree(): Promise<TemporaryDirectory> {
  const tree = await temporaryDirectory('lying');
  await writeFile(`${tree.path}/file`, content);
  await writeFile(`${tree.path}/.hidden`, 'h');
  await writeFile(`${tree.path}/with space & ümlaut`, 'odd');
  await writeFile(`${tree.path}/${'long-'.repeat(20)}`, 'l');
  await mkdir(`${tree.path}/folder`);
  await writeFile(`${tree.path}/folder/inner`, 'i');
  await utimes(`${tree.path}/file`, 1_600_000_000, 1_600_000_000);
  return tree;
}

/** After what is awaited came: so long nothing more may. */
const silenceMs = 300;

interface Heard {
  readonly text: string;
  readonly closed: boolean;
}

/** Head and body, by its length or with its last chunk. */
function isWhole(text: string): boolean {
  const headEnd = text.indexOf('\r\n\r\n');
  if (headEnd < 0) return false;
  const length = /^content-length: (\d+)\r$/im.exec(text.slice(0, headEnd + 2))?.[1];
  if (length !== undefined) return text.length - headEnd - 4 >= Number(length);
  return text.endsWith('\r\n0\r\n\r\n');
}

/**
 * What came over the wire: until the connection ended, or `isEnough` came and then nothing more for a moment. However
 * busy the machine is, so not before.
 */
function raw(
  origin: LyingOrigin,
  text: string,
  isEnough: (heard: string) => boolean = isWhole,
): Promise<Heard> {
  return new Promise((resolve) => {
    const socket = net.connect(Number(new URL(origin.url).port), '127.0.0.1');
    const parts: Buffer[] = [];
    let silence: NodeJS.Timeout | undefined;
    const heard = (): string => Buffer.concat(parts).toString('latin1');
    const finish = (closed: boolean): void => {
      clearTimeout(silence);
      resolve({ text: heard(), closed });
      socket.destroy();
    };
    const listen = (): void => {
      clearTimeout(silence);
      if (isEnough(heard())) silence = setTimeout(() => finish(false), silenceMs);
    };
    socket.on('error', () => {});
    socket.on('data', (part: Buffer) => {
      parts.push(part);
      listen();
    });
    socket.on('close', () => finish(true));
    socket.write(text.replaceAll('\n', '\r\n'));
    listen();
  });
}

const getFile = 'GET /file HTTP/1.1\nHost: x\n\n';
const getRange = 'GET /file HTTP/1.1\nHost: x\nRange: bytes=1000-1999\n\n';
const body = (text: string): Buffer =>
  Buffer.from(text.slice(text.indexOf('\r\n\r\n') + 4), 'latin1');

for (const [name, start] of [
  ['in this process', startLyingOrigin],
  ['in a child process', startLyingOriginProcess],
] as const) {
  void describe(`lying origin ${name}`, () => {
    let tree: TemporaryDirectory;
    let origin: LyingOrigin;
    before(async () => {
      tree = await makeTree();
      origin = await start({ root: tree.path });
    });
    after(async () => {
      await origin[Symbol.asyncDispose]();
      await tree[Symbol.asyncDispose]();
    });

    const withRule = async <T>(
      rule: OriginRule | OriginFault,
      work: () => Promise<T>,
    ): Promise<T> => {
      const id = await origin.addRule('fault' in rule ? rule : { fault: rule });
      try {
        return await work();
      } finally {
        await origin.removeRule(id);
      }
    };
    const url = (path: string): string => new URL(path, origin.url).href;

    void test('honest: whole, ranges, validators, HEAD, 404, redirect to the slash', async () => {
      const whole = await fetch(url('file'));
      assert.deepEqual(Buffer.from(await whole.arrayBuffer()), content);
      assert.equal(whole.headers.get('last-modified'), 'Sun, 13 Sep 2020 12:26:40 GMT');
      const etag = whole.headers.get('etag') ?? '';
      assert.match(etag, /^"5f5e1000-186a0"$/);
      const part = await fetch(url('file'), {
        headers: { range: 'bytes=10-19', 'if-match': etag },
      });
      assert.deepEqual(
        [part.status, part.headers.get('content-range')],
        [206, 'bytes 10-19/100000'],
      );
      assert.deepEqual(Buffer.from(await part.arrayBuffer()), content.subarray(10, 20));
      const suffix = await fetch(url('file'), { headers: { range: 'bytes=-5' } });
      assert.deepEqual(Buffer.from(await suffix.arrayBuffer()), content.subarray(-5));
      assert.equal((await fetch(url('file'), { headers: { range: 'bytes=100000-' } })).status, 416);
      assert.equal((await fetch(url('file'), { headers: { 'if-match': '"x"' } })).status, 412);
      const other = await fetch(url('file'), {
        headers: { range: 'bytes=1-2', 'if-range': '"x"' },
      });
      assert.equal(other.status, 200);
      const head = await fetch(url('file'), { method: 'HEAD' });
      assert.deepEqual([head.headers.get('content-length'), await head.text()], ['100000', '']);
      assert.equal((await fetch(url('absent'))).status, 404);
      assert.equal((await fetch(url('folder'), { redirect: 'manual' })).status, 301);
      assert.equal(await (await fetch(url('folder/inner'))).text(), 'i');
      assert.match((await raw(origin, 'GET /../x HTTP/1.1\nHost: x\n\n')).text, /^HTTP\/1.1 400/);
    });

    void test('honest: a listing as nginx makes it', async () => {
      const page = await (await fetch(origin.url)).text();
      assert.match(page, /^<html>\r\n<head><title>Index of \/<\/title><\/head>/);
      assert.match(
        page,
        /<a href="folder\/">folder\/<\/a> {44,}\d\d-\w{3}-\d{4} \d\d:\d\d {19}-\r\n/,
      );
      assert.match(page, /<a href="file">file<\/a> {47}13-Sep-2020 12:26 {14}100000\r\n/);
      assert.match(page, /<a href="with%20space%20%26%20%C3%BCmlaut">with space &amp; ümlaut<\/a>/);
      assert.match(page, /">(long-){9}lo\.\.&gt;<\/a> \d\d/);
      assert.doesNotMatch(page, /hidden/);
      assert.match(page, /<\/body>\r\n<\/html>\r\n$/);
    });

    void test('rules: paths, times, skip', async () => {
      const status = { kind: 'status', status: 503, retryAfter: '2' } as const;
      const id = await origin.addRule({
        match: { path: '/file' },
        fault: status,
        times: 1,
        skip: 1,
      });
      const seen: number[] = [];
      for (let index = 0; index < 3; index += 1) {
        const response = await fetch(url('file'));
        await response.arrayBuffer();
        if (response.status === 503) assert.equal(response.headers.get('retry-after'), '2');
        seen.push(response.status);
      }
      assert.deepEqual(seen, [200, 503, 200]);
      await origin.removeRule(id);
      await withRule({ match: { ranged: true }, fault: status }, async () => {
        assert.match((await raw(origin, getFile)).text, /^HTTP\/1.1 200/);
        assert.match((await raw(origin, getRange)).text, /^HTTP\/1.1 503/);
      });
    });

    void test('log and counters', async () => {
      await origin.clearLog();
      await (await fetch(url('file'), { headers: { range: 'bytes=0-99' } })).arrayBuffer();
      await fetch(url('with%20space%20%26%20%C3%BCmlaut'), { method: 'HEAD' });
      // The client has its answer before the origin has written down that it was sent.
      const isOver = async (): Promise<boolean> => {
        const { requests, active } = await origin.counters();
        return requests === 2 && active === 0;
      };
      await waitFor(isOver, { what: 'the end of both requests' });
      const log = await origin.log();
      assert.deepEqual(
        log.map(({ method, path, range, status, bodyBytes }) => [
          method,
          path,
          range,
          status,
          bodyBytes,
        ]),
        [
          ['GET', '/file', 'bytes=0-99', 206, 100],
          ['HEAD', '/with space & ümlaut', null, 200, 0],
        ],
      );
      const counters = await origin.counters();
      assert.deepEqual([counters.requests, counters.bodyBytes, counters.active], [2, 100, 0]);
    });

    void test('bodies that end too early, run over, or never end', async () => {
      const cut = await withRule({ kind: 'cut', afterBytes: 500 }, () => raw(origin, getRange));
      assert.match(cut.text, /Content-Length: 1000\r\n/);
      assert.deepEqual([body(cut.text).length, cut.closed], [500, true]);
      const short = await withRule({ kind: 'short', byBytes: 10 }, () => raw(origin, getRange));
      assert.match(short.text, /Content-Length: 1000\r\n/);
      assert.deepEqual([body(short.text).length, short.closed], [990, true]);
      const bodyOf =
        (sizeBytes: number) =>
        (heard: string): boolean =>
          heard.includes('\r\n\r\n') && body(heard).length >= sizeBytes;
      const long = await withRule({ kind: 'long', byBytes: 10 }, () =>
        raw(origin, getRange, bodyOf(1010)),
      );
      assert.match(long.text, /Content-Length: 1000\r\n/);
      assert.equal(body(long.text).length, 1010);
      const stalled = await withRule({ kind: 'stallBody', afterBytes: 70 }, () =>
        raw(origin, getRange, bodyOf(70)),
      );
      assert.deepEqual([body(stalled.text).length, stalled.closed], [70, false]);
      const silent = await withRule({ kind: 'stallHeaders' }, () =>
        raw(origin, getRange, () => true),
      );
      assert.deepEqual([silent.text, silent.closed], ['', false]);
      const none = await withRule({ kind: 'cutBeforeHeaders' }, () => raw(origin, getRange));
      assert.deepEqual([none.text, none.closed], ['', true]);
      const startMs = performance.now();
      await withRule({ kind: 'drip', bytesPerSecond: 10_000 }, () => raw(origin, getRange));
      assert.ok(performance.now() - startMs > 90);
    });

    void test('ranges that are not what was asked for', async () => {
      const answer = async (fault: OriginFault) =>
        await withRule(fault, () => raw(origin, getRange));
      const whole = await answer({ kind: 'ignoreRange' });
      assert.match(whole.text, /^HTTP\/1.1 200 /);
      assert.ok(body(whole.text).equals(content));
      const shifted = await answer({ kind: 'shiftRange', byBytes: 4 });
      assert.match(shifted.text, /Content-Range: bytes 1004-2003\/100000/);
      assert.ok(body(shifted.text).equals(content.subarray(1004, 2004)));
      const sly = await answer({ kind: 'shiftBody', byBytes: 4 });
      assert.match(sly.text, /Content-Range: bytes 1000-1999\/100000/);
      assert.ok(body(sly.text).equals(content.subarray(1004, 2004)));
      assert.match((await answer({ kind: 'wrongTotal', totalBytes: 5 })).text, /1000-1999\/5\r/);
      assert.match((await answer({ kind: 'unknownTotal' })).text, /1000-1999\/\*\r/);
      assert.doesNotMatch((await answer({ kind: 'noContentRange' })).text, /Content-Range/);
      assert.match((await answer({ kind: 'multipart' })).text, /multipart\/byteranges; boundary=/);
    });

    void test('answers that are something else', async () => {
      const page = await withRule({ kind: 'htmlPage' }, () => fetch(url('file')));
      assert.deepEqual([page.status, page.headers.get('content-type')], [200, 'text/html']);
      assert.match(await page.text(), /went wrong/);
      const login = await withRule({ kind: 'loginRedirect' }, () => fetch(url('file')));
      assert.equal(new URL(login.url).pathname, '/login');
      assert.match(await login.text(), /Sign in/);
      await assert.rejects(withRule({ kind: 'redirectLoop' }, () => fetch(url('file'))));
      const garbage = await withRule({ kind: 'garbage' }, () => raw(origin, getFile));
      assert.match(garbage.text, /^ICY/);
      const early = await withRule({ kind: 'informational', count: 2 }, () => fetch(url('file')));
      assert.deepEqual(Buffer.from(await early.arrayBuffer()), content);
      const refused = await withRule({ kind: 'headRefused' }, () =>
        fetch(url('file'), { method: 'HEAD' }),
      );
      assert.equal(refused.status, 405);
      const lie = await withRule({ kind: 'headLies', sizeBytes: 7, etag: '"lie"' }, () =>
        fetch(url('file'), { method: 'HEAD' }),
      );
      assert.deepEqual(
        [lie.headers.get('content-length'), lie.headers.get('etag')],
        ['7', '"lie"'],
      );
      const who = await withRule({ kind: 'status', status: 401 }, () => fetch(url('file')));
      assert.match(who.headers.get('www-authenticate') ?? '', /^Basic/);
    });

    void test('validators and lengths that change or are missing', async () => {
      const one = await withRule({ kind: 'changingEtag' }, async () => [
        (await fetch(url('file'))).headers.get('etag'),
        (await fetch(url('file'))).headers.get('etag'),
      ]);
      assert.notEqual(one[0], one[1]);
      await withRule({ kind: 'noEtag' }, async () =>
        withRule({ kind: 'noLastModified' }, async () => {
          const { headers } = await fetch(url('file'));
          assert.deepEqual([headers.get('etag'), headers.get('last-modified')], [null, null]);
        }),
      );
      const chunked = await withRule({ kind: 'chunked' }, () => fetch(url('file')));
      assert.equal(chunked.headers.get('content-length'), null);
      assert.deepEqual(Buffer.from(await chunked.arrayBuffer()), content);
      const broken = await withRule({ kind: 'chunked', cutAfterBytes: 50 }, () =>
        raw(origin, getFile),
      );
      assert.equal(broken.closed, true);
      assert.doesNotMatch(broken.text, /\r\n0\r\n\r\n$/);
      const delimited = await withRule({ kind: 'closeDelimited' }, () => raw(origin, getFile));
      assert.doesNotMatch(delimited.text, /Content-Length|chunked/);
      assert.ok(delimited.closed && body(delimited.text).equals(content));
      const zipped = await withRule({ kind: 'gzip' }, () => raw(origin, getFile));
      assert.match(zipped.text, /Content-Encoding: gzip/);
      assert.ok(gunzipSync(body(zipped.text)).equals(content));
      const etag = (await fetch(url('file'))).headers.get('etag') ?? '';
      await withRule({ kind: 'replaced' }, async () => {
        const moved = await fetch(url('file'), { headers: { 'if-match': etag } });
        assert.equal(moved.status, 412);
        const inverted = content.map((byte) => byte ^ 0xff);
        assert.deepEqual(
          Buffer.from(await (await fetch(url('file'))).arrayBuffer()),
          Buffer.from(inverted),
        );
      });
      const mixed = await withRule({ kind: 'replacedMidway', afterBytes: 300 }, () =>
        raw(origin, getRange),
      );
      assert.ok(body(mixed.text).subarray(0, 300).equals(content.subarray(1000, 1300)));
      assert.ok(!body(mixed.text).subarray(300, 301).equals(content.subarray(1300, 1301)));
    });

    void test('listings that break off', async () => {
      const getRoot = 'GET / HTTP/1.1\nHost: x\n\n';
      const cut = await withRule({ kind: 'listingCut', afterBytes: 200 }, () =>
        raw(origin, getRoot),
      );
      assert.ok(cut.closed && !cut.text.includes('</html>'));
      const clean = await withRule({ kind: 'listingCut', afterBytes: 200, clean: true }, () =>
        fetch(origin.url),
      );
      assert.equal((await clean.text()).length, 200);
      const half = await (await withRule({ kind: 'listingHalf' }, () => fetch(origin.url))).text();
      assert.match(half, /<\/html>\r\n$/);
      assert.equal(half.match(/<a /g)?.length, 1 + 2);
    });

    void test('latency, dropped connections, an origin that dies and comes back', async () => {
      const startMs = performance.now();
      await withRule({ kind: 'latency', latencyMs: 80 }, () => fetch(url('folder/inner')));
      assert.ok(performance.now() - startMs >= 79);
      await withRule({ kind: 'stallBody', afterBytes: 10 }, async () => {
        const response = await fetch(url('file'));
        await origin.dropConnections();
        await assert.rejects(response.arrayBuffer());
      });
      await origin.stopListening();
      await assert.rejects(fetch(url('file')));
      await origin.listenAgain();
      assert.equal((await fetch(url('file'))).status, 200);
    });
  });
}
