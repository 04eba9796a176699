/**
 * The FUSE thread's table of contents it has a descriptor for, and of the kernel's open files on them.
 *
 * A content stays in the table after its last close (bounded, least recently used goes first), so that the next
 * open needs nobody else. Descriptors are owned here and closed here. A content that main wants to release is
 * `quiesced`: its descriptor and backing id are given up, and opens wait until main says `resume`.
 *
 * Open files outlive the daemon (handle-table.ts). A successor knows of each its node and its mode, and gets the
 * content's descriptor when somebody asks for it: an open file may be without a content here.
 */
import { assert } from '../base/assert.ts';
import { Errno } from '../base/errno.ts';
import { ebbError } from '../base/errors.ts';
import { OwnedFd } from '../sys/fd.ts';
import { Residency } from '../tree/residency.ts';
import { HandleTable } from './handle-table.ts';
import { afterOpen, afterRelease, chooseMode, noOpens } from './open-mode.ts';
import type { Opened } from './messages.ts';
import type { OpenCounts, OpenMode } from './open-mode.ts';

/** Descriptors kept for contents that nobody has open. */
export const idleContentsMax = 512;

export interface OpenContent {
  readonly nodeId: number;
  readonly residency: Residency;
  readonly descriptor: OwnedFd;
  /** Came unasked, and nobody has opened it yet. */
  isPrefetched: boolean;
}

/** One open file description of the kernel. */
export interface OpenFile {
  readonly nodeId: number;
  readonly mode: OpenMode;
  /** With the kernel, while any open of the node is passthrough; 0: none. */
  readonly backingId: number;
  /** Also the stream id of the recall engine. */
  readonly fileHandle: number;
  /** Where the next byte of a sequential reader would be. */
  nextOffset: number;
}

/** What a node's open files have in common. */
interface OpenNode {
  counts: OpenCounts;
  backingId: number;
}

export interface OpenFilesOptions {
  /** Registers a descriptor for passthrough: the id, or -errno. */
  readonly openBacking: (descriptor: number) => number;
  readonly closeBacking: (backingId: number) => void;
  /** Called once for each `adopt`, when what it gave is no longer used. */
  readonly onDropped: (nodeId: number) => void;
  /** Open files, for other threads to see. */
  readonly openCount?: Int32Array;
  readonly table?: HandleTable;
}

/** Failures to register a backing file that say nothing about the next one. */
const passingErrnos: ReadonlySet<number> = new Set([
  Errno.EINTR,
  Errno.EAGAIN,
  Errno.ENOMEM,
  Errno.ENFILE,
  Errno.EMFILE,
]);

export class OpenFiles {
  readonly #contents = new Map<number, OpenContent>();
  readonly #files = new Map<number, OpenFile>();
  readonly #nodes = new Map<number, OpenNode>();
  readonly #quiesced = new Set<number>();
  /** Handles of a predecessor by the OPEN that asked for them: maybe nobody heard the answer. */
  readonly #inherited = new Map<number, number>();
  readonly #options: OpenFilesOptions;
  readonly #table: HandleTable;
  readonly #openCount: Int32Array;
  #passthroughWorks = true;
  #idle = 0;

  constructor(options: OpenFilesOptions) {
    this.#options = options;
    this.#table = options.table ?? new HandleTable(undefined);
    this.#openCount = options.openCount ?? new Int32Array(1);
    this.#restore();
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
    const isOpen = this.#nodes.has(nodeId);
    if (known !== undefined && !isOpen) this.#forget(known);
    else if (known !== undefined) {
      new OwnedFd(descriptor).close();
      this.#options.onDropped(nodeId);
      return known;
    }
    const content: OpenContent = {
      nodeId,
      residency: Residency.attach(residency),
      descriptor: new OwnedFd(descriptor),
      isPrefetched: false,
    };
    this.#contents.set(nodeId, content);
    if (!isOpen) this.#idle += 1;
    this.#trim(nodeId);
    return content;
  }

