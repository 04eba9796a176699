/**
 * The `Call` of the request that a session is handling: reused from request to request. It knows
 * whether it was answered, so that every request gets exactly one answer.
 */
import { assert } from '../base/assert.ts';
import type {
  Attributes,
  Call,
  DeferredCall,
  DirectoryBuffer,
  Entry,
  FilesystemStatistics,
} from './filesystem.ts';
import type { Replier } from './replier.ts';
import type { WireBuffer } from './wire/buffer.ts';

export type CallState = 'idle' | 'open' | 'answered' | 'deferred';

export class SessionCall implements Call {
  readonly #replier: Replier;
  #state: CallState = 'idle';
  opcode = 0;
  unique = 0;
  resent = false;
  nodeId = 0;
  uid = 0;
  gid = 0;
  pid = 0;
  killSuidGid = false;
  /** READDIR, READDIRPLUS: the size that was asked for. */
  directorySizeBytes = 0;
  directoryPlus = false;

  constructor(replier: Replier) {
    this.#replier = replier;
  }

  get state(): CallState {
    return this.#state;
  }

  /** A new request; the fields were filled in by the session. */
  start(): void {
    this.#state = 'open';
    this.killSuidGid = false;
    this.directorySizeBytes = 0;
  }

  /** The method returned: whoever still holds this object may not answer with it any more. */
  finish(): void {
    this.#state = 'idle';
  }

  defer(): DeferredCall {
    this.#take('deferred');
    return { unique: this.unique, resent: this.resent };
  }

  error(errno: number): boolean {
    this.#take('answered');
    return this.#replier.error(this, errno);
  }

  ok(): boolean {
    this.#take('answered');
    return this.#replier.ok(this);
  }

  entry(entry: Entry): boolean {
    this.#take('answered');
    return this.#replier.entry(this, entry);
  }

  attributes(attributes: Attributes, timeoutMs: number): boolean {
    this.#take('answered');
    return this.#replier.attributes(this, attributes, timeoutMs);
  }

  opened(fileHandle: number, openFlags: number, backingId?: number): boolean {
    this.#take('answered');
    return this.#replier.opened(this, fileHandle, openFlags, backingId);
  }

  created(entry: Entry, fileHandle: number, openFlags: number, backingId?: number): boolean {
    this.#take('answered');
    return this.#replier.created(this, entry, fileHandle, openFlags, backingId);
  }

  data(bytes: Uint8Array): boolean {
    this.#take('answered');
    return this.#replier.data(this, bytes);
  }

  dataFromFile(
    fileDescriptor: number,
    offset: number,
    lengthBytes: number,
    minimumBytes = 0,
  ): boolean {
    this.#take('answered');
    return this.#replier.dataFromFile(this, fileDescriptor, offset, lengthBytes, minimumBytes);
  }

  xattrSize(sizeBytes: number): boolean {
    this.#take('answered');
    return this.#replier.xattrSize(this, sizeBytes);
  }

  written(countBytes: number): boolean {
    this.#take('answered');
    return this.#replier.written(this, countBytes);
  }

  statfs(statistics: FilesystemStatistics): boolean {
    this.#take('answered');
    return this.#replier.statfs(this, statistics);
  }

  offset(offsetBytes: number): boolean {
    this.#take('answered');
    return this.#replier.offset(this, offsetBytes);
  }

  directory(): DirectoryBuffer {
    assert(this.directorySizeBytes > 0, 'directory() belongs to READDIR and READDIRPLUS');
    return this.#replier.directory(this.directorySizeBytes, this.directoryPlus);
  }

  directoryDone(): boolean {
    this.#take('answered');
    return this.#replier.directoryDone(this);
  }

  /** For the session: an answer whose body is encoded by `fill` (INIT). */
  answerWith(lengthBytes: number, fill: (buffer: WireBuffer, at: number) => void): boolean {
    this.#take('answered');
    return this.#replier.raw(this, lengthBytes, fill);
  }

  #take(next: CallState): void {
    assert(this.#state === 'open', `a call is answered once (request ${this.unique})`);
    this.#state = next;
  }
}
