/** A tree that has lost its catalog: `ebb rebuild` finds its stubs again. */
import assert from 'node:assert/strict';
import { cpSync, readdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { AttachedTree, treeFilesystems } from '../support/attached-tree.ts';
import { CorpusWriter } from '../support/corpus.ts';
import { run } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';

let directory: TemporaryDirectory;
let source: string;

before(async () => {
  directory = await temporaryDirectory('native-rebuild');
  source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  for (const [name, sizeBytes] of [
    ['changed', 3_000_000],
    ['sub/read', 5_000],
    ['sub/deep/cold', 700_000],
  ] as const) {
    writer.bytes(name, sizeBytes);
  }
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

async function shellOk(tree: AttachedTree, script: string): Promise<void> {
  const { code, stderr } = await run('/bin/sh', ['-ec', script, tree.path], {
    timeoutMs: 60_000,
    env: { SOURCE: source },
  });
  assert.equal(code, 0, `${script}: ${stderr.toString()}`);
}

async function stateOf(tree: AttachedTree, name: string): Promise<string> {
  const { stdout } = await tree.ebbOk(['ls', '--json', path.join(tree.path, name)]);
  return (JSON.parse(stdout.toString()) as { state: string }).state;
}

for (const type of treeFilesystems) {
  test(`${type}: ebb rebuild finds all stubs again, what is here and what was changed`, async () => {
    await using tree = await AttachedTree.attach({ type, remote: source });
    await shellOk(tree, 'cmp "$0/sub/read" "$SOURCE/sub/read"');
    const { stateDirectory } = await tree.status();
    const [now, older] = [`${stateDirectory}-now`, `${stateDirectory}-older`];
    cpSync(stateDirectory, older, { recursive: true });
    await shellOk(tree, 'echo mine >> "$0/changed"');
    const refused = await tree.ebb(['rebuild', tree.path]);
    assert.equal(refused.code, 3, refused.stderr.toString());
    await tree.stop();
    renameSync(stateDirectory, now);
    renameSync(older, stateDirectory);
    const outdated = await tree.ebb(['attach', tree.path]);
    assert.match(outdated.stderr.toString(), /or an older copy, .* First: ebb rebuild /);
    rmSync(stateDirectory, { recursive: true });
    renameSync(now, stateDirectory);
    // As a crash of another rebuild leaves it: the old catalog is away, the new one not yet in its place.
    for (const name of readdirSync(stateDirectory)) {
      if (!name.startsWith('catalog.')) continue;
      renameSync(path.join(stateDirectory, name), path.join(stateDirectory, `${name}.old`));
    }
    const lost = await tree.ebb(['attach', tree.path]);
    assert.match(lost.stderr.toString(), /catalog of this tree is gone: .* First: ebb rebuild /);
    assert.deepEqual(readdirSync(tree.path), ['.ebb']);
    rmSync(path.join(stateDirectory, 'place'));
    const unknown = await tree.ebb(['attach', tree.path]);
    assert.match(unknown.stderr.toString(), /place is gone, .* run ebb rebuild /);
    const copy = `${tree.path}-copy`;
    await shellOk(tree, 'cp -a "$0" "$0-copy"');
    for (const words of [
      ['rebuild', '--dry-run', copy],
      ['rebuild', copy],
    ]) {
      const copied = await tree.ebb(words);
      assert.match(copied.stderr.toString(), /is a copy of a tree, not the tree itself/);
    }
    const rebuilt = await tree.ebbOk(['rebuild', tree.path]);
    assert.match(rebuilt.stdout.toString(), /3 files/);
    await tree.attach();
    assert.equal(await stateOf(tree, 'changed'), 'DIR');
    assert.equal(await stateOf(tree, 'sub/deep/cold'), 'OFL');
    await shellOk(
      tree,
      `cmp "$0/sub/read" "$SOURCE/sub/read"; cmp "$0/sub/deep/cold" "$SOURCE/sub/deep/cold"
       { cat "$SOURCE/changed"; echo mine; } | cmp - "$0/changed"`,
    );
  });
}
