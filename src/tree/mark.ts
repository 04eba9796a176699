/**
 * The persistent mark: the extended attribute on a local file that says which remote content it holds and which
 * chunks of it are on stable storage. Pure codec.
 *
 * The mark is bound to its inode (hash of the kernel's file handle) and sealed with a key of the tree (HMAC), so a
 * mark that was copied along with the bytes (`cp -a`, `rsync -X`), made up, or cut off is recognised and ignored,
 * each for its own reason (invariant I7). Copies of a whole tree to another file system therefore start empty.
 *
 * Layout, little endian: 'EBM' + u8 format (1); u16 length of the whole record; u8 flags; u8 state; 16 bytes tree id;
 * 16 bytes SHA-256 of the file handle, cut; u64 content id; u64 size; u64 chunk size; u64 resident bytes; then
 * length-prefixed (u16): remote id, key, version, checksum, bitmap, and for stubs a sixth: u8 change, i64 seconds and
 * u32 nanoseconds of mtime; 16 bytes HMAC-SHA256 of all before, cut.
 */
import { hash, createHmac, timingSafeEqual } from 'node:crypto';

import { assert } from '../base/assert.ts';
import { decodeName, encodeName } from '../base/name.ts';
import type { FileTime } from '../sys/stat.ts';

/** What the daemon knew when it wrote the mark; the bitmap says more exactly. */
export const MarkState = { offline: 0, partial: 1, dual: 2 } as const;
export type MarkState = (typeof MarkState)[keyof typeof MarkState];

export interface Mark {
  /** UUID of the tree, lower case with dashes. */
  readonly treeId: string;
  /** Names the remote, without credentials. */
  readonly remoteId: string;
  /** The content's id, which is the node's id. 1 .. 2^53-1. */
  readonly contentId: number;
  /** Null when it was too long for the mark: such a content cannot be found again without the catalog. */
  readonly key: string | null;
  readonly version: string;
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  readonly residentBytes: number;
  readonly state: MarkState;
  readonly pinned: boolean;
  /** Checksum of the whole content as the remote gave it; empty = none. */
  readonly checksum: Uint8Array;
  /** Encoded residency (residency.ts); null = too large for the mark, only the catalog has it. */
  readonly bitmap: Uint8Array | null;
  /** Only of stubs (stubs/stub-store.ts). */
  readonly stub?: StubMark;
}

export interface StubMark {
  /** What users may have done to the content: `StubChange` of base/stub-facts.ts. 0 .. 3. */
  readonly change: number;
  /** What the stub's mtime is while it is clean. */
  readonly mtime: FileTime;
}

/** Who may write and believe a mark. */
export interface MarkSeal {
  readonly treeId: string;
  /** 32 random bytes, kept in the tree's `secret` file. */
  readonly secret: Uint8Array;
}

/** Why a mark is not believed. Each a different mistake or attack; none of them is an error of the reader. */
export type MarkRefusal =
  | 'not a mark'
  | 'format of a newer Ebb'
  | 'cut off'
  | 'of another tree'
  | 'seal broken'
  | 'copied from another file'
  | 'malformed';

export type MarkReading =
  | { readonly ok: true; readonly mark: Mark }
  | { readonly ok: false; readonly refusal: MarkRefusal };

/** ext4 keeps all attributes of an inode in one block of 4 KiB; others' (SELinux, ACL) need room, too. */
export const markBytesMax = 3_072;
export const markBitmapBytesMax = 2_048;

const magic = Uint8Array.of(0x45, 0x42, 0x4d);
const format = 1;
const headerBytes = 72;
const digestBytes = 16;
const stubBytes = 13;
const changeMax = 3;
const Flag = { pinned: 1, keyMissing: 2, bitmapMissing: 4, stub: 8 } as const;
const flagsMask = Flag.pinned | Flag.keyMissing | Flag.bitmapMissing | Flag.stub;

