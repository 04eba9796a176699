/** The remote against the five servers themselves: everything in the tree is listed, described and read right. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { decodeName } from '../../../src/base/name.ts';
import { openHttpRemote } from '../../../src/remote/http/http-remote.ts';
import type { HttpRemoteOptions } from '../../../src/remote/http/options.ts';
import type { Remote } from '../../../src/remote/remote.ts';
import {
  fillHostileTree,
  fillManyEntries,
  hostileNames,
  hostileRawNames,
  temporaryTree,
  treeMtimeSeconds,
} from '../../support/hostile-tree.ts';
import type { TemporaryTree } from '../../support/hostile-tree.ts';
import {
  makeCertificates,
  startApache,
  startCaddy,
  startLighttpd,
  startNginx,
  startPythonServer,
} from '../../support/servers.ts';
import type { OriginOptions, RunningServer } from '../../support/servers.ts';
import { listAll, never, readInto } from './collect.ts';

/** For what a server cannot do (Python: passwords; most here: TLS): the contract has no such test for it. */
function doesNotApply(_title: string, _body: () => Promise<void>): void {}

interface Flavour {
  readonly name: string;
  start(options: OriginOptions): Promise<RunningServer>;
  readonly hidesDotfiles: boolean;
  readonly ranges: boolean;
  readonly tls: boolean;
}

const flavours: readonly Flavour[] = [
  { name: 'nginx', start: startNginx, hidesDotfiles: true, ranges: true, tls: true },
  {
    name: 'nginx JSON',
    start: (options) => startNginx({ ...options, autoindex: 'json' }),
    hidesDotfiles: true,
    ranges: true,
    tls: false,
  },
  { name: 'Apache', start: startApache, hidesDotfiles: false, ranges: true, tls: true },
  {
    name: 'Apache table',
    start: (options) => startApache({ ...options, index: 'table' }),
    hidesDotfiles: false,
    ranges: true,
    tls: false,
  },
  {
    name: 'Apache plain',
    start: (options) => startApache({ ...options, index: 'plain' }),
    hidesDotfiles: false,
    ranges: true,
    tls: false,
  },
  { name: 'lighttpd', start: startLighttpd, hidesDotfiles: false, ranges: true, tls: false },
  { name: 'Caddy', start: startCaddy, hidesDotfiles: false, ranges: true, tls: true },
  { name: 'Python', start: startPythonServer, hidesDotfiles: false, ranges: false, tls: false },
];

const credentials = { user: 'user@home', password: 'p:ss wörd%' };

for (const flavour of flavours) {
  for (const fastLane of [false, true]) {
    describe(`${flavour.name}${fastLane ? ', fast lane' : ''}`, () =>
      againstServer(flavour, fastLane));
  }
}

