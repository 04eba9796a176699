/**
 * File systems of every form, and journals of every kind, in every way in which an image is looked at: names, facts,
 * extended attributes, ACLs, bytes, holes and link counts are those of the kernel's own driver; of forms that it does
 * not mount here, those that went in. EBB_IMAGE_FORMS=all: all of them (a quarter of an hour), or a part of a name;
 * else one. Needs root.
 */
import assert from 'node:assert/strict';
import { chmod } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { openVolume } from '../../src/ext4/volume.ts';
import { copyOf, dirtyImage, Shutdown } from '../ext4/support/dirty.ts';
import type { DirtyOptions } from '../ext4/support/dirty.ts';
import { openImage } from '../ext4/support/images.ts';
import { formImage, forms, makeSource } from '../ext4/support/mke2fs-forms.ts';
import { profileImage, profiles } from '../ext4/support/profiles.ts';
import { assertSame, manifest, mountImage, withoutFacts } from '../image/fixture.ts';
import type { ManifestLine } from '../image/fixture.ts';
import { mountRemote, serveImages } from '../image/remote-fixture.ts';
import { openFuseToEverybody } from '../support/fuse-device.ts';
import { loopMount } from '../support/loop-mount.ts';
import type { LoopMountOptions } from '../support/loop-mount.ts';
import { run, runOk } from '../support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';

const asked = process.env['EBB_IMAGE_FORMS'];
const wanted = asked ?? 'ext3';
const patient = { timeoutMs: 600_000 };
const launcher = path.join(import.meta.dirname, '../../ebb');
const nobody = { uid: 65_534, gid: 65_534 };
const mebibyte = 1024 * 1024;
/** Files are read whole, in each way anew. */
const populated =
  asked === undefined
    ? { farthestBytes: 24 * mebibyte, flatCount: 100 }
    : { farthestBytes: 80 * mebibyte, flatCount: 1500 };
const pageBytes = 4096;
/** EROFS has one time for a file, its own inode numbers, and counts blocks by size. */
const notNative = ['ino', 'ctime', 'blocks'];
/** What a copy has of its own. */
const notCopied = notNative;

interface View {
  readonly lines: readonly ManifestLine[];
  /** Block sizes, blocks, free ones, inodes, free ones, longest name; undefined: nobody knows. */
  readonly statistics?: string;
  /** Facts that are not known. */
  readonly without: readonly string[];
  /** Nothing is known of the root itself. */
  readonly isBelowRoot?: boolean;
}

async function statisticsOf(root: string, user?: typeof nobody): Promise<string> {
  const words = ['--file-system', '--format=%s %S %b %f %a %c %d %l', root];
  return (await runOk('stat', words, user)).stdout.toString();
}

/** As a program sees it; attributes that images do not show are left out. */
async function linesOf(root: string, user?: typeof nobody): Promise<ManifestLine[]> {
  const lines = await manifest(root, [], user, patient.timeoutMs);
  return lines.map((line) => {
    const xattrs = Object.entries(line['xattrs'] ?? {}).filter(
      ([name]) => !name.startsWith('trusted.'),
    );
    return 'xattrs' in line ? { ...line, xattrs: Object.fromEntries(xattrs) } : line;
  });
}

async function kernelView(image: string, options: LoopMountOptions): Promise<View> {
  await using mounted = await loopMount(image, options);
  const { path: root } = mounted;
  return { lines: await linesOf(root), statistics: await statisticsOf(root), without: [] };
}

function assertSeen(seen: readonly ManifestLine[], view: View): void {
  const known = (lines: readonly ManifestLine[]): ManifestLine[] =>
    withoutFacts(
      lines.filter(({ name }) => name !== '' || view.isBelowRoot !== true),
      view.without,
    );
  assertSame(known(seen), known(view.lines));
}

/** What `ebb image cp` makes of it: no special files, no set-id bits. */
function copied(lines: readonly ManifestLine[]): ManifestLine[] {
  return lines.flatMap((line) => {
    const mode = Number.parseInt(String(line['mode']), 8);
    // S_IFMT of stat.h: directory, regular file, symlink.
    if (![0o040000, 0o100000, 0o120000].includes(mode & 0o170000)) return [];
    return [{ ...line, mode: (mode & ~0o6000).toString(8) }];
  });
}

/** EROFS counts bytes of a value in 16 bits; shown are hexadecimal digits. */
function hasLargestXattr({ xattrs }: ManifestLine): boolean {
  return Object.values(xattrs ?? {}).some((value) => String(value).length > 2 * 0xffff);
}

