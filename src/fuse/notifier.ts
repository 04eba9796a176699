/**
 * Messages to the kernel that nobody asked for: forget what you cached, drop this name, take these
 * pages.
 *
 * Callable from any thread on the same descriptor; one Notifier belongs to one thread. The kernel
 * takes locks for them (of the directory for names, of the pages for content) that a request may
 * hold that waits for its answer. So never notify while handling a request of the same node, and
 * never from the thread that answers deferred calls: it would wait for itself (libfuse
 * README.notifications). Such a thread encodes the message (`encodeInvalidateEntry`,
 * `encodeInvalidateInode`) and has another thread write it, e.g. `fs.write`.
 *
 * Methods return false when the kernel does not know the node or name (ENOENT: nothing was cached,
 * which is as good). Other refusals are thrown: EINVAL for a kernel that does not know the code,
 * ENOTEMPTY or EBUSY from `deleteEntry`.
 */
import { assert } from '../base/assert.ts';
import { errnoCodeOf } from '../base/errno.ts';
import { ebbError } from '../base/errors.ts';
import { EXPIRE_ONLY, NotifyCode } from './constants.ts';
import { isGone } from './replier.ts';
import { WireBuffer } from './wire/buffer.ts';
import {
  notifyDeleteOut,
  notifyInvalEntryOut,
  notifyInvalInodeOut,
  notifyPollWakeupOut,
  notifyPruneOut,
  notifyRetrieveOut,
  notifyStoreOut,
  outHeader,
} from './wire/replies.ts';
import type { Transport } from './transport.ts';

const headerBytes = outHeader.sizeBytes;
/** Longest name that travels in a notification (NAME_MAX). */
const nameMaximumBytes = 255;
/** Node ids per PRUNE message; longer lists are sent in parts. */
const pruneBatchNodes = 512;
/** Bytes per STORE message; longer ones are sent in parts. */
const storeBatchBytes = 128 * 1024;
/** Header, the largest struct, a name and its NUL. */
const smallMessageBytes = 512;

/** Keeps the message instead of sending it. */
class Capture implements Transport {
  message = new Uint8Array(0);

  send(bytes: Uint8Array, lengthBytes: number): number {
    this.message = bytes.slice(0, lengthBytes);
    return 0;
  }

  readFile(): number {
    return 0;
  }
}

/** A whole INVAL_INODE message, for somebody else to write. See `Notifier.invalidateInode`. */
export function encodeInvalidateInode(
  nodeId: number,
  offset = 0,
  lengthBytes = 0,
): Uint8Array<ArrayBuffer> {
  const captured = new Capture();
  new Notifier(captured).invalidateInode(nodeId, offset, lengthBytes);
  return captured.message;
}

/** A whole INVAL_ENTRY message, for somebody else to write. See `Notifier.invalidateEntry`. */
export function encodeInvalidateEntry(
  parentId: number,
  name: Uint8Array,
  expireOnly = false,
): Uint8Array<ArrayBuffer> {
  const captured = new Capture();
  new Notifier(captured).invalidateEntry(parentId, name, expireOnly);
  return captured.message;
}

