/** Bringing a remote's names into a tree, on real file systems, before users see it. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { after, test } from 'node:test';
import { openDirectoryRemote } from '../../src/remote/dir/dir-remote.ts';
import { faultyRemote } from '../../src/remote/fault.ts';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import { checkedRemote } from '../../src/remote/checked.ts';
import { openRemote } from '../../src/remote/open-remote.ts';
import { tracedRemote } from '../../src/remote/trace.ts';
import { setXattr } from '../../src/sys/xattr.ts';
import { isPoison } from '../../src/tree/stubs/poison.ts';
import { fillHostileTree } from '../support/hostile-tree.ts';
import { startNginx } from '../support/servers.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { imageTypes } from '../tree/support/stubs.ts';
import { Scene, content, facts, scenesParallel } from './populate-scene.ts';

/** A directory with everything that a name can be. */
function fillOrigin(root: string): void {
  mkdirSync(root);
  fillHostileTree(root, { raw: true });
  mkdirSync(`${root}/links/deep`, { recursive: true });
  writeFileSync(`${root}/links/one`, 'shared');
  linkSync(`${root}/links/one`, `${root}/links/two`);
  linkSync(`${root}/links/one`, `${root}/links/deep/three`);
  symlinkSync('/nowhere/at all', `${root}/dangling`);
  chmodSync(`${root}/small`, 0o4751);
  chownSync(`${root}/small`, 123, 456);
  setXattr(`${root}/small`, 'user.colour', Buffer.from('blue'));
  setXattr(`${root}/empty`, 'user.taste', Buffer.from('sweet'));
  chmodSync(`${root}/deep/a`, 0o1711);
  chownSync(`${root}/deep/a`, 77, 88);
  utimesSync(`${root}/deep/a`, 1_000_000_000.25, 1_000_000_000.25);
  utimesSync(`${root}/big.bin`, 4_000_000_000.5, 4_000_000_000.5);
}

for (const [type, madeBy, makerFromStubs] of imageTypes.flatMap(
  (one) =>
    [
      [one, 'the main thread', Infinity],
      [one, 'another thread', 1],
    ] as const,
)) {
  test(`${type}, by ${madeBy}: every fact of a directory is there, and no content`, async () => {
    await using directory = await temporaryDirectory('origin');
    const root = `${directory.path}/root`;
    fillOrigin(root);
    const remote = await openDirectoryRemote(root);
    using scene = new Scene(type, checkedRemote(remote), makerFromStubs);
    const result = await scene.populate();
    assert.deepEqual(result.failures, []);
    assert.deepEqual(result.reports, []);
    assert.deepEqual(facts(scene.data), facts(root));
    const files = facts(root).filter((line) => / 10\d{4} /.test(line)).length;
    assert.equal(result.stubs + result.links, files);
    assert.equal(result.links, 2);
    assert.equal(scene.catalog.totals().stubs, result.stubs);
    assert.equal(scene.catalog.totals().remoteBytes, result.bytes);
    const big = readFileSync(scene.path('big.bin'));
    if (scene.store.hasPoison) assert.ok(isPoison(big, 0));
    else assert.ok(big.every((byte) => byte === 0));
    assert.equal(scene.record('big.bin')?.residentBytes, 0);
    assert.equal(scene.record('links/two')?.key, scene.record('links/deep/three')?.key);

    const again = await scene.refresh();
    const { directories, ...nothing } = again;
    assert.deepEqual(facts(scene.data), facts(root), 'asking again changes nothing');
    assert.equal(directories, result.directories);
    assert.deepEqual(
      [nothing.stubs, nothing.links, nothing.symlinks, nothing.replaced, nothing.removed],
      [0, 0, 0, 0, 0],
    );
    assert.deepEqual(scene.problems, []);
    await remote.close();
  });
}

test('what is in the tree already stays, and directories become one', async () => {
  const remote = new MemoryRemote();
  remote.putFile('mine', Buffer.from('the remote'));
  remote.putFile('both/theirs', Buffer.from('theirs'));
  remote.putFile('.ebb/evil', Buffer.from('x'));
  remote.putDirectory('was a file');
  remote.putOther('socket');
  using scene = new Scene('xfs', remote, 1);
  writeFileSync(scene.path('mine'), 'my own');
  writeFileSync(scene.path('was a file'), 'a file');
  mkdirSync(scene.path('both'));
  writeFileSync(scene.path('both/ours'), 'ours');
  const result = await scene.populate();
  assert.equal(content(scene.path('mine')), 'my own');
  assert.equal(content(scene.path('was a file')), 'a file');
  assert.deepEqual(scene.names('both'), ['ours', 'theirs']);
  assert.deepEqual(scene.names(), ['both', 'mine', 'was a file']);
  assert.deepEqual(result.reported, { kept: 2, conflict: 0, lost: 0, skipped: 2 });
  assert.deepEqual(result.reports.map(({ kind, key }) => `${kind} ${key}`).toSorted(), [
    'kept mine',
    'kept was a file',
    'skipped .ebb',
    'skipped socket',
  ]);
});