/** Encodes and seals. `handle`: identity of the inode (identity.ts). At most `markBytesMax` bytes. */
export function encodeMark(mark: Mark, handle: Uint8Array, seal: MarkSeal): Uint8Array {
  assert(mark.treeId === seal.treeId, 'a mark is sealed by its own tree');
  const remoteId = Buffer.from(mark.remoteId.slice(0, 64));
  const version = encodeText(mark.version);
  const keyBytes = mark.key === null ? undefined : encodeName(mark.key);
  const stub = mark.stub === undefined ? [] : [encodeStub(mark.stub)];
  const fixedBytes = headerBytes + 5 * 2 + stub.length * (2 + stubBytes) + digestBytes;
  let roomBytes =
    markBytesMax - fixedBytes - remoteId.length - version.length - mark.checksum.length;
  assert(roomBytes >= 0, 'a version and a checksum fit into a mark');
  const key = keyBytes !== undefined && keyBytes.length <= roomBytes ? keyBytes : undefined;
  roomBytes = Math.min(roomBytes - (key?.length ?? 0), markBitmapBytesMax);
  const bitmap = mark.bitmap !== null && mark.bitmap.length <= roomBytes ? mark.bitmap : undefined;

  made.set(magic);
  madeView.setUint8(3, format);
  madeView.setUint8(
    6,
    (mark.pinned ? Flag.pinned : 0) |
      (key === undefined ? Flag.keyMissing : 0) |
      (bitmap === undefined ? Flag.bitmapMissing : 0) |
      (mark.stub === undefined ? 0 : Flag.stub),
  );
  madeView.setUint8(7, mark.state);
  made.set(uuidBytes(mark.treeId), 8);
  made.set(handleDigest(handle), 24);
  const numbers = [mark.contentId, mark.sizeBytes, mark.chunkBytes, mark.residentBytes];
  for (const [index, number] of numbers.entries()) {
    madeView.setBigUint64(40 + index * 8, BigInt(number), true);
  }
  let end = headerBytes;
  for (const field of [remoteId, key, version, mark.checksum, bitmap, ...stub]) {
    const lengthBytes = field?.length ?? 0;
    madeView.setUint16(end, lengthBytes, true);
    if (field !== undefined) made.set(field, end + 2);
    end += 2 + lengthBytes;
  }
  madeView.setUint16(4, end + digestBytes, true);
  made.set(macOf(made.subarray(0, end), seal), end);
  return made.slice(0, end + digestBytes);
}

/** Marks are put together here: one is made for each stub of a tree. */
const made = new Uint8Array(markBytesMax);
const madeView = new DataView(made.buffer);

/**
 * Reads a mark found on the inode with this handle. Never throws, whatever the bytes. A mark is believed only
 * when this tree sealed it for this inode.
 */
export function decodeMark(bytes: Uint8Array, handle: Uint8Array, seal: MarkSeal): MarkReading {
  if (bytes.length < 4 || magic.some((byte, index) => bytes[index] !== byte)) {
    return refuse('not a mark');
  }
  if (bytes[3] !== format) return refuse('format of a newer Ebb');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < headerBytes || bytes.length < view.getUint16(4, true))
    return refuse('cut off');
  if (!equal(bytes.subarray(8, 24), uuidBytes(seal.treeId))) return refuse('of another tree');
  const sealed = bytes.subarray(0, bytes.length - digestBytes);
  if (!equal(bytes.subarray(sealed.length), macOf(sealed, seal))) return refuse('seal broken');
  if (!equal(bytes.subarray(24, 40), handleDigest(handle)))
    return refuse('copied from another file');
  const mark = parse(sealed, view, seal.treeId);
  return mark === undefined ? refuse('malformed') : { ok: true, mark };
}

