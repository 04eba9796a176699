/** Contents, descriptors and backing ids of the FUSE thread, with real descriptors: none leaks, none closes early. */
import assert from 'node:assert/strict';
import { fstatSync, openSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { HandleTable } from '../../src/mount/handle-table.ts';
import { OpenFiles, idleContentsMax } from '../../src/mount/open-files.ts';
import type { OpenFile } from '../../src/mount/open-files.ts';
import { createMemoryFile } from '../../src/sys/memory-file.ts';
import { Residency } from '../../src/tree/residency.ts';

/** The kernel's side: which backing ids are registered. Ids grow, as those of the kernel do. */
class Backings {
  readonly open = new Set<number>();
  last = 0;

  register(): number {
    this.last += 1;
    this.open.add(this.last);
    return this.last;
  }
}

interface Table {
  readonly files: OpenFiles;
  readonly dropped: number[];
  readonly backings: Backings;
  readonly openCount: Int32Array;
}

function table(handles?: number, backings = new Backings()): Table {
  const dropped: number[] = [];
  const openCount = new Int32Array(new SharedArrayBuffer(4));
  const files = new OpenFiles({
    openBacking: () => backings.register(),
    closeBacking: (backingId) => void backings.open.delete(backingId),
    onDropped: (nodeId) => dropped.push(nodeId),
    openCount,
    table: new HandleTable(handles),
  });
  return { files, dropped, backings, openCount };
}

function opened(isComplete = true): { residency: SharedArrayBuffer; descriptor: number } {
  const residency = Residency.create(1000);
  if (isComplete) residency.markResident(0, 1);
  residency.noteRecorded();
  return { residency: residency.buffer, descriptor: openSync('/dev/null', 'r') };
}

function isOpen(descriptor: number): boolean {
  try {
    fstatSync(descriptor);
    return true;
  } catch {
    return false;
  }
}

test('a content that somebody has open keeps its descriptor; the second one is closed and told', () => {
  const { files, dropped } = table();
  const first = opened();
  const second = opened();
  const content = files.adopt(5, first);
  files.open(content, false, 1);
  assert.equal(files.adopt(5, second), content);
  assert.ok(isOpen(first.descriptor) && !isOpen(second.descriptor));
  assert.deepEqual(dropped, [5]);
  files.closeAll();
  assert.ok(!isOpen(first.descriptor));
});

test('an idle content is replaced: its local file may have been made anew', () => {
  const { files, dropped } = table();
  const first = opened(false);
  const second = opened(true);
  files.adopt(5, first);
  const content = files.adopt(5, second);
  assert.equal(content.residency.complete, true);
  assert.ok(!isOpen(first.descriptor) && isOpen(second.descriptor));
  assert.deepEqual(dropped, [5]);
  files.closeAll();
});

test('the backing id lives as long as a passthrough open does', () => {
  const { files, backings, openCount } = table();
  const content = files.adopt(5, opened());
  const [one, two] = [files.open(content, true, 1), files.open(content, true, 2)];
  assert.deepEqual([one.mode, two.mode], ['passthrough', 'passthrough']);
  assert.equal(one.backingId, two.backingId);
  assert.equal(openCount[0], 2);
  files.release(one.fileHandle);
  assert.deepEqual([...backings.open], [one.backingId]);
  assert.equal(files.release(two.fileHandle), true);
  assert.equal(backings.open.size, 0);
  assert.equal(openCount[0], 0);
  assert.throws(() => files.release(two.fileHandle));
  files.closeAll();
});

test('a file becomes passthrough only when its last cached open is gone', () => {
  const { files } = table();
  const cold = opened(false);
  const content = files.adopt(5, cold);
  const held = files.open(content, true, 1);
  assert.equal(held.mode, 'cached');
  const residency = Residency.attach(cold.residency);
  residency.markResident(0, 1);
  residency.noteRecorded();
  const second = files.open(content, true, 2);
  assert.equal(second.mode, 'cached');
  files.release(held.fileHandle);
  assert.equal(files.open(content, true, 3).mode, 'cached');
  files.closeAll();
});

test('what is here but not yet in the durable record is not passed through', () => {
  const { files } = table();
  const arrived = opened(false);
  const residency = Residency.attach(arrived.residency);
  residency.markResident(0, 1);
  const content = files.adopt(5, arrived);
  const early = files.open(content, true, 1);
  assert.equal(early.mode, 'cached');
  files.release(early.fileHandle);
  residency.noteRecorded();
  assert.equal(files.open(content, true, 2).mode, 'passthrough');
  files.closeAll();
});

test('a file that the disk has lost is not opened for passthrough; cached, once nobody has it open', () => {
  const { files, backings } = table();
  const lost = opened();
  const content = files.adopt(5, lost);
  const held = files.open(content, true, 1);
  assert.equal(held.mode, 'passthrough');
  Residency.attach(lost.residency).clear();
  assert.throws(() => files.open(content, true, 2), { code: 'EIO' });
  files.release(held.fileHandle);
  assert.equal(backings.open.size, 0);
  assert.equal(files.open(content, true, 3).mode, 'cached');
  files.closeAll();
});

test('quiesce gives up what nobody has open, and only that', () => {
  const { files, dropped } = table();
  const one = opened();
  const content = files.adopt(5, one);
  const file = files.open(content, false, 1);
  assert.equal(files.quiesce(5), 1);
  assert.equal(files.isQuiesced(5), false);
  files.release(file.fileHandle);
  assert.equal(files.quiesce(5), 0);
  assert.ok(!isOpen(one.descriptor));
  assert.deepEqual(dropped, [5]);
  assert.equal(files.content(5), undefined);
  assert.equal(files.isQuiesced(5), true);
  files.resume(5);
  assert.equal(files.isQuiesced(5), false);
  assert.equal(files.quiesce(6), 0);
});

test('idle contents are bounded, the least recently closed go first', () => {
  const { files, dropped } = table();
  const total = idleContentsMax + 10;
  const descriptors = Array.from({ length: total }, (_unused, index) => {
    const one = opened();
    files.adopt(index + 1, one);
    return one.descriptor;
  });
  assert.equal(dropped.length, 10);
  assert.deepEqual(dropped, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  // A number that was closed may be in use again.
  assert.equal(new Set(descriptors.filter(isOpen)).size, idleContentsMax);
  files.closeAll();
  assert.equal(descriptors.filter(isOpen).length, 0);
});

type Step =
  | { readonly kind: 'adopt' | 'open' | 'quiesce' | 'resume'; readonly id: number }
  | { readonly kind: 'release'; readonly which: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('adopt' as const, 'open' as const, 'quiesce' as const, 'resume' as const),
    id: fc.integer({ min: 1, max: 4 }),
  }),
  fc.record({ kind: fc.constant('release' as const), which: fc.nat() }),
);

