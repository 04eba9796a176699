/** A catalog that was put back from a backup claims what was released since. */
import assert from 'node:assert/strict';
import { copyFileSync, linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import { Contents } from '../../src/daemon/mount/contents.ts';
import { rebuild } from '../../src/daemon/rebuild.ts';
import { catalogPath } from '../../src/tree/layout.ts';
import { releaseContent } from '../../src/tree/release-content.ts';
import type { StoredContent } from '../../src/tree/stored-content.ts';
import { chunkBytes, openCache, remote, sourceBytes, temporaryDirectory } from './support/cache.ts';

const sizeBytes = 2 * chunkBytes;

/** Makes two contents that are all here. */
async function fillCache(directory: string): Promise<{ file: number; other: number }> {
  const cache = openCache(directory);
  const [file, other] = [cache.add('file', sizeBytes), cache.add('other', sizeBytes)];
  await cache.fill(file);
  await cache.fill(other);
  await cache.store.log.flush();
  cache.abandon();
  return { file: file.id, other: other.id };
}

/** As one daemon: what it was told of the catalog, and what `body` found. */
async function withContents(
  directory: string,
  body: (contents: Contents) => Promise<void> | void,
): Promise<string[]> {
  const problems: string[] = [];
  const contents = await Contents.open(directory, remote, ({ kind }) => problems.push(kind));
  try {
    await body(contents);
  } finally {
    await contents.close();
  }
  return problems;
}

function contentOf(contents: Contents, id: number): StoredContent {
  const content = contents.get(id);
  assert.ok(content !== undefined, `there is content ${id}`);
  return content;
}

async function release(directory: string, id: number): Promise<void> {
  const problems = await withContents(directory, async (contents) => {
    const result = await releaseContent(contents.store, contentOf(contents, id), {
      prove: (content) => Promise.resolve(content),
      isBusy: () => false,
    });
    assert.ok(result.released);
  });
  assert.deepEqual(problems, []);
}

/** Looks, and finds nothing wrong with the catalog. */
async function assertHere(directory: string, id: number): Promise<void> {
  const problems = await withContents(directory, (contents) => {
    const content = contentOf(contents, id);
    assert.ok(content.residency.complete, `content ${id} is here`);
    const found = new Uint8Array(sizeBytes);
    content.readSync(found, 0);
    assert.deepEqual(found, sourceBytes(0, sizeBytes));
  });
  assert.deepEqual(problems, []);
}

/** Looks, and finds an old catalog that claims nothing. Then `file` is recalled. */
async function assertForgotten(directory: string, file: number): Promise<void> {
  const problems = await withContents(directory, async (contents) => {
    const content = contentOf(contents, file);
    assert.equal(content.residency.residentBytes, 0);
    assert.equal(contents.catalog.totals(ROOT_NODE_ID).residentBytes, 0);
    await content.write(sourceBytes(0, sizeBytes), 0);
    content.markResident(0, 2, content.losses);
  });
  assert.deepEqual(problems, ['old catalog']);
}

test('a catalog from before a release, put back beside the files, claims nothing', async () => {
  using directory = temporaryDirectory();
  const { file } = await fillCache(directory.path);
  const catalog = catalogPath(directory.path);
  // In the second round it is one that knows of an earlier release.
  for (let round = 1; round <= 2; round += 1) {
    await assertHere(directory.path, file);
    const backup = readFileSync(catalog);
    await release(directory.path, file);
    writeFileSync(catalog, backup);
    await assertForgotten(directory.path, file);
  }
  await assertHere(directory.path, file);
});

test('a release whose stamp the disk has lost costs no other content', async () => {
  using directory = temporaryDirectory();
  const { file, other } = await fillCache(directory.path);
  await release(directory.path, file);
  const stamp = path.join(directory.path, 'stamp');
  linkSync(stamp, `${stamp}.former`);
  await release(directory.path, file);
  renameSync(`${stamp}.former`, stamp);
  await assertHere(directory.path, other);
});

test('a rebuilt catalog keeps what is here, and the one that it replaced is an old one', async () => {
  using directory = temporaryDirectory();
  const { file, other } = await fillCache(directory.path);
  await release(directory.path, file);
  const catalog = catalogPath(directory.path);
  copyFileSync(catalog, `${catalog}.backup`);
  rmSync(catalog);
  assert.equal((await rebuild(directory.path, false)).ok, true);
  await assertHere(directory.path, other);
  copyFileSync(`${catalog}.backup`, catalog);
  await assertForgotten(directory.path, other);
});