/** `isReplayed`: the blocks are not simply in the file. */
async function inEveryWay(
  t: TestContext,
  image: string,
  view: View,
  isReplayed = false,
): Promise<void> {
  assert.ok(view.lines.length > 50);
  await chmod(path.dirname(image), 0o755);
  await chmod(image, 0o644);
  const checkStatistics = async (root: string, user?: typeof nobody): Promise<void> => {
    if (view.statistics !== undefined)
      assert.equal(await statisticsOf(root, user), view.statistics);
  };

  await t.test('mounted by root', async () => {
    await using mounted = await mountImage({ path: image });
    assertSeen(await linesOf(mounted.path), view);
    await checkStatistics(mounted.path);
  });

  await t.test('mounted natively', async () => {
    if (isReplayed || view.lines.some(hasLargestXattr)) {
      await assert.rejects(mountImage({ path: image }, 'native'), /without -o native/);
      return;
    }
    await using mounted = await mountImage({ path: image }, 'native');
    const without = [...view.without, ...notNative];
    assertSeen(await linesOf(mounted.path), { ...view, without });
  });

  await t.test('mounted by an ordinary user', async () => {
    await openFuseToEverybody();
    await using mounted = await mountImage({ path: image }, '', nobody);
    const seen = await linesOf(mounted.path, nobody);
    // What the modes in the image do not let him read, he cannot read.
    const readable = seen.filter((line) => line['error'] === undefined);
    assert.ok(readable.length > view.lines.length / 2);
    assert.ok(seen.every(({ error }) => error === undefined || error === 'EACCES'));
    const names = new Set(readable.map(({ name }) => name));
    const lines = view.lines.filter(({ name }) => names.has(name));
    assertSeen(readable, { ...view, lines });
    await checkStatistics(mounted.path, nobody);
  });

  await t.test('on a web server', async () => {
    await using origin = await serveImages(path.dirname(image));
    const url = `${origin.url}${path.basename(image)}`;
    const cache = path.join(path.dirname(image), 'cache');
    // Cold, and with most of it here.
    for (let mounts = 0; mounts < 2; mounts += 1) {
      await using mounted = await mountRemote({ url, cache });
      assertSeen(await linesOf(mounted.path), view);
      await checkStatistics(mounted.path);
    }
  });

  await t.test('copied out', async () => {
    using device = openImage(image);
    const { blockSizeBytes } = openVolume(device).superblock;
    // With blocks of the same size: what is a hole in one can be one in the other.
    const isSame = blockSizeBytes <= pageBytes;
    const block = String(isSame ? blockSizeBytes : pageBytes);
    await using target = await loopFilesystem({
      type: 'ext4',
      mkfsArguments: ['-b', block, '-O', 'ea_inode', '-N', '16384'],
    });
    const words = ['image', 'cp', image, '/', target.path];
    const { code, stderr } = await run(launcher, words, patient);
    const isComplete = copied(view.lines).length === view.lines.length;
    assert.equal(code, isComplete ? 0 : 3, stderr.toString());
    const without = [...view.without, ...notCopied, ...(isSame ? [] : ['map'])];
    // The directory that they were copied into was there.
    const lines = copied(view.lines);
    assertSeen(await linesOf(target.path), { lines, without, isBelowRoot: true });
  });
}

const isWanted = (name: string): boolean => wanted === 'all' || name.includes(wanted);

for (const profile of profiles.filter(({ name }) => isWanted(name))) {
  test(`${profile.name}: the same in every way of looking at it`, async (t) => {
    await using directory = await temporaryDirectory('forms');
    const image = await profileImage(directory.path, profile, populated);
    await inEveryWay(t, image, await kernelView(image, { mountOptions: 'ro' }));
  });
}

for (const form of forms.filter(({ name }) => wanted === 'all' || wanted === `mke2fs ${name}`)) {
  test(`${form.name}, made by mke2fs: the same in every way of looking at it`, async (t) => {
    await using directory = await temporaryDirectory('forms');
    const source = makeSource(directory.path);
    const image = await formImage(directory.path, form, source);
    // mke2fs keeps whole seconds.
    const without = ['ino', 'ctime', 'blocks', 'map', 'mtime'];
    const view = { lines: await linesOf(source), without, isBelowRoot: true };
    await inEveryWay(t, image, view);
  });
}

/** Names, content, links and what was removed again, in several transactions. */
const load = `
  mkdir -p a/b old many
  for i in $(seq 1 60); do echo "file $i" > many/name-that-is-rather-long-$i; done
  head -c 3000000 /dev/urandom > a/big; ln -s big a/link; ln a/big a/b/other
  setfattr -n user.small -v value a/big; setfacl -m u:1234:rw many/name-that-is-rather-long-55
  sync -f a
  for i in $(seq 1 30); do mkdir old/$i; touch old/$i/x; done
  sync -f a
  rm -r old; mv a/b/other moved; truncate -s 2012345 a/big
  sync -f a
  head -c 1500000 /dev/urandom > reused; mkdir after; echo tail > after/last
  fallocate -p -o 65536 -l 131072 reused || true
  echo late > late; sync late
`;

const journals: readonly (readonly [name: string, options: DirtyOptions])[] = [
  ['a dirty journal, version 3', { load }],
  ['a dirty journal, not flushed', { load, how: Shutdown.noFlushLog }],
  ['a dirty journal without checksums', { load, mkfs: ['-t', 'ext3', '-b', '1024'] }],
  [
    'a dirty journal, version 1',
    { load, mkfs: ['-t', 'ext4', '-O', '^metadata_csum'], mountOptions: 'journal_checksum' },
  ],
  [
    'a dirty journal with asynchronous commits',
    { load, mountOptions: 'data=writeback,journal_async_commit' },
  ],
  ['a dirty journal with data', { load, mountOptions: 'data=journal' }],
  [
    'a dirty journal with fast commits',
    {
      load: `${load}
        sync -f a
        echo fast > fast; sync fast; echo more >> a/big; sync a/big; mv late later; sync later`,
      mkfs: ['-t', 'ext4', '-b', '4096', '-O', 'fast_commit'],
      how: Shutdown.noFlushLog,
    },
  ],
];

for (const [name, options] of journals.filter(([each]) => isWanted(each))) {
  test(`${name}: the same in every way of looking at it`, async (t) => {
    await using directory = await temporaryDirectory('forms');
    const image = await dirtyImage(directory.path, { sizeBytes: 48 * mebibyte, ...options });
    // The kernel replays it, and leaves counts of free blocks to whoever writes next.
    const { lines } = await kernelView(await copyOf(image, 'kernel'), {});
    // Of a directory whose names it replays the kernel makes up the time.
    const isBelowRoot = name.includes('fast commits');
    await inEveryWay(t, image, { lines, without: [], isBelowRoot }, true);
  });
}