test('whatever happens, every adopted descriptor is either in the table or closed and told', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { files, dropped, openCount } = table();
      const adopted: { id: number; descriptor: number }[] = [];
      const open: OpenFile[] = [];
      let unique = 0;
      for (const action of steps) {
        if (action.kind === 'adopt') {
          const one = opened();
          adopted.push({ id: action.id, descriptor: one.descriptor });
          files.adopt(action.id, one);
        } else if (action.kind === 'open') {
          const content = files.content(action.id);
          if (content === undefined || files.isQuiesced(action.id)) continue;
          open.push(files.open(content, true, ++unique));
        } else if (action.kind === 'release') {
          const [file] = open.splice(action.which % Math.max(1, open.length), 1);
          if (file !== undefined) files.release(file.fileHandle);
        } else if (action.kind === 'quiesce') files.quiesce(action.id);
        else files.resume(action.id);
        assert.ok(open.every(({ nodeId }) => isOpen(files.content(nodeId)?.descriptor.fd ?? -1)));
        assert.equal(openCount[0], open.length);
      }
      const held = new Set([1, 2, 3, 4].flatMap((id) => files.content(id)?.descriptor.fd ?? []));
      assert.equal(dropped.length, adopted.length - held.size);
      files.closeAll();
      for (const fd of held) assert.ok(!isOpen(fd));
    }),
    { numRuns: 200 },
  );
});

