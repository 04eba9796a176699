/** Inodes of ext4 as the kernel wants to hear of them. */
import type { Attributes, Entry } from '../../fuse/filesystem.ts';
import { rootNodeId } from '../../fuse/constants.ts';
import type { Inode } from '../../ext4/volume.ts';

/** Nothing changes in a mounted image. */
export const timeoutMs = 3_600_000;
const rootInode = 2;

/** FUSE's root is 1, ext4's is 2; all other numbers are the same. ext4's inode 1 has no name. */
export function nodeIdOf(inode: Inode): number {
  return inode.number === rootInode ? rootNodeId : inode.number;
}

export function inodeNumberOf(nodeId: number): number {
  return nodeId === rootNodeId ? rootInode : nodeId;
}

/** new_encode_dev() of the kernel. */
function deviceNumber({ device }: Inode): number {
  if (device === undefined) return 0;
  const { major, minor } = device;
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

export function attributesOf(inode: Inode, blockSizeBytes: number): Attributes {
  return {
    ino: inode.number,
    sizeBytes: inode.sizeBytes,
    blocks: inode.allocatedSectors,
    atimeSeconds: inode.accessTime.seconds,
    atimeNanoseconds: inode.accessTime.nanoseconds,
    mtimeSeconds: inode.modificationTime.seconds,
    mtimeNanoseconds: inode.modificationTime.nanoseconds,
    ctimeSeconds: inode.changeTime.seconds,
    ctimeNanoseconds: inode.changeTime.nanoseconds,
    mode: inode.mode,
    nlink: inode.linkCount,
    uid: inode.uid,
    gid: inode.gid,
    rdev: deviceNumber(inode),
    blockSizeBytes,
  };
}

export function entryOf(inode: Inode, blockSizeBytes: number): Entry {
  const nodeId = nodeIdOf(inode);
  return {
    nodeId,
    generation: nodeId === rootNodeId ? 0 : inode.generation,
    entryTimeoutMs: timeoutMs,
    attributeTimeoutMs: timeoutMs,
    attributes: attributesOf(inode, blockSizeBytes),
  };
}
