/**
 * The FUSE thread's table of contents it has a descriptor for, and of the kernel's open files on them.
 *
 * A content stays in the table after its last close (bounded, least recently used goes first), so that the next
 * open needs nobody else. Descriptors are owned here and closed here. A content that main wants to release is
 * `quiesced`: its descriptor and backing id are given up, and opens wait until main says `resume`.
 */
import { assert } from '../base/assert.ts';
import { OwnedFd } from '../sys/fd.ts';
import { Residency } from '../tree/residency.ts';
import { afterOpen, afterRelease, chooseMode, noOpens } from './open-mode.ts';
import type { Opened } from './messages.ts';
import type { OpenCounts, OpenMode } from './open-mode.ts';

/** Descriptors kept for contents that nobody has open. */
export const idleContentsMax = 512;

export interface OpenContent {
  readonly nodeId: number;
  readonly residency: Residency;
  readonly descriptor: OwnedFd;
  counts: OpenCounts;
  /** 0 = not registered with the kernel. */
  backingId: number;
  /** Came unasked, and nobody has opened it yet. */
  isPrefetched: boolean;
}

/** One open file description of the kernel. */
export interface OpenFile {
  readonly content: OpenContent;
  readonly mode: OpenMode;
  /** Also the stream id of the recall engine. */
  readonly fileHandle: number;
  /** Where the next byte of a sequential reader would be. */
  nextOffset: number;
}

export class OpenFiles {
  readonly #contents = new Map<number, OpenContent>();
  readonly #files = new Map<number, OpenFile>();
  readonly #quiesced = new Set<number>();
  readonly #closeBacking: (backingId: number) => void;
  /** Called once for each `adopt`, when what it gave is no longer used. */
  readonly #onDropped: (nodeId: number) => void;
  /** Open files, for other threads to see. */
  readonly #openCount: Int32Array;
  #nextHandle = 1;
  #idle = 0;

  constructor(
    closeBacking: (backingId: number) => void,
    onDropped: (nodeId: number) => void,
    openCount: Int32Array = new Int32Array(1),
  ) {
    this.#closeBacking = closeBacking;
    this.#onDropped = onDropped;
    this.#openCount = openCount;
  }

  get openCount(): number {
    return this.#files.size;
  }

  content(nodeId: number): OpenContent | undefined {
    return this.#contents.get(nodeId);
  }

  file(fileHandle: number): OpenFile | undefined {
    return this.#files.get(fileHandle);
  }

  isQuiesced(nodeId: number): boolean {
    return this.#quiesced.has(nodeId);
  }

  /**
   * Takes over the descriptor. A content that somebody has open keeps the one it has, and the new one is closed; else
   * the new one counts: the local file may have been made anew.
   */
  adopt(nodeId: number, { residency, descriptor }: Opened): OpenContent {
    const known = this.#contents.get(nodeId);
    if (known !== undefined && isIdle(known)) this.#forget(known);
    else if (known !== undefined) {
      new OwnedFd(descriptor).close();
      this.#onDropped(nodeId);
      return known;
    }
    const content: OpenContent = {
      nodeId,
      residency: Residency.attach(residency),
      descriptor: new OwnedFd(descriptor),
      counts: noOpens,
      backingId: 0,
      isPrefetched: false,
    };
    this.#contents.set(nodeId, content);
    this.#idle += 1;
    this.#trim(nodeId);
    return content;
  }

  /** Counts one more open and chooses its mode; undo with `release` when the kernel did not want the answer. */
  open(content: OpenContent, passthroughAllowed: boolean): OpenFile {
    const mode = chooseMode(content.counts, content.residency.complete, passthroughAllowed);
    if (isIdle(content)) this.#idle -= 1;
    content.counts = afterOpen(content.counts, mode);
    const file: OpenFile = { content, mode, fileHandle: this.#nextHandle, nextOffset: 0 };
    this.#nextHandle += 1;
    this.#files.set(file.fileHandle, file);
    Atomics.store(this.#openCount, 0, this.#files.size);
    return file;
  }

  /** Forgets an open file. Returns true when it was the content's last. */
  release(fileHandle: number): boolean {
    const file = this.#files.get(fileHandle);
    assert(file !== undefined, `release of file handle ${fileHandle} that is not open`);
    this.#files.delete(fileHandle);
    Atomics.store(this.#openCount, 0, this.#files.size);
    const { content } = file;
    content.counts = afterRelease(content.counts, file.mode);
    if (content.counts.passthrough === 0) this.#dropBacking(content);
    if (!isIdle(content)) return false;
    this.#idle += 1;
    // To the young end of the map: least recently closed goes first.
    this.#contents.delete(content.nodeId);
    this.#contents.set(content.nodeId, content);
    this.#trim(content.nodeId);
    return true;
  }

  /** Gives up a content that nobody has open. Returns how many have it open (0: done, opens now wait). */
  quiesce(nodeId: number): number {
    const content = this.#contents.get(nodeId);
    const count = content === undefined ? 0 : content.counts.cached + content.counts.passthrough;
    if (count > 0) return count;
    this.#quiesced.add(nodeId);
    if (content !== undefined) this.#forget(content);
    return 0;
  }

  resume(nodeId: number): void {
    this.#quiesced.delete(nodeId);
  }

  closeAll(): void {
    for (const content of this.#contents.values()) {
      this.#dropBacking(content);
      content.descriptor.close();
    }
    this.#contents.clear();
    this.#files.clear();
    Atomics.store(this.#openCount, 0, 0);
  }

  #trim(exceptId: number): void {
    if (this.#idle <= idleContentsMax) return;
    for (const content of this.#contents.values()) {
      if (!isIdle(content) || content.nodeId === exceptId) continue;
      this.#forget(content);
      if (this.#idle <= idleContentsMax) return;
    }
  }

  #forget(content: OpenContent): void {
    assert(isIdle(content), `content ${content.nodeId} is open`);
    this.#dropBacking(content);
    content.descriptor.close();
    this.#contents.delete(content.nodeId);
    this.#idle -= 1;
    this.#onDropped(content.nodeId);
  }

  #dropBacking(content: OpenContent): void {
    if (content.backingId === 0) return;
    this.#closeBacking(content.backingId);
    content.backingId = 0;
  }
}

function isIdle(content: OpenContent): boolean {
  return content.counts.cached + content.counts.passthrough === 0;
}