  /**
   * Counts one more open for the request `unique` and chooses its mode; undo with `release` when the kernel did not
   * want the answer. Throws ENFILE, ENOMEM; EIO when it is open for passthrough and not wholly here any more.
   */
  open(content: OpenContent, passthroughAllowed: boolean, unique: number): OpenFile {
    const { nodeId } = content;
    const node = this.#nodes.get(nodeId) ?? { counts: noOpens, backingId: 0 };
    const allowed = passthroughAllowed && this.#passthroughWorks;
    let mode = chooseMode(node.counts, content.residency.isRecorded, allowed);
    if (mode === undefined) throw ebbError('EIO', `The disk has lost bytes of node ${nodeId}.`);
    if (mode === 'passthrough' && !this.#register(content, node)) mode = 'cached';
    const backingId = mode === 'passthrough' ? node.backingId : 0;
    let fileHandle: number;
    try {
      fileHandle = this.#table.add({ nodeId, mode, backingId, unique });
    } catch (error) {
      if (node.counts.passthrough === 0) this.#closeBacking(node);
      throw error;
    }
    if (!this.#nodes.has(nodeId)) {
      this.#idle -= 1;
      this.#nodes.set(nodeId, node);
    }
    node.counts = afterOpen(node.counts, mode);
    const file: OpenFile = { nodeId, mode, backingId, fileHandle, nextOffset: 0 };
    this.#files.set(fileHandle, file);
    this.#publishCount();
    return file;
  }

  /** The OPEN is delivered again: a predecessor had not answered it, and what it had counted is not open. */
  openedAgain(unique: number): void {
    const fileHandle = this.#inherited.get(unique);
    this.#inherited.delete(unique);
    if (fileHandle !== undefined && this.#files.has(fileHandle)) this.release(fileHandle);
  }

  /** Forgets an open file. Returns true when it was the content's last. */
  release(fileHandle: number): boolean {
    const file = this.#files.get(fileHandle);
    assert(file !== undefined, `release of file handle ${fileHandle} that is not open`);
    const { nodeId } = file;
    const node = this.#nodes.get(nodeId);
    assert(node !== undefined, `node ${nodeId} has open files`);
    this.#files.delete(fileHandle);
    this.#publishCount();
    node.counts = afterRelease(node.counts, file.mode);
    this.#table.remove(fileHandle);
    if (node.counts.passthrough === 0) this.#closeBacking(node);
    if (node.counts.cached + node.counts.passthrough > 0) return false;
    this.#nodes.delete(nodeId);
    const content = this.#contents.get(nodeId);
    if (content === undefined) return true;
    this.#idle += 1;
    // To the young end of the map: least recently closed goes first.
    this.#contents.delete(nodeId);
    this.#contents.set(nodeId, content);
    this.#trim(nodeId);
    return true;
  }

  /** Gives up a content that nobody has open. Returns how many have it open (0: done, opens now wait). */
  quiesce(nodeId: number): number {
    const { cached, passthrough } = this.#nodes.get(nodeId)?.counts ?? noOpens;
    if (cached + passthrough > 0) return cached + passthrough;
    this.#quiesced.add(nodeId);
    const content = this.#contents.get(nodeId);
    if (content !== undefined) this.#forget(content);
    return 0;
  }

  resume(nodeId: number): void {
    this.#quiesced.delete(nodeId);
  }

  /** Closes the descriptors. Backing ids go with the connection. */
  closeAll(): void {
    for (const content of this.#contents.values()) content.descriptor.close();
    this.#contents.clear();
    this.#files.clear();
    this.#nodes.clear();
    this.#publishCount();
  }

  #restore(): void {
    const { files, strayBackingIds } = this.#table.restore();
    for (const { fileHandle, nodeId, mode, backingId, unique } of files) {
      const node = this.#nodes.get(nodeId) ?? { counts: noOpens, backingId: 0 };
      this.#nodes.set(nodeId, node);
      node.counts = afterOpen(node.counts, mode);
      if (backingId !== 0) node.backingId = backingId;
      this.#files.set(fileHandle, { fileHandle, nodeId, mode, backingId, nextOffset: 0 });
      this.#inherited.set(unique, fileHandle);
    }
    for (const id of strayBackingIds) this.#options.closeBacking(id);
    this.#publishCount();
  }

  /** All passthrough opens of a node have one backing id. False: this one cannot be passthrough. */
  #register(content: OpenContent, node: OpenNode): boolean {
    if (node.backingId !== 0) return true;
    const id = this.#options.openBacking(content.descriptor.fd);
    if (id < 0) {
      // This kernel or cache file system cannot: everything goes on in cached mode.
      if (!passingErrnos.has(-id)) this.#passthroughWorks = false;
      return false;
    }
    node.backingId = id;
    this.#table.registered(id);
    return true;
  }

  #closeBacking(node: OpenNode): void {
    if (node.backingId === 0) return;
    this.#options.closeBacking(node.backingId);
    node.backingId = 0;
  }

  #publishCount(): void {
    Atomics.store(this.#openCount, 0, this.#files.size);
  }

  #trim(exceptId: number): void {
    if (this.#idle <= idleContentsMax) return;
    for (const content of this.#contents.values()) {
      if (this.#nodes.has(content.nodeId) || content.nodeId === exceptId) continue;
      this.#forget(content);
      if (this.#idle <= idleContentsMax) return;
    }
  }

  #forget(content: OpenContent): void {
    assert(!this.#nodes.has(content.nodeId), `content ${content.nodeId} is open`);
    content.descriptor.close();
    this.#contents.delete(content.nodeId);
    this.#idle -= 1;
    this.#options.onDropped(content.nodeId);
  }
}
