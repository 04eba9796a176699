/** What walkers are given ahead: what they will come to, each thing once, and nothing that nobody walks. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { encodeName } from '../../src/base/name.ts';
import { NodeKind, ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import type { Node } from '../../src/catalog/catalog.ts';
import { MemoryCatalog } from '../../src/catalog/memory/catalog.ts';
import { defaultTreeWalkLimits } from '../../src/recall/tree-walk.ts';
import type { Ahead } from '../../src/recall/tree-walk.ts';
import { WalkDetector } from '../../src/recall/walk.ts';
import { fileRow } from '../mount/rows.ts';

/** Directories by name; a number stands for that many small files whose facts the listing does not tell. */
type Shape = readonly (Shape | number)[];

/** A remote of this shape, a catalog that knows of it what was listed, and everything that was advised. */
class Scene {
  readonly catalog = new MemoryCatalog();
  readonly lists: number[] = [];
  readonly facts: number[] = [];
  readonly contents: number[] = [];
  nowMs = 1;
  readonly detector: WalkDetector;
  readonly #shapes = new Map<number, Shape>();

  constructor(shape: Shape) {
    this.#shapes.set(ROOT_NODE_ID, shape);
    this.list(ROOT_NODE_ID);
    this.detector = new WalkDetector({
      node: (id) => this.catalog.node(id),
      children: (id, afterId, limit) => this.catalog.children(id, afterId, limit),
      needsListing: (directory) => directory.listedAtMs === 0,
    });
  }

  node(id: number): Node {
    const node = this.catalog.node(id);
    assert.ok(node);
    return node;
  }

  children(id: number): Node[] {
    return this.catalog.children(id, 0, 100_000);
  }

  /** The listing comes. Its names are the same each time, so a second one changes nothing. */
  list(id: number): void {
    if (this.node(id).listedAtMs > 0) return;
    const shape = this.#shapes.get(id) ?? [];
    const row = { ...fileRow('', { exact: false, version: null, sizeBytes: 100 }), parentId: id };
    const rows = shape.flatMap((part, place) => {
      const name = (index: number): Uint8Array => encodeName(`e${place}-${index}`);
      if (typeof part !== 'number') return [{ ...row, kind: NodeKind.directory, name: name(0) }];
      return Array.from({ length: part }, (_, index) => ({ ...row, name: name(index) }));
    });
    const directoryId = id;
    const change = { directoryId, listedAtMs: 1, inserted: rows, updated: [], removedIds: [] };
    const made = this.catalog.applyListing(change);
    const directories = made.filter((node) => node.kind === NodeKind.directory);
    const shapes = shape.filter((part) => typeof part !== 'number');
    for (const [index, { id: below }] of directories.entries()) {
      this.#shapes.set(below, shapes[index] ?? []);
    }
  }

  advised(ahead: Ahead): Ahead {
    this.lists.push(...ahead.directoryIds);
    this.facts.push(...ahead.factIds);
    this.contents.push(...ahead.contentIds);
    return ahead;
  }

  /** Everything that was asked for arrives at once, and what follows from it. */
  deliver(ahead: Ahead): void {
    const { directoryIds } = this.advised(ahead);
    for (const id of directoryIds) {
      this.list(id);
      for (const more of this.detector.arrived(id)) this.deliver(more.ahead);
    }
  }

  /** A process opens a directory. Returns whether its listing had to be waited for. */
  enter(id: number, pid: number, deliver = true): boolean {
    const waited = this.node(id).listedAtMs === 0;
    this.list(id);
    if (waited) for (const more of this.detector.arrived(id)) this.deliver(more.ahead);
    const ahead = this.detector.entered(this.node(id), waited, who(pid), this.nowMs);
    if (deliver) this.deliver(ahead);
    else this.advised(ahead);
    return waited;
  }
}

function who(pid: number): { pid: number; uid: number; gid: number } {
  return { pid, uid: 0, gid: 0 };
}