export class Notifier {
  readonly #transport: Transport;
  #buffer = new WireBuffer(smallMessageBytes);

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * The attributes of the node are no longer valid, nor its pages from `offset` on (`lengthBytes`
   * 0: to the end). A negative offset spares the pages and drops the attributes alone.
   */
  invalidateInode(nodeId: number, offset = 0, lengthBytes = 0): boolean {
    notifyInvalInodeOut.encode(this.#buffer, headerBytes, {
      ino: nodeId,
      off: offset,
      len: lengthBytes,
    });
    return this.#send(NotifyCode.INVAL_INODE, notifyInvalInodeOut.sizeBytes);
  }

  /**
   * The name is no longer valid. With `expireOnly` it is looked up again at its next use, but not
   * dropped.
   */
  invalidateEntry(parentId: number, name: Uint8Array, expireOnly = false): boolean {
    notifyInvalEntryOut.encode(this.#buffer, headerBytes, {
      parent: parentId,
      namelen: name.length,
      flags: expireOnly ? EXPIRE_ONLY : 0,
    });
    const nameBytes = this.#putName(notifyInvalEntryOut.sizeBytes, name);
    return this.#send(NotifyCode.INVAL_ENTRY, notifyInvalEntryOut.sizeBytes + nameBytes);
  }

  /**
   * The name is gone, if it still names `childId`: as `invalidateEntry`, and watchers (inotify) are
   * told.
   */
  deleteEntry(parentId: number, childId: number, name: Uint8Array): boolean {
    notifyDeleteOut.encode(this.#buffer, headerBytes, {
      parent: parentId,
      child: childId,
      namelen: name.length,
    });
    const nameBytes = this.#putName(notifyDeleteOut.sizeBytes, name);
    return this.#send(NotifyCode.DELETE, notifyDeleteOut.sizeBytes + nameBytes);
  }

  /**
   * Puts bytes into the node's page cache. Extends the size that the kernel knows when they lie
   * beyond it.
   */
  store(nodeId: number, offset: number, data: Uint8Array): boolean {
    const partBytes = Math.min(data.length, storeBatchBytes);
    this.#reserve(headerBytes + notifyStoreOut.sizeBytes + partBytes);
    for (let done = 0; done < data.length; done += storeBatchBytes) {
      const part = data.subarray(done, done + storeBatchBytes);
      notifyStoreOut.encode(this.#buffer, headerBytes, {
        nodeid: nodeId,
        offset: offset + done,
        size: part.length,
      });
      this.#buffer.bytes.set(part, headerBytes + notifyStoreOut.sizeBytes);
      if (!this.#send(NotifyCode.STORE, notifyStoreOut.sizeBytes + part.length)) return false;
    }
    return true;
  }

  /** Asks for the cached pages; they come as `FileSystem.retrieved(notifyUnique, ...)`. */
  retrieve(nodeId: number, offset: number, sizeBytes: number, notifyUnique: number): boolean {
    notifyRetrieveOut.encode(this.#buffer, headerBytes, {
      notify_unique: notifyUnique,
      nodeid: nodeId,
      offset,
      size: sizeBytes,
    });
    return this.#send(NotifyCode.RETRIEVE, notifyRetrieveOut.sizeBytes);
  }

  /**
   * Asks the kernel to deliver again all requests that were read but not answered (Linux 6.9,
   * 7.40).
   */
  resend(): void {
    this.#send(NotifyCode.RESEND, 0);
  }

  /**
   * Every cached name is looked up again at its next use (Linux 6.16, 7.44). It is dropped before, directories, too:
   * what is mounted below them is detached, in all mount namespaces.
   */
  incrementEpoch(): void {
    this.#send(NotifyCode.INC_EPOCH, 0);
  }

  /** Nodes that nobody uses are forgotten at once; open ones stay (Linux 6.18, 7.45). */
  prune(nodeIds: readonly number[]): void {
    const partNodes = Math.min(nodeIds.length, pruneBatchNodes);
    this.#reserve(headerBytes + notifyPruneOut.sizeBytes + partNodes * 8);
    for (let done = 0; done < nodeIds.length; done += pruneBatchNodes) {
      const part = nodeIds.slice(done, done + pruneBatchNodes);
      notifyPruneOut.encode(this.#buffer, headerBytes, { count: part.length });
      const firstAt = headerBytes + notifyPruneOut.sizeBytes;
      part.forEach((nodeId, index) => this.#buffer.set64(firstAt + index * 8, nodeId));
      this.#send(NotifyCode.PRUNE, notifyPruneOut.sizeBytes + part.length * 8);
    }
  }

  /** After a POLL that asked for it. */
  pollWakeup(pollHandle: number): boolean {
    notifyPollWakeupOut.encode(this.#buffer, headerBytes, { kh: pollHandle });
    return this.#send(NotifyCode.POLL, notifyPollWakeupOut.sizeBytes);
  }

  /** Grows the buffer, for the few that notify more than names. */
  #reserve(lengthBytes: number): void {
    if (lengthBytes > this.#buffer.capacityBytes) this.#buffer = new WireBuffer(lengthBytes);
  }

  /** Name and NUL after the struct. Returns how many bytes that is. */
  #putName(structBytes: number, name: Uint8Array): number {
    assert(name.length > 0 && name.length <= nameMaximumBytes, 'a name has 1 to 255 bytes');
    const at = headerBytes + structBytes;
    this.#buffer.bytes.set(name, at);
    this.#buffer.bytes[at + name.length] = 0;
    return name.length + 1;
  }

  #send(code: number, bodyBytes: number): boolean {
    const words = this.#buffer.words;
    const lengthBytes = headerBytes + bodyBytes;
    words[0] = lengthBytes;
    words[1] = code;
    words[2] = 0;
    words[3] = 0;
    const failure = this.#transport.send(this.#buffer.bytes, lengthBytes);
    if (failure === 0) return true;
    if (isGone(failure)) return false;
    throw ebbError(errnoCodeOf(failure) ?? 'EIO', `the kernel refused notification ${code}`);
  }
}
