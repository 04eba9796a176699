/**
 * What an EROFS map is made of: plain facts, checked here before anything is made of them. They come
 * from a process that has read an untrusted image, so nothing is believed: what passes `checkTree`
 * can be written down and given to the kernel, whatever that process has become.
 */
import { ebbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';

/** A run of a file's bytes in the image; what lies between two runs reads as zeros. */
export interface PlainExtent {
  readonly fileOffsetBytes: number;
  readonly imageOffsetBytes: number;
  readonly lengthBytes: number;
}

export interface PlainXattr {
  /** `user.NAME`, `system.posix_acl_access` or `system.posix_acl_default`. */
  readonly name: Uint8Array;
  readonly value: Uint8Array;
}

export interface PlainEntry {
  readonly name: Uint8Array;
  /** Index into the tree's nodes. */
  readonly node: number;
}

export type PlainContent =
  | { readonly kind: 'file'; readonly sizeBytes: number; readonly extents: readonly PlainExtent[] }
  /** A file whose bytes are in the map itself. */
  | { readonly kind: 'inline'; readonly bytes: Uint8Array }
  | { readonly kind: 'directory'; readonly entries: readonly PlainEntry[] }
  | { readonly kind: 'symlink'; readonly target: Uint8Array }
  | { readonly kind: 'character' | 'block'; readonly major: number; readonly minor: number }
  | { readonly kind: 'fifo' | 'socket' };

export interface PlainNode {
  /** 07777: the type is the content's kind. */
  readonly permissions: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  readonly xattrs: readonly PlainXattr[];
  readonly content: PlainContent;
}

/** Where file data may lie. */
export interface ImageArea {
  /** Unit of addresses and of all extents: 512 .. 4096 bytes, a power of two. */
  readonly blockBytes: number;
  /** First byte of the file system in the image file; a multiple of the block. */
  readonly startBytes: number;
  /** One past its last byte. */
  readonly endBytes: number;
}

const mapBlockMinimumBytes = 512;
/** EROFS takes no blocks above the page. */
const mapBlockMaximumBytes = 4096;

/**
 * The largest blocks in which a map can express the places of a file system with such blocks, which begins at
 * `startBytes` of the image. undefined when that is less than 512 bytes.
 */
export function mapBlockBytes(
  filesystemBlockBytes: number,
  startBytes: number,
): number | undefined {
  let blockBytes = mapBlockMaximumBytes;
  while (blockBytes > filesystemBlockBytes || startBytes % blockBytes !== 0) {
    blockBytes /= 2;
    if (!(blockBytes >= mapBlockMinimumBytes)) return undefined;
  }
  return blockBytes;
}

/** A million files, and the directories that they are in. */
export const treeNodesMax = 1_048_576;
export const fileExtentsMax = 1_000_000;
/** A page, as kernel and ext4 have it for symlinks; inline files are smaller than any block. */
export const inlineContentMaxBytes = 65_536;
const symlinkMaxBytes = 4095;
const nameMaxBytes = 255;
const xattrValueMaxBytes = 65_535;
/** All of one inode: i_xattr_icount counts words in 16 bits. */
const xattrsMaxBytes = 4 * 65_000;
/** The last block of the kernel's page cache (MAX_LFS_FILESIZE) is far above 2^53. */
const fileSizeMaxBytes = Number.MAX_SAFE_INTEGER;
const u32Max = 0xffff_ffff;

function refused(what: string): EbbError {
  return ebbError('EUCLEAN', `The map of the image is refused: ${what}.`);
}

function need(condition: boolean, what: string): void {
  if (!condition) throw refused(what);
}

function isCount(value: number, maximum: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && value <= maximum;
}

/**
 * Throws EUCLEAN unless every extent lies inside of the area and of the file, on block boundaries,
 * rising in the file and without overlap there.
 */
export function checkExtents(
  extents: readonly PlainExtent[],
  sizeBytes: number,
  area: ImageArea,
): void {
  need(isCount(sizeBytes, fileSizeMaxBytes - area.blockBytes), 'a file has no possible size');
  need(extents.length <= fileExtentsMax, 'a file has too many extents');
  const fileEndBytes = Math.ceil(sizeBytes / area.blockBytes) * area.blockBytes;
  let before = 0;
  for (const { fileOffsetBytes, imageOffsetBytes, lengthBytes } of extents) {
    for (const value of [fileOffsetBytes, imageOffsetBytes, lengthBytes]) {
      need(isCount(value, fileSizeMaxBytes), 'an extent has no possible place');
      need(value % area.blockBytes === 0, 'an extent is not on block boundaries');
    }
    need(lengthBytes > 0, 'an extent is empty');
    need(fileOffsetBytes >= before, 'extents overlap or are not in order');
    before = fileOffsetBytes + lengthBytes;
    need(before <= fileEndBytes, 'an extent goes on after the end of its file');
    need(imageOffsetBytes >= area.startBytes, 'an extent lies outside of the image');
    need(imageOffsetBytes + lengthBytes <= area.endBytes, 'an extent lies outside of the image');
    // All of it: an address is one number of 32 bits for each chunk, and the largest means a hole.
    const endBlock = (imageOffsetBytes + lengthBytes) / area.blockBytes;
    need(endBlock <= u32Max, 'an extent lies too far back in the image');
  }
}

function checkName(name: Uint8Array): void {
  need(name.length > 0 && name.length <= nameMaxBytes, 'a name is empty or too long');
  need(!name.includes(0) && !name.includes(0x2f), 'a name contains "/" or NUL');
  const isDot = name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
  need(!isDot, 'a name is "." or ".."');
}

function checkContent(content: PlainContent, area: ImageArea): void {
  switch (content.kind) {
    case 'file':
      return checkExtents(content.extents, content.sizeBytes, area);
    case 'inline':
      return need(content.bytes.length <= inlineContentMaxBytes, 'an inline file is too large');
    case 'symlink':
      need(content.target.length > 0, 'a symlink is empty');
      need(content.target.length <= symlinkMaxBytes, 'a symlink is too long');
      return need(!content.target.includes(0), 'a symlink contains NUL');
    case 'character':
    case 'block':
      return need(
        isCount(content.major, 0xfff) && isCount(content.minor, 0xf_ffff),
        'a device has no possible number',
      );
    case 'directory':
      return content.entries.forEach((entry) => checkName(entry.name));
    default:
      return undefined;
  }
}

const xattrNames = /^(user\.[^]+|system\.posix_acl_access|system\.posix_acl_default)$/;

/** Whether an inode of EROFS can hold them. */
export function xattrsFit(xattrs: readonly PlainXattr[]): boolean {
  let total = 12;
  for (const { name, value } of xattrs) {
    if (value.length > xattrValueMaxBytes) return false;
    total += 8 + name.length + value.length;
  }
  return total <= xattrsMaxBytes;
}

function checkXattrs(xattrs: readonly PlainXattr[]): void {
  const seen = new Set<string>();
  for (const { name } of xattrs) {
    const text = Buffer.from(name).toString('latin1');
    need(name.length <= nameMaxBytes && xattrNames.test(text), 'an attribute has a wrong name');
    need(!name.includes(0), 'an attribute has a wrong name');
    need(!seen.has(text), 'an attribute is there twice');
    seen.add(text);
  }
  need(xattrsFit(xattrs), 'the attributes of a file are too large');
}

function checkNode(node: PlainNode, area: ImageArea): void {
  need(isCount(node.permissions, 0o7777), 'a mode is impossible');
  need(isCount(node.uid, u32Max) && isCount(node.gid, u32Max), 'an owner is impossible');
  need(Number.isSafeInteger(node.mtimeSeconds), 'a time is impossible');
  need(isCount(node.mtimeNanoseconds, 999_999_999), 'a time is impossible');
  checkXattrs(node.xattrs);
  checkContent(node.content, area);
}

/**
 * Throws EUCLEAN unless the nodes are one tree below `nodes[0]`: a directory comes before what it
 * contains and is named once; names are unique. Returns how many entries name each node, "." and
 * ".." included.
 */
export function checkTree(nodes: readonly PlainNode[], area: ImageArea): Uint32Array {
  need(nodes.length <= treeNodesMax, `it has more than ${treeNodesMax} files`);
  need(nodes[0]?.content.kind === 'directory', 'it has no root directory');
  const links = new Uint32Array(nodes.length);
  const named = new Uint8Array(nodes.length);
  named[0] = 1;
  for (const [index, node] of nodes.entries()) {
    checkNode(node, area);
    if (node.content.kind !== 'directory') continue;
    links[index] = (links[index] ?? 0) + 2;
    const names = new Set<string>();
    for (const { name, node: child } of node.content.entries) {
      const target = nodes[child];
      if (target === undefined) throw refused('an entry names nothing');
      const isDirectory = target.content.kind === 'directory';
      need(!isDirectory || child > index, 'a directory is not below its parent');
      need(!isDirectory || named[child] === 0, 'a directory has two names');
      named[child] = 1;
      const counted = isDirectory ? index : child;
      links[counted] = (links[counted] ?? 0) + 1;
      const text = Buffer.from(name).toString('latin1');
      need(!names.has(text), 'a name is there twice');
      names.add(text);
    }
  }
  need(named.indexOf(0) < 0, 'a file has no name');
  return links;
}