/** Steps of a program that walks everything below a directory, `depthMax` levels deep. */
function walk(
  scene: Scene,
  id: number,
  step: (file: Node) => void,
  pid = 7,
  depthMax = Infinity,
): { directories: number; waits: number } {
  let directories = 1;
  let waits = scene.enter(id, pid) ? 1 : 0;
  for (const child of scene.children(id)) {
    if (child.kind === NodeKind.file) step(child);
    else if (depthMax > 0) {
      const below = walk(scene, child.id, step, pid, depthMax - 1);
      directories += below.directories;
      waits += below.waits;
    }
  }
  return { directories, waits };
}

const noStep = (): void => undefined;
/** 20 directories with 15 each, which have one each: 620 and the root. */
const wide: Shape = Array.from({ length: 20 }, () => Array.from({ length: 15 }, () => [[3]]));

function assertOnce(ids: readonly number[]): void {
  assert.equal(new Set(ids).size, ids.length, 'something was advised twice');
}

test('who lists a directory, or several beside each other, gets nothing listed below them', () => {
  const scene = new Scene(wide);
  scene.enter(ROOT_NODE_ID, 7);
  assert.deepEqual(scene.lists, []);
  const [first] = scene.children(ROOT_NODE_ID);
  assert.ok(first);
  scene.enter(first.id, 8);
  assert.deepEqual(scene.lists, [], 'another process has listed the parent');
});

test('who descends waits for two listings at most, whatever the tree; each is advised once', () => {
  const scene = new Scene(wide);
  const { directories, waits } = walk(scene, ROOT_NODE_ID, noStep);
  assert.equal(directories, 621);
  // The root's first directory proves that the process descends.
  assert.equal(waits, 1);
  assert.equal(scene.lists.length, directories - 1 - waits);
  assertOnce(scene.lists);
  assert.deepEqual([...scene.facts, ...scene.contents], [], 'names are all that was asked for');
});

test('who stops in the first directories has had few listings fetched for it', () => {
  const scene = new Scene(wide);
  scene.enter(ROOT_NODE_ID, 7);
  const [first] = scene.children(ROOT_NODE_ID);
  assert.ok(first);
  scene.enter(first.id, 7);
  assert.ok(scene.lists.length > 0 && scene.lists.length <= defaultTreeWalkLimits.windowInitial);
});

test('who does not go deeper than two levels wastes a bounded number of listings', () => {
  const scene = new Scene(wide);
  walk(scene, ROOT_NODE_ID, noStep, 7, 1);
  // 20 directories were entered; what lies in them was not.
  assert.ok(scene.lists.length <= 120, `${scene.lists.length} listings of 620`);
});

test('a walk of a part of the tree stays in it', () => {
  const scene = new Scene(wide);
  scene.enter(ROOT_NODE_ID, 8);
  const part = scene.children(ROOT_NODE_ID)[5];
  assert.ok(part);
  walk(scene, part.id, (file) => scene.deliver(scene.detector.looked(file, who(7), 1)));
  const inside = new Set<number>();
  const collect = (id: number): void => {
    inside.add(id);
    for (const child of scene.children(id)) collect(child.id);
  };
  collect(part.id);
  const advised = [...scene.lists, ...scene.facts];
  assert.ok(advised.length > 20);
  assert.deepEqual(
    advised.filter((id) => !inside.has(id)),
    [],
  );
});

test('who looks at every file gets the facts of the next directories, too, each once', () => {
  const scene = new Scene(Array.from({ length: 50 }, () => [8]));
  const unknown: number[] = [];
  walk(scene, ROOT_NODE_ID, (file) => {
    if (!scene.facts.includes(file.id)) unknown.push(file.id);
    scene.deliver(scene.detector.looked(file, who(7), 1));
  });
  assertOnce(scene.facts);
  assert.ok(unknown.length <= 3, `${unknown.length} files of 400 were not asked for ahead`);
});

