/**
 * Answers requests: encodes into one buffer of its own and hands it over as one write. Any thread
 * may answer any request that was read from the same open file description, so the main thread
 * keeps a `Replier` for the calls that its session threads deferred. One Replier belongs to one
 * thread.
 *
 * Every answer method returns whether the kernel took it. False means that the request is gone
 * (ENOENT: the caller was killed or interrupted, or the connection ended): a reference or an open
 * count that the answer would have handed over must be taken back.
 */
import { assert } from '../base/assert.ts';
import { Errno, errnoCodeOf } from '../base/errno.ts';
import { ebbError } from '../base/errors.ts';
import { uniqueResendHighBit } from './constants.ts';
import { WireBuffer } from './wire/buffer.ts';
import {
  DirectoryWriter,
  encodeAttrOut,
  encodeEntry,
  encodeOpen,
  encodeStatfs,
} from './wire/encode.ts';
import { attrOut, entryOut, openOut, outHeader, statfsOut } from './wire/replies.ts';
import type {
  Attributes,
  DeferredCall,
  DirectoryBuffer,
  Entry,
  FilesystemStatistics,
} from './filesystem.ts';
import type { Transport } from './transport.ts';

const headerBytes = outHeader.sizeBytes;
/** The kernel refuses errors of 512 and more (they are its internal restart codes). */
const errnoMaximum = 511;
const twoTo32 = 4_294_967_296;

/** The largest READ or READDIR answer with fs.fuse.max_pages_limit at its default of 256 pages. */
export const replyDataDefaultBytes = 1024 * 1024;

export class Replier {
  readonly #transport: Transport;
  readonly #buffer: WireBuffer;
  /** The part of the buffer behind the header. */
  readonly #body: Uint8Array;
  readonly #directory: DirectoryWriter;
  readonly dataMaximumBytes: number;

  /**
   * `dataMaximumBytes`: the largest answer without its header; not less than the connection's
   * largest READ.
   */
  constructor(transport: Transport, dataMaximumBytes: number = replyDataDefaultBytes) {
    this.#transport = transport;
    this.dataMaximumBytes = dataMaximumBytes;
    this.#buffer = new WireBuffer(headerBytes + dataMaximumBytes);
    this.#body = this.#buffer.bytes.subarray(headerBytes);
    this.#directory = new DirectoryWriter(this.#buffer);
  }

  /** 0 < errno < 512. */
  error(call: DeferredCall, errno: number): boolean {
    assert(
      Number.isInteger(errno) && errno > 0 && errno <= errnoMaximum,
      `errno ${errno} can be sent`,
    );
    return this.#send(call, 0, -errno);
  }

  /** Success without a body. */
  ok(call: DeferredCall): boolean {
    return this.#send(call, 0, 0);
  }

