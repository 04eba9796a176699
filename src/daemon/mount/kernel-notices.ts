/**
 * Tells the kernel and the FUSE thread when names or facts changed. Messages to the kernel may have to wait for a
 * lock that a request waiting for *us* holds, so they are written by a pool thread, one at a time, never by the
 * main thread (libfuse README.notifications: deadlocks).
 */
import { write } from 'node:fs';
import { encodeInvalidateEntry, encodeInvalidateInode } from '../../fuse/notifier.ts';
import type { ToThread } from '../../mount/messages.ts';
import type { NamespaceChange } from '../../recall/namespace/namespace.ts';

/** Beyond this, names are left to their time to live. */
const queuedNoticesMax = 10_000;

export class KernelNotices {
  #device: number | undefined;
  #tell: ((message: ToThread, wake: boolean) => void) | undefined;
  #queue: Uint8Array[] = [];
  #writing = false;

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
    for (const name of names) {
      if (this.#queue.length >= queuedNoticesMax) break;
      this.#queue.push(encodeInvalidateEntry(directoryId, name));
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
    write(this.#device, message, 0, message.length, null, () => {
      // ENOENT: the kernel did not know the name, which is as good. After unmounting nothing matters.
      this.#writing = false;
      this.#writeNext();
    });
  }
}
