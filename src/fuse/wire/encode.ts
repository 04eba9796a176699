/** The replies that are made thousands of times a second, encoded straight into words. */
import { assert } from '../../base/assert.ts';
import { attrOutAttrBytes, entryOut, entryOutAttrBytes } from './replies.ts';
import type { Attributes, DirectoryBuffer, Entry, FilesystemStatistics } from '../filesystem.ts';
import type { WireBuffer } from './buffer.ts';

/** The kernel caps cache timeouts far below this (MAX_SEC_IN_JIFFIES); about 68 years. */
const timeoutMaximumSeconds = 0x7fff_ffff;
const direntBytes = 24;

/** struct fuse_attr at a multiple of 8. */
export function encodeAttributes(buffer: WireBuffer, atBytes: number, value: Attributes): void {
  assert(
    Number.isSafeInteger(value.ino) &&
      Number.isSafeInteger(value.sizeBytes) &&
      value.sizeBytes >= 0,
    'ino and size are integers below 2^53',
  );
  buffer.set64(atBytes, value.ino);
  buffer.set64(atBytes + 8, value.sizeBytes);
  buffer.set64(atBytes + 16, value.blocks);
  buffer.set64(atBytes + 24, value.atimeSeconds);
  buffer.set64(atBytes + 32, value.mtimeSeconds);
  buffer.set64(atBytes + 40, value.ctimeSeconds);
  const words = buffer.words;
  const at = atBytes >>> 2;
  words[at + 12] = value.atimeNanoseconds;
  words[at + 13] = value.mtimeNanoseconds;
  words[at + 14] = value.ctimeNanoseconds;
  words[at + 15] = value.mode;
  words[at + 16] = value.nlink;
  words[at + 17] = value.uid;
  words[at + 18] = value.gid;
  words[at + 19] = value.rdev;
  words[at + 20] = value.blockSizeBytes;
  words[at + 21] = 0;
}

function encodeTimeout(
  buffer: WireBuffer,
  secondsAt: number,
  nanosecondsAt: number,
  timeoutMs: number,
): void {
  const seconds = Math.min(Math.floor(timeoutMs / 1000), timeoutMaximumSeconds);
  buffer.set64(secondsAt, seconds);
  const restMs = seconds === timeoutMaximumSeconds ? 0 : timeoutMs - seconds * 1000;
  buffer.setU32(nanosecondsAt, Math.floor(restMs * 1e6));
}

/** struct fuse_attr_out. */
export function encodeAttrOut(
  buffer: WireBuffer,
  atBytes: number,
  value: Attributes,
  timeoutMs: number,
): void {
  encodeTimeout(buffer, atBytes, atBytes + 8, timeoutMs);
  buffer.setU32(atBytes + 12, 0);
  encodeAttributes(buffer, atBytes + attrOutAttrBytes, value);
}

/** struct fuse_entry_out. */
export function encodeEntry(buffer: WireBuffer, atBytes: number, entry: Entry): void {
  assert(Number.isSafeInteger(entry.nodeId) && entry.nodeId >= 0, 'node ids are below 2^53');
  buffer.set64(atBytes, entry.nodeId);
  buffer.setU32(atBytes + 8, entry.generation);
  buffer.setU32(atBytes + 12, 0);
  encodeTimeout(buffer, atBytes + 16, atBytes + 32, entry.entryTimeoutMs);
  encodeTimeout(buffer, atBytes + 24, atBytes + 36, entry.attributeTimeoutMs);
  encodeAttributes(buffer, atBytes + entryOutAttrBytes, entry.attributes);
}

/** struct fuse_open_out. `backingId` counts with FOPEN_PASSTHROUGH. */
export function encodeOpen(
  buffer: WireBuffer,
  atBytes: number,
  fileHandle: number,
  openFlags: number,
  backingId: number,
): void {
  buffer.set64(atBytes, fileHandle);
  buffer.setU32(atBytes + 8, openFlags);
  buffer.setU32(atBytes + 12, backingId);
}

/** struct fuse_statfs_out. */
export function encodeStatfs(
  buffer: WireBuffer,
  atBytes: number,
  value: FilesystemStatistics,
): void {
  buffer.bytes.fill(0, atBytes, atBytes + 80);
  buffer.set64(atBytes, value.blocks);
  buffer.set64(atBytes + 8, value.blocksFree);
  buffer.set64(atBytes + 16, value.blocksAvailable);
  buffer.set64(atBytes + 24, value.files);
  buffer.set64(atBytes + 32, value.filesFree);
  buffer.setU32(atBytes + 40, value.blockSizeBytes);
  buffer.setU32(atBytes + 44, value.nameMaxBytes);
  buffer.setU32(atBytes + 48, value.fragmentSizeBytes);
}

/** Builds the entries of a READDIR or READDIRPLUS answer in place. */
export class DirectoryWriter implements DirectoryBuffer {
  readonly #buffer: WireBuffer;
  #plus = false;
  #atBytes = 0;
  #endBytes = 0;

  constructor(buffer: WireBuffer) {
    this.#buffer = buffer;
  }

  /** Starts over: entries go to `startBytes` and following, `sizeBytes` at most. */
  begin(startBytes: number, sizeBytes: number, plus: boolean): void {
    assert(startBytes + sizeBytes <= this.#buffer.capacityBytes, 'the directory answer fits');
    this.#plus = plus;
    this.#atBytes = startBytes;
    this.#endBytes = startBytes + sizeBytes;
  }

  /** Where the entries end, from the start of the buffer. */
  get endBytes(): number {
    return this.#atBytes;
  }

  add(name: Uint8Array, ino: number, mode: number, nextOffset: number): boolean {
    return this.#append(name, ino, mode, nextOffset, undefined);
  }

  addPlus(
    name: Uint8Array,
    ino: number,
    mode: number,
    nextOffset: number,
    entry: Entry | undefined,
  ): boolean {
    assert(this.#plus, 'entries with attributes only go into READDIRPLUS');
    return this.#append(name, ino, mode, nextOffset, entry);
  }

  #append(
    name: Uint8Array,
    ino: number,
    mode: number,
    nextOffset: number,
    entry: Entry | undefined,
  ): boolean {
    const buffer = this.#buffer;
    const recordAt = this.#atBytes;
    const direntAt = this.#plus ? recordAt + entryOut.sizeBytes : recordAt;
    const nameEnd = direntAt + direntBytes + name.length;
    const nextAt = (nameEnd + 7) & ~7;
    if (nextAt > this.#endBytes) return false;
    if (this.#plus) {
      if (entry === undefined) buffer.bytes.fill(0, recordAt, direntAt);
      else encodeEntry(buffer, recordAt, entry);
    }
    buffer.set64(direntAt, ino);
    buffer.set64(direntAt + 8, nextOffset);
    buffer.setU32(direntAt + 16, name.length);
    buffer.setU32(direntAt + 20, (mode >>> 12) & 0xf);
    buffer.bytes.set(name, direntAt + direntBytes);
    buffer.bytes.fill(0, nameEnd, nextAt);
    this.#atBytes = nextAt;
    return true;
  }
}
