/**
 * A tree seen from elsewhere: as a layer of an overlay, through bind mounts, from a namespace of its own, by handle;
 * and a tree inside of a btrfs subvolume. Each way has cold files of its own.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { before, after, describe, test } from 'node:test';
import { AttachedTree, treeFilesystems } from '../support/attached-tree.ts';
import { compareFiles } from '../support/compare.ts';
import { CorpusWriter, mebibyte } from '../support/corpus.ts';
import { killGroup, run, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';

const ways = [
  'read',
  'mapped',
  'copied-up',
  'bound',
  'apart',
  'handle',
  'looped',
  'subvolume',
] as const;
/** Below and above what is brought whole at open anyway. */
const sizes = { small: 5_000, large: 3 * mebibyte + 77 };
const namesOf = (way: (typeof ways)[number]): string[] =>
  Object.keys(sizes).map((size) => `${way}/${size}`);

let directory: TemporaryDirectory;
let source: string;

before(async () => {
  directory = await temporaryDirectory('native-places');
  source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  for (const way of ways) {
    for (const [size, bytes] of Object.entries(sizes)) writer.bytes(`${way}/${size}`, bytes);
  }
  await runOk('cp', ['/bin/true', path.join(source, 'program')]);
  // Larger than what is brought whole because it can be executed.
  await runOk('truncate', ['-s', String(65 * mebibyte), path.join(source, 'program')]);
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

async function assertSame(tree: string, names: readonly string[]): Promise<void> {
  const bad = (await compareFiles(tree, source, names)).filter(
    ({ errno, wrong }) => errno !== 0 || wrong !== -1,
  );
  assert.deepEqual(bad, []);
}

/** In a shell whose first parameter is a place, with $SOURCE. */
async function shellOk(
  place: string,
  script: string,
  names: readonly string[] = [],
): Promise<void> {
  const { code, stderr, stdout } = await run('/bin/sh', ['-ec', script, place, ...names], {
    timeoutMs: 60_000,
    env: { SOURCE: source },
  });
  assert.equal(code, 0, `${script}\n${stdout.toString()}${stderr.toString()}`);
}

const compareMapped = `python3 - "$0" "$SOURCE" "$@" <<'END'
import mmap, os, sys
tree, source, *names = sys.argv[1:]
for name in names:
    with open(os.path.join(tree, name), "rb") as ours, open(os.path.join(source, name), "rb") as theirs:
        with mmap.mmap(ours.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            if mapped[:] != theirs.read():
                sys.exit(f"{name} is mapped wrong")
END`;

/** As the NFS server does: name_to_handle_at(2) here, open_by_handle_at(2) there. */
const compareByHandle = `python3 - "$0" "$SOURCE" "$@" <<'END'
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Handle(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint), ("type", ctypes.c_int), ("bytes", ctypes.c_char * 128)]
tree, source, *names = sys.argv[1:]
root = os.open(tree, os.O_RDONLY)
for name in names:
    handle, mount = Handle(128, 0), ctypes.c_int()
    if libc.name_to_handle_at(root, name.encode(), ctypes.byref(handle), ctypes.byref(mount), 0) != 0:
        sys.exit(f"{name}: no handle: {ctypes.get_errno()}")
    ours = libc.open_by_handle_at(root, ctypes.byref(handle), os.O_RDONLY)
    if ours < 0:
        sys.exit(f"{name}: not opened: {ctypes.get_errno()}")
    with open(os.path.join(source, name), "rb") as theirs:
        if os.pread(ours, 1 << 23, 0) != theirs.read():
            sys.exit(f"{name} is read wrong")
END`;

/** The kernel reads the file of a loop device without asking anybody. A free one may be taken by somebody quicker. */
const compareLooped = `
size=$(stat -c %s "$SOURCE/$1")
for try in 1 2 3 4 5 6 7 8 9; do device=$(losetup --find --show --read-only "$0/$1") && break; sleep 0.1; done
trap 'losetup --detach "$device"' EXIT
cmp -n $((size / 512 * 512)) "$device" "$SOURCE/$1"`;

for (const type of treeFilesystems) {
  describe(`a tree on ${type}`, { timeout: 900_000 }, () => {
    test('as the lower layer of an overlay: read, mapped, executed and copied up', async () => {
      await using tree = await AttachedTree.attach({ type, remote: source });
      await using scratch = await temporaryDirectory('overlay');
      const [upper, work, merged] = ['upper', 'work', 'merged'].map((name) =>
        path.join(scratch.path, name),
      ) as [string, string, string];
      for (const made of [upper, work, merged]) await mkdir(made);
      const layers = `lowerdir=${tree.path},upperdir=${upper},workdir=${work}`;
      await runOk('mount', ['-t', 'overlay', 'overlay', '-o', layers, merged]);
      await assertSame(merged, namesOf('read'));
      await shellOk(merged, compareMapped, namesOf('mapped'));
      await shellOk(merged, '"$0/program"');
      const append =
        'for f; do printf more >> "$0/$f"; { cat "$SOURCE/$f"; printf more; } | cmp - "$0/$f"; done';
      await shellOk(merged, append, namesOf('copied-up'));
      await runOk('umount', [merged]);
      await assertSame(tree.path, namesOf('copied-up'));
    });

    test('through a read-only bind mount, in a private mount namespace, by handle, as a loop device', async () => {
      await using tree = await AttachedTree.attach({ type, remote: source });
      await using scratch = await temporaryDirectory('bound');
      const bound = path.join(scratch.path, 'bound');
      await mkdir(bound);
      await runOk('mount', ['--bind', '-o', 'ro', tree.path, bound]);
      await assertSame(bound, namesOf('bound'));
      await runOk('umount', [bound]);
      const apart = `exec unshare --mount --propagation private /bin/sh -ec '
        mkdir "$BOUND/there"; mount --rbind "$0" "$BOUND/there"; umount "$0"
        for f; do cmp "$BOUND/there/$f" "$SOURCE/$f"; done' "$0" "$@"`;
      await shellOk(tree.path, `export BOUND='${bound}'; ${apart}`, namesOf('apart'));
      await shellOk(tree.path, compareByHandle, namesOf('handle'));
      await shellOk(tree.path, compareLooped, ['looped/large']);
    });

    test('a copy in another mount namespace counts as a user', async () => {
      await using tree = await AttachedTree.attach({ type, remote: source });
      const child = spawn(
        'unshare',
        ['-m', '--propagation', 'private', 'sh', '-c', 'echo ready; sleep 600'],
        {
          stdio: ['ignore', 'pipe', 'inherit'],
          detached: true,
        },
      );
      try {
        const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
        assert.equal((await lines.next()).value, 'ready');
        const busy = await tree.ebb(['umount', tree.path]);
        assert.equal(busy.code, 3, busy.stderr.toString());
        assert.match(busy.stderr.toString(), /in another mount namespace/);
      } finally {
        const ended = once(child, 'exit');
        killGroup(child);
        await ended;
      }
      await tree.stop();
    });
  });
}

test('inside of a btrfs subvolume: served, renamed, written, released, copied to other subvolumes', async () => {
  await using tree = await AttachedTree.attach({
    type: 'btrfs',
    remote: source,
    subvolume: true,
  });
  await assertSame(tree.path, namesOf('subvolume'));
  await shellOk(
    tree.path,
    `cd "$0"; mv read/large moved; ln moved linked; cmp linked "$SOURCE/read/large"
     printf more >> mapped/large; { cat "$SOURCE/mapped/large"; printf more; } | cmp - mapped/large
     if ln bound/large ../linked 2>/dev/null; then exit 1; fi
     mv bound/large ..; cmp ../large "$SOURCE/bound/large"
     btrfs subvolume create inner >/dev/null; mv bound/small inner; cmp inner/small "$SOURCE/bound/small"`,
  );
  await tree.ebbOk(['release', path.join(tree.path, 'subvolume')]);
  await assertSame(tree.path, namesOf('subvolume'));
  // All of it is here: that it is written to is noticed afterwards.
  await shellOk(tree.path, 'printf more >> "$0/linked"');
  const listed = await tree.ebbOk(['ls', path.join(tree.path, 'linked')]);
  assert.match(listed.stdout.toString(), /^DIR /);
  await tree.stop();
  // Nothing in it is known by its inode: what stands in for content would be read as data.
  await shellOk(tree.path, 'btrfs subvolume snapshot "$0" "$0-snapshot"');
  const copied = await tree.ebb([
    'attach',
    '--state',
    tree.stateDirectory,
    `${tree.path}-snapshot`,
    source,
  ]);
  assert.equal(copied.code, 3);
  assert.match(copied.stderr.toString(), /is a copy of a tree/);
  await tree.attach();
  await assertSame(tree.path, [...namesOf('subvolume'), ...namesOf('apart')]);
  await shellOk(
    tree.path,
    '{ cat "$SOURCE/read/large"; printf more; } | cmp - "$0/linked"; cmp "$0/inner/small" "$SOURCE/bound/small"',
  );
  await tree.ebbUnshared(['detach', '--recall', tree.path], { timeoutMs: 120_000 });
});
