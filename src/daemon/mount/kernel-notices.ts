/**
 * Tells the kernel and the FUSE thread when names or facts changed. Messages to the kernel may have to wait for a
 * lock that a request waiting for *us* holds, so they are written by a pool thread, one at a time, never by the
 * main thread (libfuse README.notifications: deadlocks).
 */
import { write } from 'node:fs';
import {
  encodeIncrementEpoch,
  encodeInvalidateEntry,
  encodeInvalidateInode,
} from '../../fuse/notifier.ts';
import type { ToThread } from '../../mount/messages.ts';
import type { NamespaceChange } from '../../recall/namespace/namespace-options.ts';

/**
 * Beyond this all names together are looked up again at their next use, which costs one message (Linux 6.16; on older
 * kernels names that are not told of are left to their time to live).
 */
const queuedNoticesMax = 10_000;
const allNames = encodeIncrementEpoch();

export class KernelNotices {
  #device: number | undefined;
  #tell: ((message: ToThread, wake: boolean) => void) | undefined;
  #queue: Uint8Array[] = [];
  #writing = false;
  #knowsAllNames = true;

  /** From now on changes are passed on. */
  connect(deviceDescriptor: number, tell: (message: ToThread, wake: boolean) => void): void {
    this.#device = deviceDescriptor;
    this.#tell = tell;
  }

  changed(change: NamespaceChange): void {
    if (change.kind === 'facts') {
      this.#tell?.({ kind: 'factsChanged', nodeId: change.nodeId }, false);
      return;
    }
    const { directoryId, gone, appeared, namesChanged } = change;
    const names = [...gone.map((node) => node.name), ...appeared];
    // Of a first listing nobody has anything to forget: the thread looks before it asks, or is woken by the answer.
    this.#tell?.({ kind: 'directoryChanged', directoryId, namesChanged }, names.length > 0);
    if (this.#device === undefined) return;
    if (this.#queue.length + names.length > queuedNoticesMax && this.#knowsAllNames) {
      this.#queue = [allNames];
    } else {
      const room = queuedNoticesMax - this.#queue.length;
      for (const name of names.slice(0, room)) {
        this.#queue.push(encodeInvalidateEntry(directoryId, name));
      }
    }
    this.#writeNext();
  }

  /**
   * The pages that the kernel has of a content are not needed any more: what was released gives its memory back, too,
   * and `ebb release` means that the next read is a recall. They were no wrong bytes, so nothing depends on it.
   */
  released(nodeId: number): void {
    if (this.#queue.length >= queuedNoticesMax) return;
    this.#queue.push(encodeInvalidateInode(nodeId));
    this.#writeNext();
  }

  /** Nothing is written any more: the descriptor's number may soon mean something else. */
  disconnect(): void {
    this.#device = undefined;
    this.#tell = undefined;
    this.#queue = [];
  }

  #writeNext(): void {
    if (this.#writing || this.#device === undefined) return;
    const message = this.#queue.shift();
    if (message === undefined) return;
    this.#writing = true;
    write(this.#device, message, 0, message.length, null, (error) => {
      if (message === allNames && error?.code === 'EINVAL') this.#knowsAllNames = false;
      // ENOENT: the kernel did not know the name, which is as good. After unmounting nothing matters.
      this.#writing = false;
      this.#writeNext();
    });
  }
}
