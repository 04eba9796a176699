/** What users changed and the catalog does not take, because its disk is full or broken. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { StubChange } from '../../src/base/stub-facts.ts';
import { ebbError } from '../../src/base/errors.ts';
import type { IncomingEvent } from '../../src/fanotify/event-reader.ts';
import { Group } from '../../src/fanotify/group.ts';
import { ChangeJournal, changeJournalBytes } from '../../src/native/change-journal.ts';
import { encodeHandle } from '../../src/sys/handle.ts';
import { mapSharedFile } from '../../src/sys/map.ts';
import type { StubFile } from '../../src/tree/stubs/stub-store.ts';
import type { LoopFilesystemType } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';
import { nativeScene, settle } from './native-scene.ts';
import type { NativeScene } from './native-scene.ts';

const names = ['a', 'b', 'c', 'd'] as const;
const sizeBytes = 10_000;

/** Size and mtime are as before. By a mapping, no event tells of the bytes, only that it was closed. */
const writer = (how: 'call' | 'mapping', files: readonly string[]): string => `python3 -c '
import mmap, os
for name in "${files.join(' ')}".split():
  before = os.stat(name)
  fd = os.open(name, os.O_RDWR)
  if "${how}" == "call": os.pwrite(fd, b"user", 3)
  else:
    with mmap.mmap(fd, 0) as mapped: mapped[3:7] = b"user"
  os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
  os.close(fd)'`;

/** From now on the catalog does not take what users changed of these files. */
function refuse(
  scene: NativeScene,
  ids: readonly number[],
): { readonly refused: ReadonlySet<number>; end(): void } {
  const { catalog } = scene;
  const setChange = catalog.setChange.bind(catalog);
  const refused = new Set<number>();
  catalog.setChange = (rows) => {
    const one = rows.find(({ id }) => ids.includes(id));
    if (one === undefined) return setChange(rows);
    refused.add(one.id);
    throw ebbError('ENOSPC', 'The disk of the catalog is full.');
  };
  return { refused, end: () => void (catalog.setChange = setChange) };
}

/** Files of which the next daemon would be told. */
function inJournal(scene: NativeScene): string[] {
  // A copy: what makes no sense is struck out.
  const memory = mapSharedFile(scene.journalFd, changeJournalBytes).slice(0);
  const left = new Set<string>();
  const ignore = (): void => undefined;
  const journal = new ChangeJournal(Group.borrow(-1, 'notification'), memory, ignore, ignore);
  journal.takeOver((event: IncomingEvent) => {
    const object = event.fids().find(({ kind }) => kind === 'object');
    if (object === undefined) return;
    const file = scene.store.byHandle(encodeHandle(object.handle));
    if (file !== undefined) left.add(file.key);
  }, ignore);
  return [...left].sort();
}

async function settled(scene: NativeScene): Promise<StubFile[]> {
  const files: StubFile[] = [];
  for (const name of names) {
    const file = scene.add(name, sizeBytes);
    await settle(scene, name, file);
    files.push(file);
  }
  return files;
}

for (const type of ['xfs', 'ext4'] satisfies LoopFilesystemType[]) {
  describe(`a tree on ${type} whose catalog refuses what users changed`, () => {
    test('their files are not released, and recorded as soon as that can be', async () => {
      await using scene = await nativeScene(type);
      const files = (await settled(scene)).slice(0, 2);
      const refusal = refuse(
        scene,
        files.map(({ id }) => id),
      );
      await scene.shellOk(writer('call', ['a', 'c']));
      await scene.shellOk(writer('mapping', ['b', 'd']));
      await waitFor(() => refusal.refused.size === 2, { what: 'changes that cannot be recorded' });
      for (const file of files) {
        await scene.server.recorded(file.id);
        assert.equal((await scene.release(file)).released, false, file.key);
        const isStill = await scene.server.recorded(file.id);
        assert.equal(isStill(), false, `${file.key}: nothing is put in its place either`);
      }
      await waitFor(() => inJournal(scene).join(' ') === 'a b', {
        what: 'what was read with them to be struck out',
      });
      refusal.end();
      await waitFor(() => files.every(({ change }) => change === StubChange.dirty), {
        what: 'them to be recorded',
      });
      await waitFor(() => inJournal(scene).length === 0, { what: 'them to be struck out' });
      for (const { key } of files) {
        assert.equal(await scene.shellOk(`tail -c +4 ${key} | head -c 4`), 'user', key);
      }
    });

    test('when the tree ends, it is tried once more', async () => {
      await using scene = await nativeScene(type);
      const [file] = await settled(scene);
      assert.ok(file);
      const refusal = refuse(scene, [file.id]);
      await scene.shellOk(writer('call', ['a']));
      await waitFor(() => refusal.refused.size === 1, { what: 'a change that cannot be recorded' });
      await scene.thread.stop();
      scene.server.close();
      refusal.end();
      await scene.server.changesSettled();
      assert.equal(scene.catalog.get(file.id)?.change, StubChange.dirty);
      assert.deepEqual(inJournal(scene), []);
    });
  });
}