function againstServer(flavour: Flavour, fastLane: boolean): void {
  let tree: TemporaryTree;
  let server: RunningServer;
  let remote: Remote;

  before(async () => {
    tree = temporaryTree();
    fillHostileTree(tree.path, { raw: true });
    fillManyEntries(path.join(tree.path, 'many'), 5000);
    server = await flavour.start({ root: tree.path });
    remote = await openHttpRemote({ url: server.url, fastLane });
  });
  after(async () => {
    await remote?.close();
    await server?.stop();
    tree?.[Symbol.dispose]();
  });

  test('lists every name and reads every file by its name', async () => {
    const { objects, skipped } = await listAll(remote, 'hostile');
    assert.deepEqual(skipped, []);
    const visible = hostileNames.filter((name) => !flavour.hidesDotfiles || !name.startsWith('.'));
    const names = new Set(objects.map((object) => object.name));
    for (const name of visible) assert.ok(names.has(name), `no ${JSON.stringify(name)}`);
    assert.equal(objects.length, visible.length + hostileRawNames.length + 1);
    for (const object of objects) {
      const key = `hostile/${object.name}`;
      if (flavour.name === 'lighttpd' && /\p{Cc}/u.test(object.name)) {
        // It lists names with control characters but does not serve them.
        await assert.rejects(remote.stat(key, { signal: never }), { code: 'EIO' }, key);
        continue;
      }
      const found = await remote.stat(key, { signal: never });
      assert.equal(found.kind, object.kind, key);
      if (object.kind === 'directory') continue;
      if (object.sizeBytes !== undefined) assert.equal(found.sizeBytes, object.sizeBytes, key);
      assert.deepEqual(found.mtime, { seconds: treeMtimeSeconds, nanoseconds: 0 }, key);
      const sink = await readInto(remote, key, { version: found.version });
      const expected = names.has(object.name) && hostileNames.includes(object.name);
      assert.equal(decodeName(sink.bytes()), expected ? object.name : 'raw', key);
    }
  });

  test('describes and reads exact ranges', async () => {
    const found = await remote.stat('big.bin', { signal: never });
    assert.equal(found.sizeBytes, 3 * 1024 * 1024);
    assert.ok(found.version);
    const content = readFileSync(path.join(tree.path, 'big.bin'));
    assert.deepEqual(
      (await readInto(remote, 'big.bin', { version: found.version })).bytes(),
      content,
    );
    const ranges: [number, number][] = [
      [0, 1],
      [3 * 1024 * 1024 - 1, 1],
      [1_000_000, 1_500_000],
      [0, 3 * 1024 * 1024],
    ];
    for (const [offsetBytes, lengthBytes] of ranges) {
      const what = { offsetBytes, lengthBytes, version: found.version };
      if (!flavour.ranges && offsetBytes > 0) {
        await assert.rejects(readInto(remote, 'big.bin', what), { code: 'EOPNOTSUPP' });
        continue;
      }
      if (!flavour.ranges && !remote.supportsRanges) continue;
      const sink = await readInto(remote, 'big.bin', what);
      assert.deepEqual(sink.heads[0]?.version, found.version);
      assert.deepEqual(sink.heads[0]?.sizeBytes, found.sizeBytes);
      assert.deepEqual(
        sink.bytes(),
        content.subarray(offsetBytes, offsetBytes + lengthBytes),
        `${offsetBytes}+${lengthBytes}`,
      );
    }
    if (flavour.ranges) assert.ok(remote.supportsRanges);
  });

  test('empty files and directories', async () => {
    const found = await remote.stat('zero', { signal: never });
    assert.equal(found.sizeBytes, 0);
    assert.ok(found.version);
    assert.equal((await readInto(remote, 'zero', { version: found.version })).bytes().length, 0);
    assert.deepEqual(await listAll(remote, 'empty'), { objects: [], skipped: [] });
    assert.deepEqual(await remote.stat('empty', { signal: never }), { kind: 'directory' });
    assert.deepEqual(await remote.stat('', { signal: never }), { kind: 'directory' });
  });

  test('what is not there, and what is something else', async () => {
    await assert.rejects(remote.stat('missing', { signal: never }), { code: 'ENOENT' });
    await assert.rejects(readInto(remote, 'missing'), { code: 'ENOENT' });
    await assert.rejects(listAll(remote, 'missing'), { code: 'ENOENT' });
    await assert.rejects(listAll(remote, 'small'), { code: 'ENOTDIR' });
    await assert.rejects(readInto(remote, 'deep'), { code: 'EISDIR' });
  });

  test('5,000 entries, loops and depth', async () => {
    const { objects } = await listAll(remote, 'many');
    assert.equal(objects.length, 5000);
    const loop = await listAll(remote, 'loop/again/again/again');
    assert.deepEqual(
      loop.objects.map(({ name, kind }) => ({ name, kind })),
      [{ name: 'again', kind: 'directory' }],
    );
    assert.equal((await readInto(remote, 'deep/a/b/c/leaf')).bytes().length, 4);
  });

  test('another version than the one asked for is ESTALE before any byte', async () => {
    if (flavour.ranges) {
      const other = 'etag:"another"';
      const found = await remote.stat('big.bin', { signal: never });
      assert.match(found.version ?? '', /^(?:etag|weak):/);
      const what = { offsetBytes: 10, lengthBytes: 10, version: other };
      await assert.rejects(readInto(remote, 'big.bin', what), { code: 'ESTALE' });
    } else {
      const version = 'mtime=1;size=5';
      await assert.rejects(readInto(remote, 'small', { version }), { code: 'ESTALE' });
    }
  });

  test('an aborted read rejects with the reason, soon', async () => {
    const stop = new AbortController();
    const reason = new Error('enough');
    const reading = readInto(remote, 'big.bin', { signal: stop.signal });
    stop.abort(reason);
    await assert.rejects(reading, reason);
    const late = AbortSignal.abort(reason);
    await assert.rejects(remote.stat('small', { signal: late }), reason);
    await assert.rejects(listAll(remote, '', late), reason);
  });

  const guardedTest = flavour.name === 'Python' ? doesNotApply : test;
  guardedTest('credentials: from the URL or beside it, wrong ones are EACCES', async () => {
    await using guarded = await flavour.start({ root: tree.path, basicAuth: credentials });
    const { user, password } = credentials;
    const inUrl = new URL(guarded.url);
    inUrl.username = encodeURIComponent(user);
    inUrl.password = encodeURIComponent(password);
    await withRemote({ url: inUrl.href, fastLane }, async (remote) => {
      assert.equal(remote.displayName, guarded.url);
      await usable(remote);
    });
    await withRemote({ url: guarded.url, user, password, fastLane }, usable);
    for (const wrong of [{}, { user, password: 'wrong' }]) {
      await withRemote({ url: guarded.url, fastLane, ...wrong }, async (remote) => {
        const refused = { code: 'EACCES', retryable: false };
        await assert.rejects(listAll(remote, ''), refused);
        await assert.rejects(remote.stat('small', { signal: never }), refused);
        await assert.rejects(readInto(remote, 'small'), refused);
      });
    }
  });

  const secureTest = flavour.tls ? test : doesNotApply;
  secureTest(
    'TLS: an unknown authority says what to do; --ca-file and --insecure help',
    async () => {
      using directory = temporaryTree();
      const tls = makeCertificates(directory.path);
      await using secure = await flavour.start({ root: tree.path, tls });
      await withRemote({ url: secure.url, fastLane }, async (remote) => {
        const expected = { code: 'EACCES', message: /--ca-file.*--insecure/ };
        await assert.rejects(listAll(remote, ''), expected);
        await assert.rejects(
          readInto(remote, 'big.bin', { offsetBytes: 0, lengthBytes: 9 }),
          expected,
        );
      });
      await withRemote({ url: secure.url, caFile: tls.caFile, fastLane }, usable);
      await withRemote({ url: secure.url, insecure: true, fastLane }, usable);
      const byName = secure.url.replace('127.0.0.1', 'localhost');
      await withRemote({ url: byName, caFile: tls.caFile, fastLane }, usable);
    },
  );

  async function usable(remote: Remote): Promise<void> {
    const { objects } = await listAll(remote, '');
    assert.ok(objects.length >= 6);
    const { version } = await remote.stat('big.bin', { signal: never });
    const what = { offsetBytes: 1_000_000, lengthBytes: 1_000_000, version };
    const sink = await readInto(remote, 'big.bin', what);
    const content = readFileSync(path.join(tree.path, 'big.bin'));
    assert.deepEqual(sink.bytes(), content.subarray(1_000_000, 2_000_000));
  }
}

