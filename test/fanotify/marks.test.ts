/** What marks cover and what they do not, on real file systems. Needs root. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Errno } from '../../src/base/errno.ts';
import { FanEvent } from '../../src/fanotify/constants.ts';
import { Group } from '../../src/fanotify/group.ts';
import { OpenFlag, openFd } from '../../src/sys/fd.ts';
import { openByHandle, handleOf } from '../../src/sys/handle.ts';
import { pread, pwrite } from '../../src/sys/io.ts';
import { MountFlag, mount } from '../../src/sys/mount.ts';
import { attachMount, changeMount, cloneMount } from '../../src/sys/mount-tree.ts';
import { openXfsHandle, xfsHandleOf } from '../../src/sys/xfs-handle.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import type { LoopFilesystem, LoopFilesystemType } from '../support/temporary.ts';
import type { Mark } from '../../src/fanotify/group.ts';
import type { Touched } from './support.ts';
import { Listener, compileTouch, hold, makeSparse, skip, touch, touchUnshared } from './support.ts';

const everything: Mark = { on: 'filesystem', events: FanEvent.preAccess };
const ignored: Mark = { on: 'inode', events: FanEvent.preAccess, ignore: true };
const lasting: Mark = { ...ignored, survivesModify: true };
const fileBytes = 65_536;

interface Bench extends AsyncDisposable {
  readonly group: Group;
  readonly root: string;
  readonly file: string;
  readonly filesystem: LoopFilesystem;
  readonly program: string;
  /** Touches the file; how many events that raised. */
  readonly events: (work: () => Promise<Touched>) => Promise<number>;
  readonly pread: () => Promise<Touched>;
}