test('what the file system cannot hold is named, and all else is made', async () => {
  const tebibyte = 2 ** 40;
  for (const type of ['ext4', 'btrfs'] as const) {
    const remote = new MemoryRemote();
    using scene = new Scene(type, remote);
    await scene.populate();
    // Before users see it, and while they do.
    for (const isExposed of [false, true]) {
      const directory = isExposed ? 'later' : 'first';
      const at = (name: string): string => `${directory}/${name}`;
      const xattrs = new Map([['user.large', new Uint8Array(30_000)]]);
      remote.putFile(at('attributes'), Buffer.from('x'), { xattrs });
      remote.putFile(at('b'), Buffer.from('b'));
      if (type === 'ext4') remote.putGenerated(at('huge'), 17 * tebibyte, () => {});
      remote.putFile(at('z'), Buffer.from('z'));
      const { failures, reports } = await scene.populate({ mode: 'refresh', isExposed });
      assert.deepEqual(failures, []);
      assert.deepEqual(scene.names(directory), ['b', 'z']);
      const named = reports.filter(({ key }) => key.startsWith(directory));
      assert.deepEqual(
        named.map(({ kind, key }) => `${kind} ${key}`),
        ['attributes', ...(type === 'ext4' ? ['huge'] : [])].map((name) => `skipped ${at(name)}`),
      );
      for (const { message } of named) assert.match(message, /^the file system cannot hold it: /);
    }
  }
});

test('a large directory: all of it, and others get their turn', async () => {
  const remote = new MemoryRemote({ batchObjectsMax: 1000 });
  const count = 20_000;
  for (let index = 0; index < count; index += 1) {
    remote.putGenerated(`many/entry ${index}`, index, () => {});
  }
  using scene = new Scene('xfs', remote);
  let turns = 0;
  let going = true;
  const tick = (): void => {
    turns += 1;
    if (going) setImmediate(tick);
  };
  setImmediate(tick);
  const seen: number[] = [];
  const result = await scene.populate({ onProgress: ({ stubs }) => seen.push(stubs) });
  going = false;
  assert.equal(result.stubs, count);
  assert.equal(readdirSync(scene.path('many')).length, count);
  assert.equal(scene.catalog.totals().stubs, count);
  assert.equal(scene.catalog.totals().remoteBytes, (count * (count - 1)) / 2);
  assert.equal(lstatSync(scene.path('many/entry 12345')).size, 12_345);
  assert.ok(turns > count / 1000, `only ${turns} turns of the event loop`);
  assert.equal(seen.at(-1), count);
  assert.deepEqual(
    seen,
    seen.toSorted((a, b) => a - b),
  );
});

test('a directory whose listing breaks off is named and left alone, the others are done', async () => {
  const inner = new MemoryRemote({ batchObjectsMax: 2 });
  for (const name of ['a', 'b', 'c', 'd', 'e']) {
    inner.putFile(`good/${name}`, Buffer.from(name));
    inner.putFile(`bad/${name}`, Buffer.from(name));
    inner.putFile(`bad/below/${name}`, Buffer.from(name));
  }
  let broken = true;
  const remote = faultyRemote(inner, ({ call, key }) =>
    broken && call === 'list' && key === 'bad'
      ? { kind: 'error', after: 1, error: { code: 'EIO' } }
      : undefined,
  );
  using scene = new Scene('ext4', remote);
  const first = await scene.populate();
  assert.equal(first.failed, 1);
  assert.deepEqual(
    first.failures.map(({ key }) => key),
    ['bad'],
  );
  assert.deepEqual(scene.names('good'), ['a', 'b', 'c', 'd', 'e']);
  assert.deepEqual(scene.names('bad'), []);
  broken = false;
  const second = await scene.populate();
  assert.equal(second.failed, 0);
  assert.equal(second.stubs, 10);
  assert.deepEqual(scene.names('bad'), ['a', 'b', 'below', 'c', 'd', 'e']);
  broken = true;
  inner.remove('bad/a');
  inner.remove('good/a');
  const third = await scene.refresh();
  assert.equal(third.failed, 1);
  assert.equal(third.removed, 1);
  assert.deepEqual(scene.names('bad'), ['a', 'b', 'below', 'c', 'd', 'e'], 'nothing is deleted');
  assert.deepEqual(scene.names('good'), ['b', 'c', 'd', 'e']);
});

