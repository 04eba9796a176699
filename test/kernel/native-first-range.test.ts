/** What a daemon gets ready for who opens a file is not what he reads when the remote's file has changed since. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { AttachedTree } from '../support/attached-tree.ts';
import { patternBytes } from '../support/pattern.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const MiB = 1024 * 1024;
const sizeBytes = 2 * MiB + 17;
const readBytes = 5_000;
const rounds = 3;
const inputOutputError = '5';

/** Opens each file of the tree, changes the remote's, and reads: a line for each, with bytes or the error's number. */
const program = `import os, sys
tree, origin, other = sys.argv[1:4]
new = open(other, "rb").read()
for name in sys.argv[4:]:
  there, here = os.path.join(origin, name), os.path.join(tree, name)
  what = name.split("-")[0]
  fd = os.open(here, os.O_RDONLY)
  if what == "replaced":
    open(there + ".new", "wb").write(new)
    os.rename(there + ".new", there)
  if what == "written": open(there, "r+b").write(new)
  if what == "emptied": open(there, "wb").close()
  if what == "deleted": os.unlink(there)
  try:
    print(os.pread(fd, ${readBytes}, 0).hex())
  except OSError as error:
    print(error.errno)`;

test('what is read is the version that was opened, or an error, whatever the remote does in between', async () => {
  await using scratch = await temporaryDirectory('first-range');
  await using remote = await temporaryDirectory('first-range-origin');
  const names = ['same', 'replaced', 'written', 'emptied', 'deleted'].flatMap((what) =>
    Array.from({ length: rounds }, (_, round) => `${what}-${round}`),
  );
  const old = patternBytes(1, sizeBytes);
  for (const name of names) writeFileSync(path.join(remote.path, name), old);
  const other = path.join(scratch.path, 'other');
  writeFileSync(other, patternBytes(2, sizeBytes));
  await using tree = await AttachedTree.attach({ type: 'xfs', remote: remote.path });
  const parameters = ['-c', program, tree.path, remote.path, other, ...names];
  const { stdout } = await runOk('python3', parameters, { timeoutMs: 60_000 });
  const front = old.subarray(0, readBytes).toString('hex');
  const expected = names.map((name) => (name.startsWith('same') ? front : inputOutputError));
  assert.deepEqual(stdout.toString().trim().split('\n'), expected);
});
