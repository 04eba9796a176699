/** What is read ahead of a program that walks through an image, and what is not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ebbError } from '../../src/base/errors.ts';
import type { DirectoryEntry, Inode, Volume } from '../../src/ext4/volume.ts';
import { NamesOnly } from '../../src/image/server/names-only.ts';
import { WalkAhead } from '../../src/image/server/walk-ahead.ts';

/** Directories by number: what is in them. What is not named here is a file. */
type Tree = Readonly<Record<number, readonly number[]>>;

/** 1 has 10 and 20, each of which has three directories, each of which has two files. */
const tree: Tree = {
  1: [10, 20],
  10: [11, 12, 13],
  20: [21, 22, 23],
  ...Object.fromEntries(
    [11, 12, 13, 21, 22, 23].map((number) => [number, [number * 10, number * 10 + 1]]),
  ),
};

function entriesOf(numbers: readonly number[], of: Tree): DirectoryEntry[] {
  return numbers.map((inodeNumber, index) => ({
    name: Buffer.from(`${inodeNumber}`),
    inodeNumber,
    type: inodeNumber in of ? 'directory' : 'file',
    cookie: index + 3,
  }));
}

/** A walk over `tree`, and the inodes that it looked at. */
class Walk {
  readonly looked: number[] = [];
  sizeBytes = 4096;
  #broken: number | undefined;
  readonly #tree: Tree;
  readonly #ahead: WalkAhead;

  constructor(of: Tree = tree, namesOnly?: NamesOnly) {
    this.#tree = of;
    const volume: Pick<Volume, 'inode' | 'entries'> = {
      inode: (number) => {
        if (number === this.#broken) throw ebbError('EUCLEAN', 'damaged');
        this.looked.push(number);
        return { number, sizeBytes: this.sizeBytes } as unknown as Inode;
      },
      entries: ({ number }) => entriesOf(this.#tree[number] ?? [], of),
    };
    this.#ahead = new WalkAhead(volume);
    this.#ahead.namesOnly = namesOnly;
  }

  breaks(number: number): void {
    this.#broken = number;
  }

  /** Somebody lists it; what is looked at after the answer. */
  list(directory: number): number[] {
    this.#ahead.begins(directory);
    for (const number of this.#tree[directory] ?? []) {
      if (number in this.#tree) this.#ahead.meets(number);
    }
    this.looked.length = 0;
    this.#ahead.work();
    const seen = [...this.looked];
    this.#ahead.work();
    assert.deepEqual(this.looked, seen, 'once for each listing');
    return seen;
  }
}

test('a walk in the order of the listings is read ahead of from its third directory on, to its end', () => {
  const walk = new Walk();
  assert.deepEqual(walk.list(1), []);
  assert.deepEqual(walk.list(10), []);
  assert.deepEqual(walk.list(11), [12, 120, 121]);
  assert.deepEqual(walk.list(12), [13, 130, 131]);
  assert.deepEqual(walk.list(13), [20, 21, 22, 23]);
  assert.deepEqual(walk.list(20), [21, 210, 211]);
  assert.deepEqual(walk.list(21), [22, 220, 221]);
  assert.deepEqual(walk.list(22), [23, 230, 231]);
  assert.deepEqual(walk.list(23), []);
});

test('of a walk by names the inodes of directories are read ahead, as long as nobody looks up files', () => {
  const pruned: (readonly number[])[] = [];
  const names = new NamesOnly((directories) => pruned.push(directories));
  const walk = new Walk(tree, names);
  assert.deepEqual(walk.list(1), []);
  assert.deepEqual(walk.list(10), []);
  assert.deepEqual(walk.list(11), [12]);
  assert.deepEqual(walk.list(12), [13]);
  assert.deepEqual(walk.list(13), [20, 21, 22, 23]);
  assert.deepEqual(
    [1, 10, 11, 12, 13].filter((directory) => names.leavesOut(directory)),
    [11, 12, 13],
  );
  for (let count = 0; count < 5; count += 1) names.lookedUp(13);
  assert.deepEqual(walk.list(20), [21, 210, 211]);
  assert.deepEqual(pruned, [[13, 12, 11]], 'the deepest first');
  assert.deepEqual(walk.list(21), [22, 220, 221]);
  assert.equal(names.leavesOut(21), false);
});

test('whoever goes another way is not read ahead of, until three of his directories were foreseen', () => {
  const walk = new Walk();
  for (const directory of [1, 20, 10, 13, 12, 11, 1, 10, 12, 10]) {
    assert.deepEqual(walk.list(directory), [], `${directory}`);
  }
  assert.deepEqual(walk.list(11), []);
  assert.deepEqual(walk.list(12), [13, 130, 131]);
  assert.deepEqual(walk.list(23), [], 'he goes elsewhere');
});

test('of a directory 64 entries are read ahead, of a large one nothing', () => {
  const many = Array.from({ length: 200 }, (_, index) => 1000 + index);
  const wide = { 1: [2], 2: [3], 3: [4], 4: many };
  assert.deepEqual(wide[4].length, 200);
  const walk = new Walk(wide);
  walk.list(1);
  walk.list(2);
  assert.deepEqual(walk.list(3), [4, ...many.slice(0, 64)]);
  const large = new Walk(wide);
  large.sizeBytes = 65_537;
  large.list(1);
  large.list(2);
  assert.deepEqual(large.list(3), [4]);
});

test('what is damaged ahead of a walk is for whoever lists it to hear', () => {
  const walk = new Walk();
  walk.list(1);
  walk.list(10);
  walk.breaks(12);
  assert.deepEqual(walk.list(11), []);
  walk.breaks(130);
  assert.deepEqual(walk.list(12), [13]);
});

test('more directories than are remembered end a walk, and nothing else', () => {
  const children = Array.from({ length: 1500 }, (_, index) => 10_000 + index);
  const wide: Tree = {
    1: children,
    ...Object.fromEntries(children.map((child) => [child, [child * 10]])),
  };
  const walk = new Walk(wide);
  walk.list(1);
  const ahead = children.map((child) => walk.list(child).length > 0);
  assert.deepEqual(ahead.slice(0, 3), [false, true, true]);
  assert.equal(ahead.indexOf(false, 1), 1023, 'the last one that is remembered');
  assert.ok(ahead.slice(1023).every((isAhead) => !isAhead));
});
