/** Rows of the table stubs as the contract's records, and back. Hot: kept flat. */
import { StubChange } from '../../base/stub-facts.ts';
import { decodeName, encodeName } from '../../base/name.ts';
import { decodeVersion, encodeVersion } from '../sqlite/rows.ts';
import { damagedRow, hasIntegers, isVersion } from '../sqlite/sound-rows.ts';
import type { StubRecord } from '../stub-catalog.ts';

export type StubRow = [
  id: number,
  handleHash: number,
  handle: Uint8Array,
  key: Uint8Array,
  keyHash: number,
  version: string | Uint8Array | null,
  size: number,
  mtimeSeconds: number,
  mtimeNanoseconds: number,
  chunkBytes: number,
  bitmap: Uint8Array,
  resident: number,
  complete: number,
  change: number,
  ctimeSeconds: number,
  ctimeNanoseconds: number,
  pinned: number,
  lost: number,
  accessedMs: number,
];

const integers = [0, 1, 4, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18];
const changeMax = Math.max(...Object.values(StubChange));

/** The hashes, too, which tell a damaged handle or key: that of another file would bring its content. */
function isStub(row: StubRow): boolean {
  const [, handleHash, handle, key, keyHash, version, size] = row;
  const [chunkBytes, bitmap, change] = [row[9], row[10], row[13]];
  if (!hasIntegers(row, integers) || size < 0 || chunkBytes < 1) return false;
  if (change < 0 || change > changeMax || version === null || !isVersion(version)) return false;
  if (![handle, key, bitmap].every((bytes) => bytes instanceof Uint8Array)) return false;
  return hashHandle(handle) === handleHash && hashKey(key) === keyHash;
}

/** Throws EUCLEAN. */
export function stubOf(row: StubRow): StubRecord {
  if (!isStub(row)) throw damagedRow('a record is none');
  return {
    id: row[0],
    handle: row[2],
    key: decodeName(row[3]),
    version: decodeVersion(row[5]) ?? '',
    sizeBytes: row[6],
    mtimeSeconds: row[7],
    mtimeNanoseconds: row[8],
    chunkBytes: row[9],
    bitmap: row[10],
    residentBytes: row[11],
    complete: row[12] !== 0,
    change: row[13] as StubChange,
    ctimeSeconds: row[14],
    ctimeNanoseconds: row[15],
    pinned: row[16] !== 0,
    lost: row[17] !== 0,
    accessedAtMs: row[18],
  };
}

export function stubRow(stub: StubRecord): StubRow {
  const key = encodeName(stub.key);
  return [
    stub.id,
    hashHandle(stub.handle),
    stub.handle,
    key,
    hashKey(key),
    encodeVersion(stub.version),
    stub.sizeBytes,
    stub.mtimeSeconds,
    stub.mtimeNanoseconds,
    stub.chunkBytes,
    stub.bitmap,
    stub.residentBytes,
    stub.complete ? 1 : 0,
    stub.change,
    stub.ctimeSeconds,
    stub.ctimeNanoseconds,
    stub.pinned ? 1 : 0,
    stub.lost ? 1 : 0,
    stub.accessedAtMs,
  ];
}

const slash = 0x2f;
const restBits = 20;

/**
 * 32 bits of the directory's part (FNV-1a), then 20 of the name's: what is listed together lies together in the index,
 * which makes inserting twice as fast as with a hash of the whole. Part of the format.
 */
export function hashKey(key: Uint8Array): number {
  return hashBytes(key, 0, key.lastIndexOf(slash) + 1) * 2 ** restBits + hashName(key);
}

/** `hashKey` of all keys of that name, whatever their directory, has it in these bits. */
export const nameHashMask = 2 ** restBits - 1;

/** The name's part of `hashKey`. */
export function hashName(key: Uint8Array): number {
  return hashBytes(key, key.lastIndexOf(slash) + 1, key.length) >>> (32 - restBits);
}

/** Whether two keys are the same behind their last slash. */
export function haveSameName(key: Uint8Array, other: Uint8Array): boolean {
  const name = key.subarray(key.lastIndexOf(slash) + 1);
  return Buffer.compare(name, other.subarray(other.lastIndexOf(slash) + 1)) === 0;
}

/** The hashes of all keys in the directory of this one are in `[from, to)`, and those of few others. */
export function hashRangeOfDirectory(key: Uint8Array): { from: number; to: number } {
  const from = hashBytes(key, 0, key.lastIndexOf(slash) + 1) * 2 ** restBits;
  return { from, to: from + 2 ** restBits };
}

/** Whether two keys are the same up to their last slash. */
export function isInSameDirectory(key: Uint8Array, other: Uint8Array): boolean {
  const end = key.lastIndexOf(slash) + 1;
  if (other.lastIndexOf(slash) + 1 !== end) return false;
  return Buffer.compare(key.subarray(0, end), other.subarray(0, end)) === 0;
}

/**
 * Encoded handles have 4 bytes of type, then (xfs, ext4, btrfs) the inode number, little endian: 32 bits of it, then 20
 * of a hash of the whole. Neighbours on the disk lie together. Part of the format.
 */
export function hashHandle(handle: Uint8Array): number {
  let inode = 0;
  for (let at = 7; at >= 4; at -= 1) inode = inode * 256 + (handle[at] ?? 0);
  return inode * 2 ** restBits + (hashBytes(handle, 0, handle.length) >>> (32 - restBits));
}

function hashBytes(bytes: Uint8Array, from: number, to: number): number {
  let hash = 0x81_1c_9d_c5;
  for (let at = from; at < to; at += 1) hash = Math.imul(hash ^ (bytes[at] ?? 0), 0x01_00_01_93);
  return hash >>> 0;
}