// --- successors --------------------------------------------------------------------------------------------------

type Life =
  | { readonly kind: 'open'; readonly id: number; readonly isComplete: boolean }
  | { readonly kind: 'close'; readonly which: number }
  /** The daemon dies, maybe with an OPEN that it had written down and not answered, or with an id of nobody's. */
  | { readonly kind: 'die'; readonly at: 'rest' | 'answering' | 'registered' | 'closing' };

const life: fc.Arbitrary<Life> = fc.oneof(
  fc.record({
    kind: fc.constant('open' as const),
    id: fc.integer({ min: 1, max: 3 }),
    isComplete: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('close' as const), which: fc.nat() }),
  fc.record({
    kind: fc.constant('die' as const),
    at: fc.constantFrom('rest', 'answering', 'registered', 'closing'),
  }),
);

test('a successor knows what is open: modes, backing ids and counts hold, and nothing leaks', () => {
  fc.assert(
    fc.property(fc.array(life, { maxLength: 60 }), (steps) => {
      using handles = createMemoryFile('test');
      const backings = new Backings();
      let { files } = table(handles.fd, backings);
      let unique = 0;
      /** What the kernel has open: the answers it heard. */
      let kernel: OpenFile[] = [];
      const open = (id: number, isComplete: boolean): OpenFile | undefined => {
        const content = files.adopt(id, opened(isComplete));
        unique += 1;
        const isPassedThrough = kernel.some((file) => file.nodeId === id && file.backingId > 0);
        if (content.residency.complete || !isPassedThrough)
          return files.open(content, true, unique);
        assert.throws(() => files.open(content, true, unique), { code: 'EIO' });
        return undefined;
      };
      const successor = (): void => {
        files.closeAll();
        ({ files } = table(handles.fd, backings));
      };
      for (const action of steps) {
        if (action.kind === 'open') {
          const file = open(action.id, action.isComplete);
          if (file !== undefined) kernel.push(file);
        } else if (action.kind === 'close') {
          const [file] = kernel.splice(action.which % Math.max(1, kernel.length), 1);
          if (file !== undefined) files.release(file.fileHandle);
        } else if (action.at === 'answering') {
          open(1, true);
          successor();
          files.openedAgain(unique);
        } else if (action.at === 'registered') {
          backings.register();
          successor();
        } else if (action.at === 'closing') {
          const [file] = kernel.splice(0, 1);
          if (file !== undefined) files.release(file.fileHandle);
          successor();
          // The RELEASE comes again, and finds nothing.
          if (file !== undefined) assert.equal(files.file(file.fileHandle), undefined);
        } else successor();
        assert.equal(files.openCount, kernel.length);
        for (const { fileHandle, nodeId, mode, backingId } of kernel) {
          const found = files.file(fileHandle);
          assert.deepEqual(
            [found?.nodeId, found?.mode, found?.backingId],
            [nodeId, mode, backingId],
          );
        }
        for (const id of [1, 2, 3]) {
          const ofNode = kernel.filter(({ nodeId }) => nodeId === id);
          assert.ok(new Set(ofNode.map(({ mode }) => mode)).size <= 1, 'EIO from the kernel');
          assert.ok(new Set(ofNode.map(({ backingId }) => backingId)).size <= 1, 'EIO');
        }
        const used = new Set(kernel.map(({ backingId }) => backingId).filter((id) => id > 0));
        assert.deepEqual(new Set(backings.open), used);
      }
      kernel = [];
      files.closeAll();
    }),
    { numRuns: 300 },
  );
});
