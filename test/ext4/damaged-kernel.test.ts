/**
 * Damaged images, mounted read-only by the kernel and read by Ebb: where both read something, it is the same. Either
 * may refuse what the other reads. EBB_KERNEL_FUZZ: how many images (none without it: a kernel may crash of them),
 * EBB_SEED: from which one on. Needs root, and mounts that nobody else has a copy of: `unshare --mount node ...`.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { ebbError, EbbError } from '../../src/base/errors.ts';
import { decodeName } from '../../src/base/name.ts';
import { memoryDevice } from '../../src/ext4/block-device.ts';
import { openVolume } from '../../src/ext4/volume.ts';
import type { Inode, Timestamp, Volume } from '../../src/ext4/volume.ts';
import { mount, MountFlag, unmount } from '../../src/sys/mount.ts';
import { getXattr, listXattrs } from '../../src/sys/xattr.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { makeSmallTree, makeSubject, subjects } from './support/fuzz-subjects.ts';
import { Dice, findTargets, Mutator } from './support/mutate.ts';
import { Resealer } from './support/reseal.ts';

const images = Number(process.env['EBB_KERNEL_FUZZ'] ?? 0);
const first = Number(process.env['EBB_SEED'] ?? 1);
/** Kernels without tables of characters do not mount what folds case; what is encrypted nobody reads. */
const mountable = subjects.filter(({ name }) => !/^(casefold|encrypt)/.test(name));
const entriesMax = 400;
const depthMax = 8;
const extentsMax = 60;

type Answer<Value> = { readonly value: Value } | { readonly code: string };

function answer<Value>(question: () => Value): Answer<Value> {
  try {
    return { value: question() };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined || (!(error instanceof EbbError) && code.startsWith('ERR'))) throw error;
    return { code };
  }
}

/** What was compared. Names that only one of both lists are no difference: each leaves out other damage. */
class Comparison {
  equal = 0;
  readonly differences: string[] = [];

  compare(what: string, here: Answer<unknown>, there: Answer<unknown>): void {
    if (!('value' in here && 'value' in there)) return;
    const [ours, theirs] = [here.value, there.value].map((value) => JSON.stringify(value));
    if (ours === theirs) this.equal += 1;
    else
      this.differences.push(`${what}: ${ours?.slice(0, 500)} here, ${theirs?.slice(0, 500)} there`);
  }

  compareTrees(volume: Volume, point: string): void {
    const root = answer(() => volume.root());
    if ('code' in root) return;
    const pending = [{ inode: root.value, at: '', depth: 0 }];
    for (let count = 0; count < entriesMax; count += 1) {
      const next = pending.pop();
      if (next === undefined) return;
      const { inode, at, depth } = next;
      const place = Buffer.from(point + at, 'latin1');
      const here = statusHere(inode);
      const there = answer(() => statusThere(place, here));
      this.compare(`status of ${at}`, { value: here }, there);
      if ('code' in there || there.value['number'] !== inode.number) continue;
      this.compareInode(volume, inode, place, at);
      if (inode.type !== 'directory' || depth === depthMax) continue;
      for (const name of namesOf(volume, inode, place)) {
        const child = answer(() => childOf(volume, inode, name));
        if ('code' in child) continue;
        pending.push({ inode: child.value, at: `${at}/${name}`, depth: depth + 1 });
      }
    }
  }

  compareInode(volume: Volume, inode: Inode, place: Buffer, at: string): void {
    const shown = decodeName(place);
    this.compare(
      `attributes of ${at}`,
      answer(() =>
        volume
          .xattrs(inode)
          .map(({ name, value }) => `${decodeName(name)}=${hex(value)}`)
          .sort(),
      ),
      answer(() =>
        listXattrs(shown)
          .map((name) => `${name}=${hex(getXattr(shown, name))}`)
          .sort(),
      ),
    );
    if (inode.type === 'symlink') {
      const target = answer(() => hex(volume.symlinkTarget(inode)));
      this.compare(
        `target of ${at}`,
        target,
        answer(() => hex(readlinkSync(place, { encoding: 'buffer' }))),
      );
    }
    if (inode.type === 'file') this.compareContent(volume, inode, place, at);
  }

  /** Block by block: what both can read of a damaged map. */
  compareContent(volume: Volume, inode: Inode, place: Buffer, at: string): void {
    const opened = answer(() => openSync(place, 'r'));
    if ('code' in opened) return;
    try {
      const { blockSizeBytes } = volume.superblock;
      for (const block of blocksOf(volume, inode)) {
        const read = (from: (into: Buffer, offset: number) => number) => () => {
          const into = Buffer.alloc(blockSizeBytes);
          return hex(into.subarray(0, from(into, block * blockSizeBytes)));
        };
        this.compare(
          `block ${block} of ${at}`,
          answer(read((into, offset) => volume.read(inode, offset, into))),
          answer(read((into, offset) => readSync(opened.value, into, 0, into.length, offset))),
        );
      }
    } finally {
      closeSync(opened.value);
    }
  }
}

