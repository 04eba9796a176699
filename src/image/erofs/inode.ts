/** Inodes of EROFS on disk: the extended form (64 bytes) and the attributes behind it. */
import type { PlainContent, PlainNode, PlainXattr } from './plain-node.ts';

export const inodeBytes = 64;
/** A nid counts in these from the start of the metadata. */
export const nidBytes = 32;
const xattrHeaderBytes = 12;

/** i_format: bit 0 extended, bits 1-3 the layout of the data (EROFS_INODE_FLAT_PLAIN, ...). */
export const DataLayout = { flatPlain: 0, flatInline: 2, chunkBased: 4 } as const;
export type DataLayout = (typeof DataLayout)[keyof typeof DataLayout];

const typeBits: Readonly<Record<PlainContent['kind'], number>> = {
  file: 0o100000,
  inline: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  character: 0o020000,
  block: 0o060000,
  fifo: 0o010000,
  socket: 0o140000,
};

/** FT_* of directory entries. */
export const fileTypes: Readonly<Record<PlainContent['kind'], number>> = {
  file: 1,
  inline: 1,
  directory: 2,
  character: 3,
  block: 4,
  fifo: 5,
  socket: 6,
  symlink: 7,
};

/** Attribute names are a number for what they begin with, and the rest. */
const xattrPrefixes: readonly (readonly [prefix: string, index: number])[] = [
  ['user.', 1],
  ['system.posix_acl_access', 2],
  ['system.posix_acl_default', 3],
];

function splitName(name: Uint8Array): { index: number; rest: Uint8Array } {
  const text = Buffer.from(name).toString('latin1');
  for (const [prefix, index] of xattrPrefixes) {
    if (text.startsWith(prefix)) return { index, rest: name.subarray(prefix.length) };
  }
  return { index: 1, rest: name };
}

function entryBytes({ name, value }: PlainXattr): number {
  return Math.ceil((4 + splitName(name).rest.length + value.length) / 4) * 4;
}

/** What the attributes take behind the inode; 0 when there are none. */
export function xattrsBytes(xattrs: readonly PlainXattr[]): number {
  if (xattrs.length === 0) return 0;
  return xattrs.reduce((sum, xattr) => sum + entryBytes(xattr), xattrHeaderBytes);
}

export interface InodeFields {
  readonly layout: DataLayout;
  readonly sizeBytes: number;
  readonly links: number;
  /** For `ls -i` of 32-bit programs only. */
  readonly number: number;
  /** i_u: first block, chunk format or device number, by the kind. */
  readonly union: number;
}

/** Writes inode and attributes at `at`; the bytes there are zero. */
export function writeInode(
  into: Uint8Array,
  at: number,
  node: PlainNode,
  fields: InodeFields,
): void {
  const view = new DataView(into.buffer, into.byteOffset + at);
  const attributeBytes = xattrsBytes(node.xattrs);
  // i_xattr_icount: 1 stands for the header and its first word.
  const count = attributeBytes === 0 ? 0 : (attributeBytes - xattrHeaderBytes) / 4 + 1;
  view.setUint16(0, 1 | (fields.layout << 1), true);
  view.setUint16(2, count, true);
  view.setUint16(4, typeBits[node.content.kind] | node.permissions, true);
  view.setBigUint64(8, BigInt(fields.sizeBytes), true);
  view.setUint32(16, fields.union, true);
  view.setUint32(20, fields.number, true);
  view.setUint32(24, node.uid, true);
  view.setUint32(28, node.gid, true);
  view.setBigInt64(32, BigInt(node.mtimeSeconds), true);
  view.setUint32(40, node.mtimeNanoseconds, true);
  view.setUint32(44, fields.links, true);
  writeXattrs(into, at + inodeBytes, node.xattrs);
}

/** struct erofs_xattr_ibody_header, all zero here, then struct erofs_xattr_entry and what it counts. */
function writeXattrs(into: Uint8Array, start: number, xattrs: readonly PlainXattr[]): void {
  let at = start + xattrHeaderBytes;
  for (const xattr of xattrs) {
    const { index, rest } = splitName(xattr.name);
    into[at] = rest.length;
    into[at + 1] = index;
    into[at + 2] = xattr.value.length & 0xff;
    into[at + 3] = xattr.value.length >>> 8;
    into.set(rest, at + 4);
    into.set(xattr.value, at + 4 + rest.length);
    at += entryBytes(xattr);
  }
}

/** new_encode_dev() of the kernel. */
export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}
