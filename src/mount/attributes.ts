/** Catalog rows as the kernel wants to see them. Pure. */
import { NodeKind } from '../catalog/catalog.ts';
import type { Node } from '../catalog/catalog.ts';
import type { Attributes, Entry } from '../fuse/filesystem.ts';

/** S_IFMT values, inode(7). */
const typeBits: Readonly<Record<NodeKind, number>> = {
  [NodeKind.file]: 0o100000,
  [NodeKind.directory]: 0o040000,
  [NodeKind.symlink]: 0o120000,
};

/** st_blksize: programs read in steps of this; one chunk of readahead serves several. */
const preferredIoBytes = 128 * 1024;
const sectorBytes = 512;

export interface AttributeDefaults {
  readonly fileMode: number;
  readonly directoryMode: number;
  readonly uid: number;
  readonly gid: number;
  /** Time shown where the remote keeps none (seconds since 1970). */
  readonly startedAtSeconds: number;
}

export function typeOf(node: Node): number {
  return typeBits[node.kind];
}

/**
 * The attributes of a node. `blocks` always says that all content is there: programs that look for holes
 * (cp, tar -S, grep) would otherwise skip content that is merely not local.
 */
export function attributesOf(node: Node, defaults: AttributeDefaults): Attributes {
  const isDirectory = node.kind === NodeKind.directory;
  const sizeBytes = node.kind === NodeKind.symlink ? (node.target?.length ?? 0) : node.sizeBytes;
  const shownSize = isDirectory ? 4096 : Math.max(0, sizeBytes);
  const permissions =
    node.mode >= 0 ? node.mode : isDirectory ? defaults.directoryMode : defaults.fileMode;
  const unknownTime = node.mtimeNanoseconds < 0;
  const seconds = unknownTime ? defaults.startedAtSeconds : node.mtimeSeconds;
  const nanoseconds = unknownTime ? 0 : node.mtimeNanoseconds;
  return {
    ino: node.id,
    sizeBytes: shownSize,
    blocks: Math.ceil(shownSize / sectorBytes),
    atimeSeconds: seconds,
    atimeNanoseconds: nanoseconds,
    mtimeSeconds: seconds,
    mtimeNanoseconds: nanoseconds,
    ctimeSeconds: seconds,
    ctimeNanoseconds: nanoseconds,
    mode: typeBits[node.kind] | (node.kind === NodeKind.symlink ? 0o777 : permissions),
    // 1 for directories means "not counted" to find(1) and fts(3), as on btrfs.
    nlink: 1,
    uid: node.uid >= 0 ? node.uid : defaults.uid,
    gid: node.gid >= 0 ? node.gid : defaults.gid,
    rdev: 0,
    blockSizeBytes: preferredIoBytes,
  };
}

/** How long the kernel may trust facts confirmed at `confirmedAtMs`. Not at all when the clock was set back since. */
export function remainingMs(confirmedAtMs: number, ttlMs: number, nowMs: number): number {
  return confirmedAtMs > nowMs ? 0 : Math.max(0, confirmedAtMs + ttlMs - nowMs);
}

/** An entry that the kernel may keep for `timeoutMs`; a node id names one version, so attributes keep as long. */
export function entryOf(
  node: Node,
  generation: number,
  defaults: AttributeDefaults,
  timeoutMs: number,
): Entry {
  return {
    nodeId: node.id,
    generation,
    entryTimeoutMs: timeoutMs,
    attributeTimeoutMs: timeoutMs,
    attributes: attributesOf(node, defaults),
  };
}