/** A file system with one sparse file and a group without marks. All events are allowed. */
async function bench(type: LoopFilesystemType): Promise<Bench> {
  const stack = new AsyncDisposableStack();
  const directory = stack.use(await temporaryDirectory('fanotify-marks'));
  const filesystem = stack.use(await loopFilesystem({ type }));
  const program = await compileTouch(directory.path);
  const file = path.join(filesystem.path, 'file');
  await makeSparse(file, fileBytes);
  const group = stack.use(Group.create({ class: 'preContent' }));
  return {
    group,
    root: filesystem.path,
    file,
    filesystem,
    program,
    async events(work) {
      const listener = new Listener(group);
      await listener.during(work());
      assert.deepEqual(listener.troubles, []);
      return listener.events.length;
    },
    pread: () => touch(program, 'pread', file, 0, 10),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(
    `${type}: ignore marks silence one file, until it is written unless they survive that`,
    { skip },
    async () => {
      await using it = await bench(type);
      it.group.mark(it.root, everything);
      assert.equal(await it.events(it.pread), 1);
      const write = (): Promise<Touched> => touch(it.program, 'pwrite', it.file, 0, 10);

      it.group.mark(it.file, ignored);
      assert.equal(await it.events(it.pread), 0);
      assert.equal(await it.events(write), 0);
      assert.equal(await it.events(it.pread), 1, 'the write took the mark away');

      for (const mark of [lasting, { ...lasting, evictable: true }]) {
        using file = openFd(it.file, OpenFlag.rdonly);
        assert.equal(it.group.tryMark(file.fd, mark), 0);
        assert.equal(await it.events(write), 0);
        assert.equal(await it.events(it.pread), 0);
        assert.equal(it.group.tryUnmark(file.fd, mark), 0);
        assert.equal(it.group.tryUnmark(file.fd, mark), -Errno.ENOENT);
        assert.equal(await it.events(it.pread), 1);
      }
      // Only marks on inodes are left out when inode marks are flushed.
      using root = openFd(it.root, OpenFlag.rdonly);
      it.group.mark({ directoryFd: root.fd, name: 'file' }, lasting);
      assert.equal(await it.events(it.pread), 0);
      it.group.flush('inode');
      assert.equal(await it.events(it.pread), 1);
      it.group.flush('filesystem');
      assert.equal(await it.events(it.pread), 0);
    },
  );

  test(
    `${type}: a private mount with an ignore mark is the way past one's own marks`,
    { skip },
    async () => {
      await using it = await bench(type);
      it.group.mark(it.root, everything);
      using tree = cloneMount(it.root);
      changeMount(tree.fd, { propagation: 'private' });
      // O_PATH descriptors cannot be marked: the root of the mount is opened.
      assert.equal(it.group.tryMark(tree.fd, everything), -Errno.EBADF);
      using root = openFd('.', OpenFlag.rdonly | OpenFlag.directory, 0, tree.fd);
      it.group.mark(root.fd, { ...lasting, on: 'mount' });

      // This process answers nobody meanwhile: one event, and it would wait for itself.
      const text = new Uint8Array(Buffer.from('content'));
      {
        using file = openFd('file', OpenFlag.rdwr, 0, root.fd);
        assert.equal(pwrite(file.fd, text, 8192), text.length);
        const { handle } = handleOf(file.fd);
        using again = openByHandle(root.fd, handle, OpenFlag.rdwr);
        const back = new Uint8Array(text.length);
        assert.equal(pread(again.fd, back, 8192), text.length);
        assert.deepEqual(back, text);
        if (type === 'xfs') {
          using invisible = openXfsHandle(root.fd, xfsHandleOf(file.fd), OpenFlag.rdwr);
          assert.equal(pwrite(invisible.fd, text, 0), text.length);
        }
      }
      const listener = new Listener(it.group);
      listener.poll();
      assert.deepEqual(listener.events, [], 'nothing was asked');
      const shown = await it.events(it.pread);
      assert.equal(shown, 1, 'all other ways are still asked');
    },
  );
}

test(
  'marks of a mount miss copies of it in other namespaces; marks of the file system do not',
  { skip },
  async () => {
    await using it = await bench('ext4');
    const unshared = (): Promise<Touched> => touchUnshared(it.program, 'pread', it.file, 0, 10);
    const onMount: Mark = { on: 'mount', events: FanEvent.preAccess };
    it.group.mark(it.root, onMount);
    assert.equal(await it.events(it.pread), 1);
    assert.equal(await it.events(unshared), 0);
    it.group.unmark(it.root, onMount);
    it.group.mark(it.root, everything);
    assert.equal(await it.events(unshared), 1);
  },
);

test(
  'another mount of the tree, put over a directory, is covered like the first',
  { skip },
  async () => {
    await using it = await bench('xfs');
    await using place = await temporaryDirectory('fanotify-place');
    it.group.mark(it.root, everything);
    using tree = cloneMount(it.root);
    attachMount(tree.fd, place.path);
    const there = path.join(place.path, 'file');
    assert.equal(await it.events(() => touch(it.program, 'pread', there, 0, 10)), 1);
  },
);

test(
  'a read-only bind mount: asked with descriptors for reading, denied with those for writing',
  { skip },
  async () => {
    await using it = await bench('ext4');
    await using place = await temporaryDirectory('fanotify-ro');
    mount({ source: it.root, target: place.path, flags: MountFlag.bind });
    changeMount(place.path, { set: 1 });
    const read = (): Promise<Touched> =>
      touch(it.program, 'pread', path.join(place.path, 'file'), 0, 10);
    it.group.mark(it.root, everything);
    assert.equal(await it.events(read), 1);
    it.group.unmark(it.root, everything);

    for (const reportFdError of [true, false]) {
      using writing = Group.create({
        class: 'preContent',
        eventFlags: OpenFlag.rdwr,
        reportFdError,
      });
      writing.mark(it.root, everything);
      const listener = new Listener(writing);
      const { result, errno } = await listener.during(read());
      assert.deepEqual([result, errno], [-1, Errno.EPERM]);
      if (!reportFdError) continue;
      assert.deepEqual(
        listener.troubles.map((trouble) => [trouble.kind, trouble.errno]),
        [['noDescriptor', Errno.EROFS]],
      );
      assert.equal((await listener.during(it.pread())).errno, 0, 'the mount that can be written');
    }
  },
);

test('overlayfs: reads of a lower layer are asked for, mappings are not', { skip }, async () => {
  await using it = await bench('xfs');
  await using place = await temporaryDirectory('fanotify-overlay');
  const at = (name: string): string => path.join(place.path, name);
  mount({ source: 'none', target: place.path, type: 'tmpfs' });
  for (const name of ['upper', 'work', 'merged']) mkdirSync(at(name));
  const data = `lowerdir=${it.root},upperdir=${at('upper')},workdir=${at('work')}`;
  mount({ source: 'none', target: at('merged'), type: 'overlay', data });
  it.group.mark(it.root, everything);
  const file = path.join(at('merged'), 'file');
  assert.equal(await it.events(() => touch(it.program, 'pread', file, 0, 10)), 1);
  assert.equal(await it.events(() => touch(it.program, 'map-private', file, 0, 4096)), 0);
  assert.equal(it.group.tryMark(at('merged'), everything), -Errno.EOPNOTSUPP);
});

test('files are guarded by what was marked when they were opened', { skip }, async () => {
  await using it = await bench('btrfs');
  {
    using early = await hold(it.program, it.file, 0, 10);
    it.group.mark(it.root, everything);
    const listener = new Listener(it.group);
    assert.deepEqual(await listener.during(early.read()), { result: 10, errno: 0, nonzero: 0 });
    assert.deepEqual(listener.events, [], 'opened before there was any mark: never asked');
  }
  it.group.mark(it.file, lasting);
  using ignoring = await hold(it.program, it.file, 0, 10);
  it.group.unmark(it.file, lasting);
  const listener = new Listener(it.group, (event) => event.deny('EIO'));
  assert.equal((await listener.during(ignoring.read())).errno, Errno.EIO);
});

test('what cannot be marked says so', { skip }, async () => {
  await using it = await bench('ext4');
  using group = Group.create({ class: 'content' });
  const cases: readonly [Group, string, Mark, number][] = [
    [
      it.group,
      it.root,
      { ...everything, events: FanEvent.preAccess | FanEvent.onDirectory },
      Errno.EINVAL,
    ],
    [group, it.root, everything, Errno.EINVAL],
    [it.group, path.join(it.root, 'gone'), everything, Errno.ENOENT],
    [it.group, it.root, { ...ignored, on: 'filesystem' }, Errno.EINVAL],
    [it.group, '/proc', everything, Errno.EOPNOTSUPP],
  ];
  for (const [of, target, mark, errno] of cases) {
    assert.equal(of.tryMark(target, mark), -errno, `${target} ${JSON.stringify(mark)}`);
    assert.throws(() => of.mark(target, mark), { errno });
  }
  assert.throws(() => Group.create({ class: 'preContent', reportNames: true }), { code: 'EINVAL' });
});
