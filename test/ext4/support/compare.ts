/** A volume and the kernel's mount of the same image must say the same, about everything. */
import assert from 'node:assert/strict';
import {
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
} from 'node:fs';
import type { BigIntStats } from 'node:fs';
import { decodeName } from '../../../src/base/name.ts';
import type { Inode, Timestamp, Volume } from '../../../src/ext4/volume.ts';
import { filesystemStatus } from '../../../src/sys/statfs.ts';
import { getXattr, listXattrs } from '../../../src/sys/xattr.ts';
import { fiemap, joined } from './fiemap.ts';
import type { MappedRange } from './fiemap.ts';
import { resolvePath, walkVolume } from './walk.ts';

const wholeFileMaxBytes = 32 * 1024 * 1024;
const windowBytes = 10_000;

export interface Comparison {
  files: number;
  extents: number;
  attributes: number;
  bytes: number;
}

/** `mountPoint`: where the kernel has the image mounted, read only. */
export function compareWithKernel(volume: Volume, mountPoint: string): Comparison {
  const comparison: Comparison = { files: 0, extents: 0, attributes: 0, bytes: 0 };
  const seen = new Map<number, string>();
  const attributed = new Set(volume.attributedInodes() ?? assert.fail('it is clean and small'));
  for (const { path, inode } of walkVolume(volume)) {
    const place = Buffer.from(mountPoint + path, 'latin1');
    const place0 = decodeName(place);
    comparison.files += 1;
    compareStatus(inode, lstatSync(place, { bigint: true }), place0);
    assert.equal(resolvePath(volume, path).number, inode.number, place0);
    if (inode.type === 'directory') {
      const names = readdirSync(place, { encoding: 'buffer' }).map((name) => name.toString('hex'));
      const entries = [...volume.entries(inode, 0)];
      const ours = entries.map(({ name }) => Buffer.from(name).toString('hex'));
      assert.deepEqual(ours.sort(), names.sort(), place0);
      compareCookies(volume, inode);
      const parent = lstatSync(Buffer.concat([place, Buffer.from('/..')]), { bigint: true });
      if (path !== '') assert.equal(volume.parent(inode), Number(parent.ino), place0);
    }
    // What else there is to compare is the same for all names of an inode.
    if (seen.has(inode.number)) continue;
    seen.set(inode.number, path);
    const attributes = compareAttributes(volume, inode, place0);
    if (attributes > 0) assert.ok(attributed.has(inode.number), place0);
    comparison.attributes += attributes;
    if (inode.type === 'symlink') {
      const target = readlinkSync(place, { encoding: 'buffer' });
      assert.ok(target.equals(volume.symlinkTarget(inode)), place0);
    }
    if (inode.type === 'file') compareContent(volume, inode, place, comparison);
  }
  compareStatistics(volume, mountPoint);
  return comparison;
}

function nanoseconds({ seconds, nanoseconds }: Timestamp): bigint {
  return BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
}

function compareStatus(inode: Inode, status: BigIntStats, place: string): void {
  const ours = {
    ino: BigInt(inode.number),
    mode: BigInt(inode.mode),
    uid: BigInt(inode.uid),
    gid: BigInt(inode.gid),
    nlink: BigInt(inode.linkCount),
    size: BigInt(inode.sizeBytes),
    blocks: BigInt(inode.allocatedSectors),
    atimeNs: nanoseconds(inode.accessTime),
    mtimeNs: nanoseconds(inode.modificationTime),
    ctimeNs: nanoseconds(inode.changeTime),
    ...(inode.birthTime === undefined ? {} : { birthtimeNs: nanoseconds(inode.birthTime) }),
    rdev: inode.device === undefined ? 0n : makeDevice(inode.device),
  };
  const theirs = Object.fromEntries(
    Object.keys(ours).map((key) => [key, status[key as keyof typeof ours]]),
  );
  assert.deepEqual(ours, theirs, place);
}

