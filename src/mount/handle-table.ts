/**
 * The kernel's open files, in memory that outlives the daemon: what a successor on the same connection must know. Each
 * is one slot of a file that the supervisor holds too (a memfd), written before the OPEN is answered and cleared when
 * the RELEASE is handled. A slot is one pwrite(2) inside of a page, which SIGKILL cannot cut in two.
 *
 * A handle's number is its slot and how often slots were used before, so that a RELEASE that comes twice (the first
 * daemon died before it answered) can clear nothing of a later open. One thread writes.
 */
import { Errno, errnoCodeOf } from '../base/errno.ts';
import { ebbError } from '../base/errors.ts';
import { pread, pwrite } from '../sys/io.ts';
import type { OpenMode } from './open-mode.ts';

/** Open files of one mount; above it open(2) fails with ENFILE. 32 bytes of memory each. */
export const openFilesMax = 1_048_576;

export interface OpenRecord {
  readonly fileHandle: number;
  readonly nodeId: number;
  readonly mode: OpenMode;
  /** 0: none. */
  readonly backingId: number;
  /** Of the OPEN request; a resent one says that nobody heard the answer. */
  readonly unique: number;
}

/** What a predecessor left. */
export interface Restored {
  readonly files: readonly OpenRecord[];
  /** Backing ids that no open file uses, but that may still be registered. Some are long gone. */
  readonly strayBackingIds: readonly number[];
}

/** Header: layout number, the backing id registered last. */
const headerBytes = 64;
const layoutNumber = 1;
/** Four 64-bit floats: handle, node id (0: free), unique, backing id and mode. */
const slotWords = 4;
const slotBytes = slotWords * 8;
const modes = ['cached', 'passthrough'] as const;
/** Registered by a daemon that died before it wrote the number down. Numbers only grow (idr_alloc_cyclic). */
const unwrittenIdsMax = 4;
/** Handles stay below 2^53: the 2^33rd use of a slot has the number of the first. */
const usesMax = 2 ** 33;

export class HandleTable {
  readonly #fd: number | undefined;
  readonly #header = new Float64Array([layoutNumber, 0]);
  readonly #slot = new Float64Array(slotWords);
  readonly #slotBytes = new Uint8Array(this.#slot.buffer);
  readonly #backingOfSlot: number[] = [];
  #free: number[] = [];
  #slots = 0;
  #uses = 0;

  /** `fd`: read and written, stays the caller's. Undefined: nothing survives this process. */
  constructor(fd: number | undefined) {
    this.#fd = fd;
  }

  /** Takes over what is in the file; before anything else. Throws EPROTO when another version of Ebb wrote it. */
  restore(): Restored {
    const words = this.#readAll();
    if (words.length === 0) {
      this.#writeHeader();
      return { files: [], strayBackingIds: [] };
    }
    const [layout = 0, lastBackingId = 0] = words;
    if (layout !== layoutNumber) {
      throw ebbError('EPROTO', 'another version of Ebb wrote down which files are open');
    }
    this.#header[1] = lastBackingId;
    const files: OpenRecord[] = [];
    const mentioned = new Set<number>();
    for (let step = 1; step <= unwrittenIdsMax; step += 1) mentioned.add(lastBackingId + step);
    if (lastBackingId > 0) mentioned.add(lastBackingId);
    for (let at = headerBytes / 8; at + slotWords <= words.length; at += slotWords) {
      const [fileHandle = 0, nodeId = 0, unique = 0, backing = 0] = words.subarray(at);
      const backingId = Math.floor(backing / modes.length);
      const slot = this.#slots++;
      this.#backingOfSlot[slot] = backing;
      this.#uses = Math.max(this.#uses, Math.floor(fileHandle / openFilesMax));
      if (backingId > 0) mentioned.add(backingId);
      if (nodeId === 0) this.#free.push(slot);
      else {
        const mode = modes[backing % modes.length] ?? 'cached';
        files.push({ fileHandle, nodeId, mode, backingId, unique });
      }
    }
    for (const { backingId } of files) mentioned.delete(backingId);
    return { files, strayBackingIds: [...mentioned] };
  }

  /** Before a passthrough open that uses it is answered. */
  registered(backingId: number): void {
    this.#header[1] = backingId;
    this.#writeHeader();
  }

  /** Writes an open file down; its number. Throws ENFILE, ENOMEM: the open must fail then. */
  add(open: Omit<OpenRecord, 'fileHandle'>): number {
    const slot = this.#free.pop() ?? this.#slots;
    if (slot >= openFilesMax) throw ebbError('ENFILE', `${openFilesMax} files are open`);
    this.#uses = (this.#uses + 1) % usesMax;
    const fileHandle = this.#uses * openFilesMax + slot;
    const backing = open.backingId * modes.length + modes.indexOf(open.mode);
    try {
      this.#write(slot, fileHandle, open.nodeId, open.unique, backing);
    } catch (error) {
      if (slot < this.#slots) this.#free.push(slot);
      throw error;
    }
    this.#backingOfSlot[slot] = backing;
    this.#slots = Math.max(this.#slots, slot + 1);
    return fileHandle;
  }

  /** The file is closed. Its backing id may be closed afterwards: until another one is written here it is known. */
  remove(fileHandle: number): void {
    const slot = fileHandle % openFilesMax;
    this.#write(slot, fileHandle, 0, 0, this.#backingOfSlot[slot] ?? 0);
    this.#free.push(slot);
  }

  #write(slot: number, fileHandle: number, nodeId: number, unique: number, backing: number): void {
    if (this.#fd === undefined) return;
    const words = this.#slot;
    words[0] = fileHandle;
    words[1] = nodeId;
    words[2] = unique;
    words[3] = backing;
    this.#put(this.#slotBytes, headerBytes + slot * slotBytes);
  }

  #writeHeader(): void {
    if (this.#fd !== undefined) this.#put(new Uint8Array(this.#header.buffer), 0);
  }

  #put(bytes: Uint8Array, offset: number): void {
    const result = pwrite(this.#fd ?? -1, bytes, offset);
    if (result === bytes.length) return;
    const code = errnoCodeOf(result < 0 ? result : -Errno.EIO) ?? 'EIO';
    throw ebbError(code, 'which files are open cannot be written down');
  }

  #readAll(): Float64Array {
    const parts: Uint8Array[] = [];
    for (let offset = 0; this.#fd !== undefined; offset += parts.at(-1)?.length ?? 0) {
      const part = new Uint8Array(64 * 1024);
      const count = pread(this.#fd, part, offset);
      if (count < 0) throw ebbError(errnoCodeOf(count) ?? 'EIO', 'which files are open is lost');
      if (count === 0) break;
      parts.push(part.subarray(0, count));
    }
    const all = Buffer.concat(parts);
    const words = new Float64Array(Math.floor(all.length / 8));
    new Uint8Array(words.buffer).set(all.subarray(0, words.byteLength));
    return words;
  }
}