function hex(bytes: Uint8Array | undefined): string {
  return Buffer.from(bytes ?? 'none').toString('hex');
}

type Status = Readonly<Record<string, number | string>>;

function statusHere(inode: Inode): Status {
  const { number, mode, uid, gid, linkCount, sizeBytes, allocatedSectors } = inode;
  const times = { modified: timeOf(inode.modificationTime), changed: timeOf(inode.changeTime) };
  return { number, mode, uid, gid, linkCount, sizeBytes, allocatedSectors, ...times };
}

/** Where there are more nanoseconds than a second has, lstat(2) has all of them, and Ebb as many as fit. */
function timeOf({ seconds, nanoseconds }: Timestamp): string {
  return nanoseconds === 999_999_999 ? 'too many nanoseconds' : `${seconds}.${nanoseconds}`;
}

function statusThere(place: Buffer, here: Status): Status {
  const status = lstatSync(place, { bigint: true });
  const { ino, mode, uid, gid, nlink, size, blocks } = status;
  const time = (ns: bigint, other: unknown): string => {
    if (other === 'too many nanoseconds') return other;
    const within = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
    return `${(ns - within) / 1_000_000_000n}.${within}`;
  };
  return {
    number: Number(ino),
    mode: Number(mode),
    uid: Number(uid),
    gid: Number(gid),
    linkCount: Number(nlink),
    sizeBytes: Number(size),
    allocatedSectors: Number(blocks),
    modified: time(status.mtimeNs, here['modified']),
    changed: time(status.ctimeNs, here['changed']),
  };
}

/** Names that one of both lists, a character for each byte. */
function namesOf(volume: Volume, directory: Inode, place: Buffer): Set<string> {
  const ours = answer(() => [...volume.entries(directory, 0)].map(({ name }) => Buffer.from(name)));
  const theirs = answer(() => readdirSync(place, { encoding: 'buffer' }));
  const lists = [ours, theirs].map((list) => ('value' in list ? list.value : []));
  return new Set(lists.flat().map((name) => name.toString('latin1')));
}

function childOf(volume: Volume, directory: Inode, name: string): Inode {
  const entry = volume.lookup(directory, Buffer.from(name, 'latin1'));
  if (entry === undefined) throw ebbError('ENOENT', `${name} is not there`);
  return volume.child(directory, entry);
}

/** The first blocks of a file, the last ones, and those at the edges of its extents. */
function blocksOf(volume: Volume, inode: Inode): Set<number> {
  const count = Math.ceil(inode.sizeBytes / volume.superblock.blockSizeBytes);
  const wanted = [...Array(20).keys(), 268, 269, count >>> 1, count - 2, count - 1];
  const extents = answer(() => [...Iterator.from(volume.extents(inode)).take(extentsMax)]);
  for (const { logicalBlock, blockCount } of 'value' in extents ? extents.value : []) {
    const end = logicalBlock + blockCount;
    wanted.push(logicalBlock - 1, logicalBlock, end - 1, end);
  }
  return new Set(wanted.filter((block) => block >= 0 && block < count));
}

for (const [index, subject] of mountable.entries()) {
  const skip = images === 0;
  test(
    `the kernel reads of damaged images of ${subject.name} what Ebb reads`,
    { skip },
    async (t) => {
      await using scratch = await temporaryDirectory('damaged-kernel');
      const bytes = await makeSubject(scratch.path, await makeSmallTree(scratch.path), subject);
      const sound = memoryDevice(bytes);
      const { blockSizeBytes, features } = openVolume(sound).superblock;
      const resealer = features.has('metadata_csum') ? new Resealer(bytes, sound) : undefined;
      const mutator = new Mutator(bytes, findTargets(bytes, sound), blockSizeBytes);
      const file = path.join(scratch.path, 'damaged');
      const target = path.join(scratch.path, 'mount');
      mkdirSync(target);
      writeFileSync(file, bytes);
      const { stdout } = await runOk('losetup', ['--find', '--show', '--read-only', file]);
      const source = stdout.toString().trim();
      let mounted = 0;
      const comparison = new Comparison();
      try {
        for (let input = first; input < first + images / mountable.length; input += 1) {
          mutator.mutate(new Dice((index * 0x9e3779b1 + input * 0x85ebca6b) >>> 0), resealer);
          writeFileSync(file, bytes, { flag: 'r+' });
          const there = answer(() =>
            mount({ source, target, type: 'ext4', flags: MountFlag.rdonly, data: 'noload' }),
          );
          const here = answer(() => openVolume(memoryDevice(bytes)));
          if ('value' in there) {
            try {
              if ('value' in here) comparison.compareTrees(here.value, target);
            } finally {
              unmount(target);
            }
            mounted += 1;
          }
          assert.deepEqual(comparison.differences, [], `${subject.name}, EBB_SEED=${input}`);
          mutator.undo();
        }
      } finally {
        await runOk('losetup', ['--detach', source]);
      }
      t.diagnostic(`${mounted} mounted, ${comparison.equal} equal`);
      assert.ok(mounted > 0 && comparison.equal > mounted * 100);
    },
  );
}