test('who reads every file gets contents ahead, and few facts beside them', () => {
  const scene = new Scene(Array.from({ length: 50 }, () => [8]));
  const unknown: number[] = [];
  walk(scene, ROOT_NODE_ID, (file) => {
    if (!scene.contents.includes(file.id)) unknown.push(file.id);
    scene.deliver(scene.detector.looked(file, who(7), 1));
    scene.deliver(scene.detector.opened(file, who(7), 1));
  });
  assertOnce(scene.contents);
  assert.ok(unknown.length <= 3, `${unknown.length} files of 400 were not asked for ahead`);
  assert.ok(scene.facts.length <= defaultTreeWalkLimits.windowInitial);
});

test('a directory of many files is followed at a bounded distance', () => {
  const scene = new Scene([[10_000]]);
  let furthest = 0;
  let seen = 0;
  walk(scene, ROOT_NODE_ID, (file) => {
    scene.deliver(scene.detector.opened(file, who(7), 1));
    seen += 1;
    furthest = Math.max(furthest, scene.contents.length - seen);
  });
  assertOnce(scene.contents);
  assert.ok(scene.contents.length >= 9_997);
  assert.ok(furthest <= defaultTreeWalkLimits.windowMax, `${furthest} ahead`);
});

test('after a pause the process proves itself again', () => {
  const scene = new Scene(wide);
  scene.enter(ROOT_NODE_ID, 7);
  scene.nowMs += 20_000;
  const [first] = scene.children(ROOT_NODE_ID);
  assert.ok(first);
  scene.enter(first.id, 7);
  assert.deepEqual(scene.lists, []);
});

test('any steps, any arrivals: bounded, and only ids that exist', () => {
  const steps = fc.array(
    fc.record({
      kind: fc.constantFrom('enter', 'look', 'open', 'arrive'),
      pick: fc.nat(10_000),
      pid: fc.integer({ min: 1, max: 3 }),
    }),
    { maxLength: 300 },
  );
  const shape: Shape = Array.from({ length: 6 }, () => [4, [3, [2, [1]]], 2, [40]]);
  fc.assert(
    fc.property(steps, (all) => {
      const scene = new Scene(shape);
      const known = (): Node[] => {
        const found: Node[] = [];
        const collect = (id: number): void => {
          for (const child of scene.children(id)) {
            found.push(child);
            collect(child.id);
          }
        };
        collect(ROOT_NODE_ID);
        return found;
      };
      const awaited: number[] = [];
      for (const { kind, pick, pid } of all) {
        const nodes = known();
        const isFile = kind === 'look' || kind === 'open';
        const wanted = nodes.filter((node) => (node.kind === NodeKind.file) === isFile);
        const node = wanted[pick % Math.max(1, wanted.length)];
        const before = scene.lists.length + scene.facts.length + scene.contents.length;
        if (kind === 'arrive') {
          const [id] = awaited.splice(pick % Math.max(1, awaited.length), 1);
          if (id === undefined) continue;
          scene.list(id);
          for (const { ahead } of scene.detector.arrived(id)) {
            awaited.push(...scene.advised(ahead).directoryIds);
          }
        } else if (node !== undefined && kind === 'enter') {
          const from = scene.lists.length;
          scene.enter(pick % 9 === 0 ? ROOT_NODE_ID : node.id, pid, false);
          awaited.push(...scene.lists.slice(from));
        } else if (node !== undefined) {
          const { detector } = scene;
          const step =
            kind === 'look'
              ? detector.looked(node, who(pid), 1)
              : detector.opened(node, who(pid), 1);
          awaited.push(...scene.advised(step).directoryIds);
        }
        const after = scene.lists.length + scene.facts.length + scene.contents.length;
        // Each of three processes may be waiting for one listing.
        assert.ok(after - before <= 3 * defaultTreeWalkLimits.windowMax);
      }
      for (const id of scene.lists) assert.equal(scene.node(id).kind, NodeKind.directory);
      for (const id of [...scene.facts, ...scene.contents]) {
        assert.equal(scene.node(id).kind, NodeKind.file);
      }
    }),
    { numRuns: 200 },
  );
});