async function withRemote(
  options: HttpRemoteOptions,
  use: (remote: Remote) => Promise<void>,
): Promise<void> {
  const remote = await openHttpRemote(options);
  try {
    await use(remote);
  } finally {
    await remote.close();
  }
}

test('nginx asks for a client certificate', async () => {
  using tree = temporaryTree();
  fillHostileTree(tree.path);
  using directory = temporaryTree();
  const tls = makeCertificates(directory.path);
  await using server = await startNginx({ root: tree.path, tls, requireClientCertificate: true });
  const { clientCertificateFile, clientKeyFile, caFile } = tls;
  await withRemote({ url: server.url, caFile }, async (remote) => {
    await assert.rejects(listAll(remote, ''), { name: 'EbbError' });
  });
  const options = { url: server.url, caFile, clientCertificateFile, clientKeyFile };
  await withRemote(options, async (remote) => {
    assert.ok((await listAll(remote, '')).objects.length > 3);
    const sink = await readInto(remote, 'big.bin', { offsetBytes: 5, lengthBytes: 5 });
    assert.equal(sink.bytes().length, 5);
  });
});

test('an index page is not a listing, and neither is a listing that is switched off', async () => {
  using tree = temporaryTree();
  fillHostileTree(tree.path);
  const page =
    '<title>Welcome</title><h1>My index of things</h1><a href="a">a</a><a href="b/">b</a>';
  writeFileSync(path.join(tree.path, 'deep', 'index.html'), page);
  const indexFile = { extraConfig: 'index-file.names = ( "index.html" )' };
  for (const start of [startNginx, startApache, startLighttpd, startCaddy, startPythonServer]) {
    const extra = start === startLighttpd ? indexFile : {};
    await using server = await start({ root: tree.path, ...extra });
    await withRemote({ url: server.url }, async (remote) => {
      await assert.rejects(listAll(remote, 'deep'), { code: 'ENOTDIR', message: /Welcome/ });
    });
  }
  await using server = await startNginx({ root: tree.path, autoindex: 'off' });
  await withRemote({ url: server.url }, async (remote) => {
    await assert.rejects(listAll(remote, ''), { code: 'EACCES', message: /may not list/ });
  });
});

