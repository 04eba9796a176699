/** Stubs on a btrfs that writes in place, and without checksums, what it makes from now on, or does so no longer. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { isPoison } from '../../../src/tree/stubs/poison.ts';
import { sourceBytes } from '../support/cache.ts';
import { run } from '../support/image.ts';
import { newTree, openStubs, recall } from '../support/stubs.ts';
import type { TestTree } from '../support/stubs.ts';

const sizeBytes = 65_000;
/** Ends elsewhere in a block: its poison is made when it is needed. */
const otherBytes = 70_001;

type Change = (tree: TestTree) => void;
const nothing: Change = () => undefined;
const remount =
  (options: string): Change =>
  (tree) =>
    run('mount', ['-o', `remount,${options}`, tree.path], 'btrfs');
const mark: Change = (tree) => run('chattr', ['+C', tree.data], 'btrfs');

const ways: readonly (readonly [name: string, first: Change, then: Change])[] = [
  ['mounted with nodatacow later', nothing, remount('nodatacow')],
  ['mounted with nodatasum later', nothing, remount('nodatasum')],
  ['mounted with nodatacow, later without', remount('nodatacow'), remount('datacow,datasum')],
  ['mounted with nodatasum, later without', remount('nodatasum'), remount('datasum')],
  ['in a directory with chattr +C', nothing, mark],
];

for (const [name, first, then] of ways) {
  test(`stubs are made, recalled and released: ${name}`, async () => {
    using tree = newTree('btrfs');
    first(tree);
    using stubs = openStubs(tree);
    const files = [stubs.add('before', sizeBytes)];
    then(tree);
    files.push(stubs.add('same', sizeBytes), stubs.add('other', otherBytes));
    for (const file of files) {
      const content = (): Buffer => readFileSync(path.join(tree.data, file.key));
      assert.ok(isPoison(content(), 0), file.key);
      for (let round = 0; round < 2; round += 1) {
        await recall(file);
        assert.ok(content().equals(sourceBytes(0, file.sizeBytes)), file.key);
        await stubs.store.settled(file.id);
        const [result] = await stubs.store.release([file], {
          prove: (asked) => Promise.resolve(asked),
          isBusy: () => false,
        });
        assert.equal(result?.released, true, file.key);
        assert.ok(isPoison(content(), 0), file.key);
      }
    }
    assert.deepEqual(stubs.problems, []);
  });
}
