/** What a file system cannot hold under its name: it is named, all else is made, and it comes when there is room. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import { collidingNames } from '../support/colliding-names.ts';
import { Scene } from './populate-scene.ts';

/** Eight more than fit. */
const names = collidingNames(65);
/** The last of all. */
const other = 'zz';

for (const [madeBy, makerFromStubs] of [
  ['the main thread', Infinity],
  ['another thread', 1],
] as const) {
  for (const isExposed of [false, true]) {
    const when = isExposed ? 'while' : 'before';
    test(`btrfs, by ${madeBy}, ${when} users see it: names with one sum that fit, and all others`, async () => {
      const remote = new MemoryRemote();
      using scene = new Scene('btrfs', remote, makerFromStubs);
      if (isExposed) await scene.populate();
      for (const name of [...names, other]) {
        remote.putFile(`files/${name}`, Buffer.from(name));
        remote.putFile(`directories/${name}/file`, Buffer.from(name));
        remote.putSymlink(`links/${name}`, 'somewhere');
      }
      const mode = isExposed ? 'refresh' : 'resume';
      const { failures, reports } = await scene.populate({ mode, isExposed });
      assert.deepEqual(failures, []);
      const missing: string[] = [];
      for (const directory of ['files', 'directories', 'links']) {
        const made = scene.names(directory);
        const absent = names.filter((name) => !made.includes(name));
        assert.ok(made.includes(other) && absent.length > 0, `${directory}: ${made.length} names`);
        assert.equal(made.length + absent.length, names.length + 1);
        missing.push(...absent.map((name) => `${directory}/${name}`));
        for (const name of made) {
          const file = { files: name, directories: `${name}/file`, links: undefined }[directory];
          if (file === undefined) continue;
          assert.equal(scene.record(`${directory}/${file}`)?.key, `${directory}/${file}`);
        }
      }
      for (const key of missing) {
        const named = reports.filter((report) => report.key === key);
        assert.deepEqual(
          named.map(({ kind }) => kind),
          ['skipped'],
        );
        assert.match(named[0]?.message ?? '', /^the file system cannot hold it: /);
        for (const stub of [key, `${key}/file`]) assert.equal(scene.catalog.byKey(stub), undefined);
      }
      assert.deepEqual(readdirSync(`${scene.tree.path}/.ebb/new`), []);

      // Nothing of it is ever taken for what users deleted or made.
      const again = await scene.refresh();
      assert.deepEqual([again.failures, again.removed, again.stubs], [[], 0, 0]);
      for (const directory of ['files', 'directories', 'links']) {
        const [first = ''] = scene.names(directory);
        remote.remove(`${directory}/${first}`);
      }
      await scene.refresh();
      const came = await scene.refresh();
      assert.equal(came.reports.length, missing.length - 3);
      assert.deepEqual(scene.problems, []);
    });
  }
}
