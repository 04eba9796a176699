/**
 * A read-only file system without state, so that many threads can serve it, with files that answer
 * in special ways: `pattern` (computed bytes), `deferred` (answered by the main thread), `blocked`
 * (answered only when interrupted), `backed` (read from a file), `passthrough` (the kernel reads
 * that file itself).
 */
import { openSync } from 'node:fs';
import { receiveMessageOnPort } from 'node:worker_threads';
import {
  Errno,
  FOPEN_DIRECT_IO,
  FOPEN_KEEP_CACHE,
  FOPEN_PASSTHROUGH,
  fuseBackingOpen,
  rootNodeId,
} from '../../src/fuse/public.ts';
import type {
  Attributes,
  Call,
  DeferredCall,
  Entry,
  FileSystem,
  FileSystemContext,
} from '../../src/fuse/public.ts';

const files = ['pattern', 'deferred', 'blocked', 'backed', 'passthrough'];
export const patternSizeBytes = 8 * 1024 * 1024 + 13;
export const deferredText = 'answered by the main thread\n';

/** The byte at `offset` of `pattern`. */
export function patternByte(offset: number): number {
  return (offset * 7 + Math.floor(offset / 251)) & 0xff;
}

class PatternFileSystem implements FileSystem {
  readonly #context: FileSystemContext;
  readonly #backingFd: number | undefined;
  readonly #blocked: DeferredCall[] = [];
  readonly #scratch = new Uint8Array(1024 * 1024);
  readonly #counts = { lookups: 0, reads: 0, forgotten: 0 };
  #backingId = 0;

  constructor(context: FileSystemContext, backingPath: string | undefined) {
    this.#context = context;
    this.#backingFd = backingPath === undefined ? undefined : openSync(backingPath, 'r');
  }

  lookup(call: Call, parentId: number, name: Uint8Array): void {
    this.#counts.lookups += 1;
    const index = files.indexOf(Buffer.from(name).toString());
    if (parentId !== rootNodeId || index < 0) call.error(Errno.ENOENT);
    else call.entry(entryOf(index));
  }

  getattr(call: Call, nodeId: number): void {
    call.attributes(attributesOf(nodeId), 0);
  }

  readdir(call: Call, _nodeId: number, _handle: number, offset: number, plus: boolean): void {
    const answer = call.directory();
    for (let index = offset; index < files.length; index += 1) {
      const name = Buffer.from(files[index] ?? '');
      const { nodeId, attributes } = entryOf(index);
      const fits = plus
        ? answer.addPlus(name, nodeId, attributes.mode, index + 1, entryOf(index))
        : answer.add(name, nodeId, attributes.mode, index + 1);
      if (!fits) break;
    }
    call.directoryDone();
  }

  statfs(call: Call): void {
    const size = { blockSizeBytes: 4096, fragmentSizeBytes: 4096, nameMaxBytes: 255 };
    const none = { blocks: 0, blocksFree: 0, blocksAvailable: 0, filesFree: 0 };
    call.statfs({ ...size, ...none, files: files.length });
  }

  open(call: Call, nodeId: number): void {
    const name = files[nodeId - 2];
    if (name === 'passthrough') {
      if (this.#backingId <= 0) {
        this.#backingId = fuseBackingOpen(
          this.#context.deviceFileDescriptor,
          this.#backingFd ?? -1,
        );
      }
      if (this.#backingId < 0) call.error(-this.#backingId);
      else call.opened(0, FOPEN_PASSTHROUGH, this.#backingId);
    } else call.opened(0, name === 'blocked' ? FOPEN_DIRECT_IO : FOPEN_KEEP_CACHE);
  }

  read(call: Call, nodeId: number, _handle: number, offset: number, sizeBytes: number): void {
    this.#counts.reads += 1;
    switch (files[nodeId - 2]) {
      case 'pattern':
        return void call.data(this.#pattern(offset, sizeBytes));
      case 'deferred':
        return this.#context.port.postMessage({ answer: call.defer(), text: deferredText });
      case 'blocked':
        if (call.resent) return void call.data(Buffer.from('resent'));
        this.#blocked.push(call.defer());
        return this.#context.port.postMessage('blocked');
      default:
        return void call.dataFromFile(this.#backingFd ?? -1, offset, sizeBytes);
    }
  }

  interrupt(unique: number): void {
    const index = this.#blocked.findIndex((call) => call.unique === unique);
    const [call] = index < 0 ? [] : this.#blocked.splice(index, 1);
    if (call === undefined) return;
    const taken = this.#context.replier.error(call, Errno.EINTR);
    this.#context.port.postMessage(`interrupted ${taken}`);
  }

  forget(nodeId: number): void {
    this.#counts.forgotten = nodeId;
  }

  retrieved(notifyUnique: number, nodeId: number, offset: number, data: Uint8Array): void {
    const text = Buffer.from(data).toString();
    this.#context.port.postMessage(`retrieved ${notifyUnique} ${nodeId} ${offset} ${text}`);
  }

  wakeup(): void {
    for (;;) {
      const received = receiveMessageOnPort(this.#context.port);
      if (received === undefined) return;
      const said: unknown = received.message;
      if (said !== 'counts') this.#context.port.postMessage(`echo ${String(said)}`);
      else this.#context.port.postMessage({ ...this.#counts });
    }
  }

  #pattern(offset: number, sizeBytes: number): Uint8Array {
    const count = Math.max(0, Math.min(sizeBytes, patternSizeBytes - offset));
    for (let index = 0; index < count; index += 1) {
      this.#scratch[index] = patternByte(offset + index);
    }
    return this.#scratch.subarray(0, count);
  }
}

function attributesOf(nodeId: number): Attributes {
  const name = files[nodeId - 2];
  const sizeBytes =
    name === undefined ? 0 : name === 'deferred' ? deferredText.length : patternSizeBytes;
  return {
    ino: nodeId,
    sizeBytes,
    blocks: Math.ceil(sizeBytes / 512),
    atimeSeconds: 0,
    atimeNanoseconds: 0,
    mtimeSeconds: 0,
    mtimeNanoseconds: 0,
    ctimeSeconds: 0,
    ctimeNanoseconds: 0,
    mode: name === undefined ? 0o040755 : 0o100644,
    nlink: 1,
    uid: 0,
    gid: 0,
    rdev: 0,
    blockSizeBytes: 4096,
  };
}

function entryOf(index: number): Entry {
  const nodeId = index + 2;
  return {
    nodeId,
    generation: 0,
    entryTimeoutMs: 60_000,
    attributeTimeoutMs: 60_000,
    attributes: attributesOf(nodeId),
  };
}

export function createFileSystem(workerData: unknown, context: FileSystemContext): FileSystem {
  const { backingPath } = (workerData ?? {}) as { backingPath?: string };
  return new PatternFileSystem(context, backingPath);
}
