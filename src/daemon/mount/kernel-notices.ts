/**
 * Tells the kernel and the FUSE thread when names or facts changed. Messages to the kernel may have to wait for a
 * lock that a request waiting for *us* holds, so they are written by a pool thread, one at a time, never by the
 * main thread (libfuse README.notifications: deadlocks).
 *
 * However many names changed, each is told by itself. One message could make the kernel doubt all names at once
 * (INC_EPOCH), but it then drops every directory on its way, and with a directory all that somebody has mounted below
 * (d_invalidate).
 */
import { write } from 'node:fs';
import { endedWithin } from '../../base/deadline.ts';
import { encodeInvalidateEntry, encodeInvalidateInode } from '../../fuse/notifier.ts';
import type { ToThread } from '../../mount/messages.ts';
import type { NamespaceChange } from '../../recall/namespace/namespace-options.ts';
import { NameQueue } from './name-queue.ts';

/** Contents whose pages the kernel is to forget; others keep them until the kernel needs the memory. */
const queuedContentsMax = 10_000;

interface Listener {
  /** How many names have to be told before. */
  readonly names: number;
  readonly resolve: () => void;
}

export class KernelNotices {
  #device: number | undefined;
  #tell: ((message: ToThread, wake: boolean) => void) | undefined;
  /** Where it is full, names are left to their time to live. */
  #names = new NameQueue();
  #namesQueued = 0;
  #namesTold = 0;
  readonly #listeners = new Set<Listener>();
  #contents: number[] = [];
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
      if (!this.#names.push(directoryId, name)) break;
      this.#namesQueued += 1;
    }
    this.#writeNext();
  }

  /**
   * Resolves when the kernel has been told of all names that changed until now, or could be told of none for
   * `stallMaxMs`.
   */
  async told(stallMaxMs: number): Promise<void> {
    const names = this.#namesQueued;
    for (let before = -1; before < this.#namesTold && this.#namesTold < names;) {
      before = this.#namesTold;
      const { promise, resolve } = Promise.withResolvers<void>();
      const listener = { names, resolve };
      this.#listeners.add(listener);
      await endedWithin(promise, stallMaxMs);
      this.#listeners.delete(listener);
    }
  }

  /**
   * The pages that the kernel has of a content are not needed any more: what was released gives its memory back, too,
   * and `ebb release` means that the next read is a recall. They were no wrong bytes, so nothing depends on it.
   */
  released(nodeId: number): void {
    if (this.#contents.length >= queuedContentsMax) return;
    this.#contents.push(nodeId);
    this.#writeNext();
  }

  /** Nothing is written any more: the descriptor's number may soon mean something else. */
  disconnect(): void {
    this.#device = undefined;
    this.#tell = undefined;
    this.#names = new NameQueue();
    this.#contents = [];
    this.#namesTold = this.#namesQueued;
    this.#wakeListeners();
  }

  #writeNext(): void {
    if (this.#writing || this.#device === undefined) return;
    const next = this.#names.shift();
    const contentId = next === undefined ? this.#contents.shift() : undefined;
    if (next === undefined && contentId === undefined) return;
    const message =
      next === undefined
        ? encodeInvalidateInode(contentId ?? 0)
        : encodeInvalidateEntry(next.directoryId, next.name);
    this.#writing = true;
    // ENOENT: the kernel did not know the name, which is as good. After unmounting nothing matters.
    write(this.#device, message, 0, message.length, null, () => {
      this.#writing = false;
      if (next !== undefined && this.#namesTold < this.#namesQueued) this.#namesTold += 1;
      this.#wakeListeners();
      this.#writeNext();
    });
  }

  #wakeListeners(): void {
    for (const listener of this.#listeners) {
      if (this.#namesTold < listener.names) continue;
      this.#listeners.delete(listener);
      listener.resolve();
    }
  }
}