test('a directory that is called like an index page does not answer for its parent', async () => {
  using tree = temporaryTree();
  mkdirSync(path.join(tree.path, 'a/index.html'), { recursive: true });
  for (const name of ['index.html/inner', 'own'])
    writeFileSync(path.join(tree.path, 'a', name), 'x');
  for (const start of [startNginx, startApache, startLighttpd, startPythonServer]) {
    await using server = await start({ root: tree.path });
    await withRemote({ url: server.url }, async (remote) => {
      const names = async (key: string): Promise<string> => {
        const { objects } = await listAll(remote, key);
        return objects
          .map(({ name }) => name)
          .sort()
          .join(' ');
      };
      assert.equal(await names('a/index.html'), 'inner', start.name);
      const listed = await names('a').catch((error: unknown) => String(error));
      if (start === startNginx) assert.match(listed, /answers with its directory index\.html/);
      // Apache, which sends there, too, forgets its port.
      else if (start === startApache) assert.match(listed, /refused/);
      else assert.equal(listed, 'index.html own', start.name);
    });
  }
});

test('what stands at the place of the root says what is wrong with it', async () => {
  using tree = temporaryTree();
  writeFileSync(path.join(tree.path, 'file.img'), 'x');
  await using server = await startNginx({ root: tree.path });
  const cases = [
    ['file.img', { code: 'ENOTDIR', message: /\/file\.img is a file, not a directory/ }],
    ['nothing', { code: 'ENOENT', message: /has no .*\/nothing\/ \(404\)/ }],
  ] as const;
  for (const [name, expected] of cases) {
    await withRemote({ url: server.url + name }, (remote) =>
      assert.rejects(listAll(remote, ''), expected),
    );
  }
  const secure = server.url.replace('http:', 'https:');
  await withRemote({ url: secure }, (remote) =>
    assert.rejects(listAll(remote, ''), { message: /does not speak TLS there; is it http:/ }),
  );
});