/** The sealed part was written by us; what does not parse was written by a broken version of us. */
function parse(sealed: Uint8Array, view: DataView, treeId: string): Mark | undefined {
  const flags = view.getUint8(6);
  const state = view.getUint8(7);
  const numbers = [40, 48, 56, 64].map((at) => Number(view.getBigUint64(at, true)));
  const [contentId = 0, sizeBytes = 0, chunkBytes = 0, residentBytes = 0] = numbers;
  const fields: Uint8Array[] = [];
  let offset = headerBytes;
  const fieldCount = (flags & Flag.stub) === 0 ? 5 : 6;
  while (fields.length < fieldCount && offset + 2 <= sealed.length) {
    const end = offset + 2 + view.getUint16(offset, true);
    if (end > sealed.length) return undefined;
    fields.push(sealed.slice(offset + 2, end));
    offset = end;
  }
  const [remoteId, key, version, checksum, bitmap, stubField] = fields;
  if (!remoteId || !key || !version || !checksum || !bitmap) return undefined;
  if (offset !== sealed.length || (flags & ~flagsMask) !== 0 || !isState(state)) return undefined;
  const stub = stubField && decodeStub(stubField);
  if (stub === undefined && fieldCount > 5) return undefined;
  if (!numbers.every(Number.isSafeInteger) || contentId < 1 || chunkBytes < 1) return undefined;
  return {
    treeId,
    remoteId: Buffer.from(remoteId).toString(),
    contentId,
    key: (flags & Flag.keyMissing) === 0 ? decodeName(key) : null,
    version: decodeText(version),
    sizeBytes,
    chunkBytes,
    residentBytes,
    state,
    pinned: (flags & Flag.pinned) !== 0,
    checksum,
    bitmap: (flags & Flag.bitmapMissing) === 0 ? bitmap : null,
    ...(stub === undefined ? {} : { stub }),
  };
}

function encodeStub({ change, mtime }: StubMark): Uint8Array {
  assert(change >= 0 && change <= changeMax, `${change} is no state of change`);
  const view = new DataView(new ArrayBuffer(stubBytes));
  view.setUint8(0, change);
  view.setBigInt64(1, BigInt(mtime.seconds), true);
  view.setUint32(9, mtime.nanoseconds, true);
  return new Uint8Array(view.buffer);
}

function decodeStub(bytes: Uint8Array): StubMark | undefined {
  if (bytes.length !== stubBytes) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const change = view.getUint8(0);
  const seconds = Number(view.getBigInt64(1, true));
  if (change > changeMax || !Number.isSafeInteger(seconds)) return undefined;
  return { change, mtime: { seconds, nanoseconds: view.getUint32(9, true) } };
}

function refuse(refusal: MarkRefusal): MarkReading {
  return { ok: false, refusal };
}

function isState(value: number): value is MarkState {
  return value >= MarkState.offline && value <= MarkState.dual;
}

function handleDigest(handle: Uint8Array): Uint8Array {
  return hash('sha256', handle, 'buffer').subarray(0, digestBytes);
}

function macOf(sealed: Uint8Array, seal: MarkSeal): Uint8Array {
  return createHmac('sha256', seal.secret).update(sealed).digest().subarray(0, digestBytes);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** A daemon has one tree. */
let lastUuid = { text: '', bytes: new Uint8Array(0) };

function uuidBytes(uuid: string): Uint8Array {
  if (lastUuid.text === uuid) return lastUuid.bytes;
  const bytes = Buffer.from(uuid.replaceAll('-', ''), 'hex');
  assert(bytes.length === 16, `${uuid} is not a UUID`);
  lastUuid = { text: uuid, bytes };
  return bytes;
}

/** UTF-8 where it can carry the text, else UTF-16; the first byte says which. */
function encodeText(text: string): Uint8Array {
  const body = text.isWellFormed() ? Buffer.from(text) : Buffer.from(text, 'utf16le');
  return Buffer.concat([Uint8Array.of(text.isWellFormed() ? 1 : 2), body]);
}

function decodeText(bytes: Uint8Array): string {
  const body = Buffer.from(bytes.buffer, bytes.byteOffset + 1, Math.max(bytes.length - 1, 0));
  return body.toString(bytes[0] === 2 ? 'utf16le' : 'utf8');
}
