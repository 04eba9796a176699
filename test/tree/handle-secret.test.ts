/** The handle secret: made once, believed only when it is ours and nobody else's, refused with the way out. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { handleSecretName, openHandleSecret } from '../../src/tree/handle-secret.ts';
import type { HandleSecret } from '../../src/tree/handle-secret.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';

class Tree {
  readonly file: string;
  readonly #directory: string;
  #treeId: string;
  #recorded: string | undefined;

  constructor(directory: TemporaryDirectory, treeId = 'tree-a') {
    this.#directory = directory.path;
    this.#treeId = treeId;
    this.file = path.join(directory.path, handleSecretName);
  }

  open(renew = false, crashAt = 0): HandleSecret {
    let writes = 0;
    const record = {
      get: () => this.#recorded,
      set: (value: string) => {
        writes += 1;
        if (writes === crashAt) throw new Error('the power went');
        this.#recorded = value;
      },
    };
    return openHandleSecret({ directory: this.#directory, treeId: this.#treeId, record, renew });
  }

  put(text: string, mode = 0o600): void {
    rmSync(this.file, { force: true });
    writeFileSync(this.file, text);
    chmodSync(this.file, mode);
  }

  /** The tree never held anything, and belongs to another remote now. */
  disown(): void {
    this.#treeId = 'tree-c';
  }

  /** A new or rebuilt catalog. */
  forget(): void {
    this.#recorded = undefined;
  }
}

test('a handle secret is private, stays, and is exchanged on demand or for a new catalog', async () => {
  await using directory = await temporaryDirectory('secret');
  const tree = new Tree(directory);
  const first = tree.open();
  assert.equal(statSync(tree.file).mode & 0o777, 0o600);
  assert.deepEqual(tree.open(), first);
  assert.notDeepEqual(first.generationKey, first.tokenKey.subarray(0, 16));
  const second = tree.open(true);
  assert.notDeepEqual(second, first);
  assert.deepEqual(tree.open(), second);
  tree.forget();
  const third = tree.open();
  assert.notDeepEqual(third, second, 'ids may come again');
  tree.disown();
  assert.notDeepEqual(tree.open(), third, 'another tree');
});

test('a crash while the handle secret is exchanged leaves the old one or makes another, never a refusal', async () => {
  for (const crashAt of [1, 2]) {
    await using directory = await temporaryDirectory('secret');
    const tree = new Tree(directory);
    const first = tree.open();
    assert.throws(() => tree.open(true, crashAt), /the power went/);
    const after = tree.open();
    if (crashAt === 1) assert.deepEqual(after, first);
    else assert.notDeepEqual(after, first);
    assert.deepEqual(tree.open(), after);
  }
});

test('a handle secret that is missing, open to others, foreign or damaged is refused, with the way out', async () => {
  await using directory = await temporaryDirectory('secret');
  await using elsewhere = await temporaryDirectory('secret');
  const tree = new Tree(directory);
  const other = new Tree(elsewhere, 'tree-b');
  const keys = tree.open();
  other.open();
  const right = readFileSync(tree.file, 'utf8');
  const facts = JSON.parse(right) as object;
  const older = JSON.stringify({ ...facts, secret: '00'.repeat(32) });
  const cases: readonly (readonly [change: () => void, code: string, said: RegExp])[] = [
    [() => rmSync(tree.file), 'ENOENT', /is missing\. Put the right one back from a copy\./],
    [() => tree.put(right, 0o640), 'EACCES', /is open to others \(mode 0640\)\..*chmod 600/],
    [() => tree.put(readFileSync(other.file, 'utf8')), 'EUCLEAN', /is that of another cache/],
    [() => tree.put(older), 'EUCLEAN', /is not the one that this cache's handles were made with/],
    [() => tree.put(right.slice(0, 40)), 'EUCLEAN', /is damaged/],
    [() => tree.put(JSON.stringify({ ...facts, secret: '00' })), 'EUCLEAN', /is damaged/],
    [() => tree.put('x'.repeat(5_000)), 'EUCLEAN', /is damaged/],
    [
      () => {
        rmSync(tree.file);
        symlinkSync('/etc/hostname', tree.file);
      },
      'EACCES',
      /cannot be opened/,
    ],
  ];
  for (const [change, code, said] of cases) {
    change();
    assert.throws(() => tree.open(), { code, message: said });
    assert.throws(() => tree.open(), { message: /--new-handles/ });
  }
  tree.put(right);
  assert.deepEqual(tree.open(), keys);
  if (process.getuid?.() === 0) {
    chownSync(tree.file, 54_321, 54_321);
    assert.throws(() => tree.open(), { code: 'EACCES', message: /belongs to user 54321.*chown 0/ });
  }
});
