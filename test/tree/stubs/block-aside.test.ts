/** The block that tells on ext4 whether a file was cut off (evidence.ts), in the forms of ext4 that there are. */
import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, statSync, truncateSync, utimesSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { runOk } from '../../support/run.ts';
import { sourceBytes } from '../support/cache.ts';
import { newTree, openStubs, recall } from '../support/stubs.ts';

const sizes = [1, 4_096, 20_000];

for (const { form, mkfs, canSetAside } of [
  { form: 'as it is made today', mkfs: [], canSetAside: true },
  { form: 'small blocks', mkfs: ['-b', '1024'], canSetAside: true },
  { form: 'clusters', mkfs: ['-O', 'bigalloc'], canSetAside: true },
  { form: 'content in inodes', mkfs: ['-O', 'inline_data'], canSetAside: true },
  { form: 'without a journal', mkfs: ['-O', '^has_journal'], canSetAside: true },
  { form: 'without extents', mkfs: ['-O', '^extents,^64bit'], canSetAside: false },
]) {
  test(`ext4, ${form}: a block behind its end says that a stub was not cut off`, async () => {
    using tree = newTree('ext4', mkfs);
    using stubs = openStubs(tree);
    const { store } = stubs;
    for (const sizeBytes of sizes) {
      const file = stubs.add(`f${sizeBytes}`, sizeBytes);
      const name = path.join(tree.data, `f${sizeBytes}`);
      const { blocks } = statSync(name);
      await store.setChange(file, 2);
      // Without one the file's own time tells, as far as it does.
      if (canSetAside) utimesSync(name, 1, 2);
      assert.equal(store.isUncut(file), canSetAside);
      assert.equal(store.unchanged(file), true);
      assert.equal(statSync(name).blocks > blocks, canSetAside);
      await store.setChange(file, 0);
      await recall(file);
      assert.deepEqual(new Uint8Array(readFileSync(name)), sourceBytes(0, sizeBytes));

      const other = stubs.add(`cut${sizeBytes}`, sizeBytes);
      const cut = path.join(tree.data, `cut${sizeBytes}`);
      await store.setChange(other, 2);
      truncateSync(cut, 0);
      truncateSync(cut, sizeBytes);
      assert.equal(store.isUncut(other), false);
      assert.equal(store.unchanged(other), false);
      assert.equal(statSync(cut).blocks, blocks, 'the block is free again');
    }
    await checkFilesystem(tree.path);
  });
}

/** e2fsck on a copy of what would be on the disk after a power cut now. */
async function checkFilesystem(mountPoint: string): Promise<void> {
  const image = path.join(path.dirname(mountPoint), 'image');
  const copy = `${image}.copy`;
  await runOk('fsfreeze', ['--freeze', mountPoint]);
  try {
    copyFileSync(image, copy);
  } finally {
    await runOk('fsfreeze', ['--unfreeze', mountPoint]);
  }
  await runOk('e2fsck', ['-f', '-n', copy]);
}