  entry(call: DeferredCall, entry: Entry): boolean {
    encodeEntry(this.#buffer, headerBytes, entry);
    return this.#send(call, entryOut.sizeBytes, 0);
  }

  attributes(call: DeferredCall, attributes: Attributes, timeoutMs: number): boolean {
    encodeAttrOut(this.#buffer, headerBytes, attributes, timeoutMs);
    return this.#send(call, attrOut.sizeBytes, 0);
  }

  opened(call: DeferredCall, fileHandle: number, openFlags: number, backingId = 0): boolean {
    encodeOpen(this.#buffer, headerBytes, fileHandle, openFlags, backingId);
    return this.#send(call, openOut.sizeBytes, 0);
  }

  created(
    call: DeferredCall,
    entry: Entry,
    fileHandle: number,
    openFlags: number,
    backingId = 0,
  ): boolean {
    encodeEntry(this.#buffer, headerBytes, entry);
    const openAt = headerBytes + entryOut.sizeBytes;
    encodeOpen(this.#buffer, openAt, fileHandle, openFlags, backingId);
    return this.#send(call, entryOut.sizeBytes + openOut.sizeBytes, 0);
  }

  /** READ, READLINK, xattrs. At most `dataMaximumBytes`, and no more than was asked for. */
  data(call: DeferredCall, bytes: Uint8Array): boolean {
    assert(bytes.length <= this.dataMaximumBytes, 'the answer fits the reply buffer');
    this.#body.set(bytes);
    return this.#send(call, bytes.length, 0);
  }

  /**
   * READ from an ordinary file: `lengthBytes` at `offset`, less only where the file ends. A read
   * error becomes that error. When fewer than `minimumBytes` are there the answer is EIO, so that a
   * file which is shorter than it must be can never be read as zeros (the kernel fills a short
   * answer up to the size it knows).
   */
  dataFromFile(
    call: DeferredCall,
    fileDescriptor: number,
    offset: number,
    lengthBytes: number,
    minimumBytes = 0,
  ): boolean {
    if (lengthBytes > this.dataMaximumBytes) return this.error(call, Errno.EIO);
    const count = this.#transport.readFile(fileDescriptor, this.#body, lengthBytes, offset);
    if (count < 0) return this.error(call, -count);
    if (count < minimumBytes) return this.error(call, Errno.EIO);
    return this.#send(call, count, 0);
  }

  /** GETXATTR, LISTXATTR with size 0. */
  xattrSize(call: DeferredCall, sizeBytes: number): boolean {
    this.#buffer.setU32(headerBytes, sizeBytes);
    this.#buffer.setU32(headerBytes + 4, 0);
    return this.#send(call, 8, 0);
  }

  /**
   * WRITE, COPY_FILE_RANGE and COPY_FILE_RANGE_64: fuse_write_out {u32 size, u32 padding} and
   * fuse_copy_file_range_out {u64} are the same bytes for counts below 4 GiB, which all three keep
   * to.
   */
  written(call: DeferredCall, countBytes: number): boolean {
    assert(countBytes >= 0 && countBytes < twoTo32, 'a count is below 4 GiB');
    this.#buffer.set64(headerBytes, countBytes);
    return this.#send(call, 8, 0);
  }

  statfs(call: DeferredCall, statistics: FilesystemStatistics): boolean {
    encodeStatfs(this.#buffer, headerBytes, statistics);
    return this.#send(call, statfsOut.sizeBytes, 0);
  }

  /** LSEEK. */
  offset(call: DeferredCall, offsetBytes: number): boolean {
    this.#buffer.set64(headerBytes, offsetBytes);
    return this.#send(call, 8, 0);
  }

  /**
   * READDIR or READDIRPLUS: a buffer of the size that was asked for (cut to `dataMaximumBytes`).
   * Fill it and answer with `directoryDone` before anything else is answered through this Replier.
   */
  directory(sizeBytes: number, plus: boolean): DirectoryBuffer {
    this.#directory.begin(headerBytes, Math.min(sizeBytes, this.dataMaximumBytes), plus);
    return this.#directory;
  }

  directoryDone(call: DeferredCall): boolean {
    return this.#send(call, this.#directory.endBytes - headerBytes, 0);
  }

  /** For the session: an answer whose body was encoded by `fill` (INIT). */
  raw(
    call: DeferredCall,
    lengthBytes: number,
    fill: (buffer: WireBuffer, at: number) => void,
  ): boolean {
    fill(this.#buffer, headerBytes);
    return this.#send(call, lengthBytes, 0);
  }

  #send(call: DeferredCall, bodyBytes: number, error: number): boolean {
    const words = this.#buffer.words;
    const lengthBytes = headerBytes + bodyBytes;
    words[0] = lengthBytes;
    words[1] = error;
    words[2] = call.unique;
    const high = Math.floor(call.unique / twoTo32);
    words[3] = call.resent ? high | uniqueResendHighBit : high;
    const failure = this.#transport.send(this.#buffer.bytes, lengthBytes);
    if (failure === 0) return true;
    if (isGone(failure)) return false;
    throw ebbError(
      errnoCodeOf(failure) ?? 'EIO',
      `the kernel refused an answer of ${lengthBytes} bytes to request ${call.unique}`,
    );
  }
}

/** ENOENT: no such request. The others: the connection itself ended, and all requests with it. */
export function isGone(errno: number): boolean {
  return (
    errno === Errno.ENOENT ||
    errno === Errno.ENODEV ||
    errno === Errno.EPERM ||
    errno === Errno.ECONNABORTED
  );
}