test('cancelled and resumed: what was complete is not asked for again', async () => {
  const inner = new MemoryRemote();
  for (let index = 0; index < 30; index += 1) {
    for (const name of ['x', 'y', 'z']) inner.putFile(`d${index}/${name}`, Buffer.from(name));
  }
  const lists: string[] = [];
  const remote = tracedRemote(inner, {
    onRequest: ({ call, key }) => {
      if (call === 'list') lists.push(key);
    },
  });
  using scene = new Scene('ext4', remote);
  const stop = new AbortController();
  await assert.rejects(
    scene.populate({
      signal: stop.signal,
      onProgress: () => stop.abort(new Error('enough')),
    }),
    /enough/,
  );
  const before = lists.length;
  assert.ok(before < 31, `${before} of 31 directories`);
  scene.restart(remote);
  const result = await scene.populate();
  assert.equal(result.failed, 0);
  assert.equal(scene.catalog.totals().stubs, 90);
  const listedAgain = lists.slice(before).filter((key) => lists.indexOf(key) < before);
  assert.ok(lists.length - before <= 31 - before + 4, `listed again: ${listedAgain.join(' ')}`);
  const complete = lists.length;
  await scene.populate();
  assert.equal(lists.length, complete, 'nothing is left to do');
});

test('over HTTP: exact sizes and times although the listing rounds', async () => {
  await using directory = await temporaryDirectory('http');
  const root = `${directory.path}/root`;
  mkdirSync(root);
  fillHostileTree(root);
  await using server = await startNginx({ root });
  const remote = await openRemote({ url: server.url });
  after(() => remote.close());
  using scene = new Scene('btrfs', remote);
  const result = await scene.populate();
  assert.deepEqual(result.failures, []);
  for (const name of [
    'zero',
    'small',
    'big.bin',
    'deep/a/b/c/leaf',
    'hostile/a b.txt',
    'hostile/100%',
  ]) {
    const [here, there] = [lstatSync(scene.path(name)), lstatSync(path.join(root, name))];
    assert.deepEqual([here.size, here.mtimeMs], [there.size, there.mtimeMs], name);
    assert.equal(here.mode & 0o7777, 0o644);
  }
  assert.equal(lstatSync(scene.path('deep/a')).mode & 0o7777, 0o755);
  const again = await scene.refresh();
  assert.deepEqual([again.stubs, again.replaced, again.removed], [0, 0, 0]);
});

test('over HTTP: as many directories are listed at a time as may be, and no more', async () => {
  const directories = 12;
  const links = Array.from({ length: directories }, (_unused, index) => `d${index}/`);
  const page = (url: string, names: readonly string[]): string => {
    const lines = names.map((name) => `<a href="${name}">${name}</a> 01-Jan-2026 00:00 -`);
    const title = `<title>Index of ${url}</title></head><body><h1>Index of ${url}</h1>`;
    return `<html><head>${title}<hr><pre><a href="../">../</a>\n${lines.join('\n')}\n</pre><hr></body></html>`;
  };
  const held: (() => void)[] = [];
  let underWay = 0;
  let most = 0;
  const server = createServer(({ url = '/' }, response) => {
    const answer = (): void => {
      if (url !== '/') underWay -= 1;
      response.setHeader('content-type', 'text/html').end(page(url, url === '/' ? links : []));
    };
    if (url === '/') return answer();
    underWay += 1;
    most = Math.max(most, underWay);
    held.push(answer);
    // Nobody is answered before as many have come as are meant to; one more would come while they wait.
    if (underWay === scenesParallel) setTimeout(() => held.splice(0).forEach((go) => go()), 20);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const remote = await openRemote({ url: `http://127.0.0.1:${port}/` });
  after(() => remote.close());
  using scene = new Scene('ext4', remote);
  const result = await scene.populate();
  assert.deepEqual([result.failures, result.directories], [[], directories + 1]);
  assert.equal(most, scenesParallel);
});