/** makedev(3) of glibc. */
function makeDevice({ major, minor }: { major: number; minor: number }): bigint {
  const [high, low] = [BigInt(major), BigInt(minor)];
  return (low & 0xffn) | ((high & 0xfffn) << 8n) | ((low >> 8n) << 20n) | ((high >> 12n) << 44n);
}

/** Listing in pieces, from any cookie, gives what is left of the whole. */
function compareCookies(volume: Volume, directory: Inode): void {
  const entries = [...volume.entries(directory, 0)];
  const step = Math.max(1, Math.floor(entries.length / 7));
  for (let index = 0; index < entries.length; index += step) {
    const cookie = entries[index]!.cookie;
    assert.ok(cookie > 2 && cookie > (entries[index - 1]?.cookie ?? 0), 'cookies rise');
    assert.deepEqual([...volume.entries(directory, cookie)], entries.slice(index + 1));
  }
}

function compareAttributes(volume: Volume, inode: Inode, place: string): number {
  const text = (value: Uint8Array | undefined): string =>
    Buffer.from(value ?? 'none').toString('hex');
  const theirs = listXattrs(place).map((name) => `${name}=${text(getXattr(place, name))}`);
  const ours = volume.xattrs(inode).map(({ name, value }) => `${decodeName(name)}=${text(value)}`);
  assert.deepEqual(ours.sort(), theirs.sort(), place);
  return ours.length;
}

function compareContent(volume: Volume, inode: Inode, place: Buffer, comparison: Comparison): void {
  const descriptor = openSync(place, constants.O_RDONLY);
  try {
    const { blockSizeBytes } = volume.superblock;
    const ours: MappedRange[] = [...volume.extents(inode, { pastEnd: true })].map((extent) => ({
      logicalBytes: extent.logicalBlock * blockSizeBytes,
      physicalBytes: extent.physicalBlock * blockSizeBytes,
      lengthBytes: extent.blockCount * blockSizeBytes,
      unwritten: extent.unwritten,
    }));
    const ranges = joined(ours);
    assert.deepEqual(ranges, fiemap(descriptor), place.toString());
    comparison.extents += ranges.length;
    for (const [offset, size] of windows(inode.sizeBytes, ranges)) {
      const theirs = Buffer.alloc(size, 1);
      const read = Buffer.alloc(size, 2);
      const theirCount = readSync(descriptor, theirs, 0, size, offset);
      assert.equal(volume.read(inode, offset, read), theirCount, place.toString());
      assert.ok(
        theirs.subarray(0, theirCount).equals(read.subarray(0, theirCount)),
        place.toString(),
      );
      comparison.bytes += theirCount;
    }
  } finally {
    closeSync(descriptor);
  }
}

/** All of a file; of a large one the edges of what is mapped. */
function* windows(sizeBytes: number, ranges: readonly MappedRange[]): Generator<[number, number]> {
  if (sizeBytes <= wholeFileMaxBytes) yield [0, sizeBytes + 10];
  for (const { logicalBytes, lengthBytes } of ranges.slice(0, 40)) {
    for (const edge of [logicalBytes, logicalBytes + lengthBytes]) {
      yield [Math.max(0, edge - windowBytes / 2), windowBytes];
    }
  }
  yield [Math.floor(sizeBytes / 2), windowBytes];
  yield [Math.max(0, sizeBytes - 5), windowBytes];
  yield [sizeBytes, windowBytes];
}

function compareStatistics(volume: Volume, mountPoint: string): void {
  const ours = volume.statfs();
  const theirs = filesystemStatus(mountPoint);
  const size = ours.blockSizeBytes;
  assert.deepEqual(
    {
      blockSizeBytes: size,
      totalBytes: ours.blocks * size,
      freeBytes: ours.freeBlocks * size,
      availableBytes: ours.availableBlocks * size,
      files: ours.inodes,
      filesFree: ours.freeInodes,
    },
    {
      blockSizeBytes: theirs.blockSizeBytes,
      totalBytes: theirs.totalBytes,
      freeBytes: theirs.freeBytes,
      availableBytes: theirs.availableBytes,
      files: theirs.files,
      filesFree: theirs.filesFree,
    },
  );
}
