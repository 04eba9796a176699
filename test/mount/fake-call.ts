/** Kernel requests without a kernel: records what was answered, and insists on one answer each. */
import assert from 'node:assert/strict';
import { readSync } from 'node:fs';
import type {
  Attributes,
  Call,
  DeferredCall,
  DirectoryBuffer,
  Entry,
  FilesystemStatistics,
} from '../../src/fuse/filesystem.ts';
import type { DeferredAnswers } from '../../src/mount/answerer.ts';

export type Reply =
  | { readonly kind: 'error'; readonly errno: number }
  | { readonly kind: 'ok' }
  | { readonly kind: 'entry'; readonly entry: Entry }
  | { readonly kind: 'attributes'; readonly attributes: Attributes; readonly timeoutMs: number }
  | {
      readonly kind: 'opened';
      readonly fileHandle: number;
      readonly flags: number;
      readonly backingId: number;
    }
  | { readonly kind: 'data'; readonly bytes: Buffer }
  | { readonly kind: 'size'; readonly value: number }
  | { readonly kind: 'offset'; readonly value: number }
  | { readonly kind: 'statfs'; readonly statistics: FilesystemStatistics }
  | { readonly kind: 'directory'; readonly entries: readonly ListedEntry[] };

export interface ListedEntry {
  readonly name: string;
  readonly ino: number;
  readonly nextOffset: number;
  readonly entry: Entry | undefined;
}

/** The kernel as the front end sees it: requests by number, each answered once. */
export class FakeKernel implements DeferredAnswers {
  readonly replies = new Map<number, Reply>();
  /** Requests that are gone: answers to them are not wanted. */
  readonly gone = new Set<number>();
  /** Set: answers of this kind throw. */
  refuses: Reply['kind'] | undefined;
  #nextUnique = 2;

  call(more: { pid?: number; directoryEntries?: number } = {}): FakeCall {
    const unique = this.#nextUnique;
    this.#nextUnique += 2;
    return new FakeCall(this, unique, more);
  }

  take({ unique }: DeferredCall, reply: Reply): boolean {
    if (this.refuses === reply.kind) throw new Error('the kernel refused an answer');
    assert.ok(!this.replies.has(unique), `request ${unique} is answered once`);
    this.replies.set(unique, reply);
    return !this.gone.has(unique);
  }

  error(call: DeferredCall, errno: number): boolean {
    return this.take(call, { kind: 'error', errno });
  }

  entry(call: DeferredCall, entry: Entry): boolean {
    return this.take(call, { kind: 'entry', entry });
  }

  attributes(call: DeferredCall, attributes: Attributes, timeoutMs: number): boolean {
    return this.take(call, { kind: 'attributes', attributes, timeoutMs });
  }

  opened(call: DeferredCall, fileHandle: number, flags: number, backingId = 0): boolean {
    return this.take(call, { kind: 'opened', fileHandle, flags, backingId });
  }

  dataFromFile(
    call: DeferredCall,
    descriptor: number,
    offset: number,
    lengthBytes: number,
    minimumBytes: number,
  ): boolean {
    const bytes = Buffer.alloc(lengthBytes);
    const count = readSync(descriptor, bytes, 0, lengthBytes, offset);
    if (count < minimumBytes) return this.error(call, 5);
    return this.take(call, { kind: 'data', bytes: bytes.subarray(0, count) });
  }
}

export class FakeCall implements Call {
  readonly opcode = 0;
  readonly nodeId = 0;
  readonly uid = 0;
  readonly gid = 0;
  readonly pid: number;
  readonly resent = false;
  readonly killSuidGid = false;
  readonly unique: number;
  isDeferred = false;
  readonly #kernel: FakeKernel;
  readonly #directoryEntries: number;
  readonly #entries: ListedEntry[] = [];

  constructor(
    kernel: FakeKernel,
    unique: number,
    { pid = 1, directoryEntries = 1_000_000 }: { pid?: number; directoryEntries?: number },
  ) {
    this.#kernel = kernel;
    this.unique = unique;
    this.pid = pid;
    this.#directoryEntries = directoryEntries;
  }

  /** What the kernel was told; undefined while it waits. */
  get reply(): Reply | undefined {
    return this.#kernel.replies.get(this.unique);
  }

  get errno(): number | undefined {
    return this.reply?.kind === 'error' ? this.reply.errno : undefined;
  }

  /** The reply, which must be of this kind. */
  expect<Kind extends Reply['kind']>(kind: Kind): Extract<Reply, { kind: Kind }> {
    const { reply } = this;
    assert.equal(reply?.kind, kind, JSON.stringify(reply));
    return reply as Extract<Reply, { kind: Kind }>;
  }

  defer(): DeferredCall {
    assert.ok(!this.isDeferred && this.reply === undefined, 'deferred once, before an answer');
    this.isDeferred = true;
    return { unique: this.unique, resent: false };
  }

  error(errno: number): boolean {
    return this.#take({ kind: 'error', errno });
  }

  ok(): boolean {
    return this.#take({ kind: 'ok' });
  }

  entry(entry: Entry): boolean {
    return this.#take({ kind: 'entry', entry });
  }

  attributes(attributes: Attributes, timeoutMs: number): boolean {
    return this.#take({ kind: 'attributes', attributes, timeoutMs });
  }

  opened(fileHandle: number, flags: number, backingId = 0): boolean {
    return this.#take({ kind: 'opened', fileHandle, flags, backingId });
  }

  created(): boolean {
    throw new Error('nothing is created on this mount');
  }

  data(bytes: Uint8Array): boolean {
    return this.#take({ kind: 'data', bytes: Buffer.from(bytes) });
  }

  dataFromFile(descriptor: number, offset: number, lengthBytes: number, minimum = 0): boolean {
    return this.#kernel.dataFromFile(this.defer(), descriptor, offset, lengthBytes, minimum);
  }

  xattrSize(value: number): boolean {
    return this.#take({ kind: 'size', value });
  }

  written(): boolean {
    throw new Error('nothing is written on this mount');
  }

  statfs(statistics: FilesystemStatistics): boolean {
    return this.#take({ kind: 'statfs', statistics });
  }

  offset(value: number): boolean {
    return this.#take({ kind: 'offset', value });
  }

  directory(): DirectoryBuffer {
    const add = (name: Uint8Array, ino: number, nextOffset: number, entry?: Entry): boolean => {
      if (this.#entries.length >= this.#directoryEntries) return false;
      this.#entries.push({ name: Buffer.from(name).toString(), ino, nextOffset, entry });
      return true;
    };
    return {
      add: (name, ino, _mode, nextOffset) => add(name, ino, nextOffset),
      addPlus: (name, ino, _mode, nextOffset, entry) => add(name, ino, nextOffset, entry),
    };
  }

  directoryDone(): boolean {
    return this.#take({ kind: 'directory', entries: this.#entries });
  }

  #take(reply: Reply): boolean {
    assert.ok(!this.isDeferred, 'a deferred call is answered through the replier');
    return this.#kernel.take(this, reply);
  }
}
