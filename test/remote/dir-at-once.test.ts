/** What a directory remote reads in the thread that asks, and what it leaves to the pool. */
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { treeMarkName } from '../../src/base/tree-mark.ts';
import { AtOnce, isSmallRange } from '../../src/remote/dir/at-once.ts';
import { openDirectoryRemote } from '../../src/remote/dir/dir-remote.ts';
import { RemoteRoot } from '../../src/remote/dir/root.ts';
import { find, openContent } from '../../src/remote/dir/walk.ts';
import { setXattr } from '../../src/sys/xattr.ts';
import { noSignal, readAll } from '../conformance/collect.ts';
import { patternBytes } from '../support/pattern.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const asRoot = { skip: process.getuid?.() === 0 ? false : 'needs root' };
const chunkBytes = 256 * 1024;
const fileBytes = chunkBytes + 10_001;

test(
  'a small range is read at once; a large one, and a stub of a tree, are not',
  asRoot,
  async () => {
    await using directory = await temporaryDirectory('at-once');
    const bytes = patternBytes(1, fileBytes);
    await mkdir(path.join(directory.path, 'd'));
    for (const name of ['plain', 'stub'])
      await writeFile(path.join(directory.path, 'd', name), bytes);
    setXattr(path.join(directory.path, 'd/stub'), treeMarkName, Uint8Array.of(1));
    const root = await RemoteRoot.identify(directory.path);
    const atOnce = new AtOnce();
    using stub = await find(root, 'd/stub');
    using stubContent = await openContent(stub);
    assert.equal(atOnce.mayRead(stubContent), false);
    using plain = await find(root, 'd/plain');
    using content = await openContent(plain);
    assert.equal(atOnce.mayRead(content), true);
    assert.equal(isSmallRange(chunkBytes + 1), false);
    assert.equal(isSmallRange(undefined), false);
    assert.equal(isSmallRange(chunkBytes), true);
    const into = new Uint8Array(chunkBytes);
    const count = atOnce.read(content, into, 10_001, root.isInMemory);
    // Nothing where the file system cannot tell what is in memory.
    assert.ok(count === 0 || count === chunkBytes);
    const expected = bytes.subarray(10_001, 10_001 + count);
    assert.deepEqual(Buffer.from(into.subarray(0, count)), Buffer.from(expected));
    assert.equal(atOnce.read(content, into, fileBytes, root.isInMemory), 0);
  },
);

test('a file of a directory is the same by small ranges, large ranges and as a whole', async () => {
  await using directory = await temporaryDirectory('at-once-remote');
  const bytes = patternBytes(2, fileBytes);
  await writeFile(path.join(directory.path, 'file'), bytes);
  const remote = await openDirectoryRemote(directory.path);
  const { version } = await remote.stat('file', { signal: noSignal });
  for (const [offsetBytes, lengthBytes] of [
    [0, 1],
    [4_095, 2],
    [0, chunkBytes],
    [10_001, chunkBytes],
    [fileBytes - 1, 1],
    [0, chunkBytes + 1],
    [0, fileBytes],
    [0, undefined],
  ] as const) {
    const { bytes: read } = await readAll(remote, 'file', { version, offsetBytes, lengthBytes });
    const end = lengthBytes === undefined ? fileBytes : offsetBytes + lengthBytes;
    assert.deepEqual(Buffer.from(read), Buffer.from(bytes.subarray(offsetBytes, end)));
  }
  await remote.close();
});
