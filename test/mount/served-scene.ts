/**
 * The main thread's half of a mount, real from the namespace down to the local files, over a remote in memory that
 * a test can hold up. The FUSE thread is a list of messages.
 */
import assert from 'node:assert/strict';
import { closeSync, mkdirSync, mkdtempSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ManualClock } from '../../src/base/clock.ts';
import { encodeName } from '../../src/base/name.ts';
import { ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import type { Node } from '../../src/catalog/catalog.ts';
import { Contents } from '../../src/daemon/mount/contents.ts';
import { Releaser } from '../../src/daemon/mount/releaser.ts';
import type { DeferredCall, Entry } from '../../src/fuse/filesystem.ts';
import type { ToMain, ToThread } from '../../src/mount/messages.ts';
import { LookupAnswers } from '../../src/mount/lookup-answers.ts';
import type { LookupSettings } from '../../src/mount/lookup-answers.ts';
import { MountServer } from '../../src/mount/server.ts';
import { RecallEngine } from '../../src/recall/engine.ts';
import { Namespace } from '../../src/recall/namespace/namespace.ts';
import { Preparer } from '../../src/recall/namespace/prepare.ts';
import { WholeFetch } from '../../src/recall/namespace/whole-fetch.ts';
import type { Fetched } from '../../src/recall/namespace/whole-fetch.ts';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import type {
  CallOptions,
  ListingBatch,
  ObjectAttributes,
  RangeSink,
  ReadOptions,
} from '../../src/remote/remote.ts';
import { waitFor } from '../support/wait-for.ts';

export const who = { pid: 42, uid: 0, gid: 0 };

/** A remote whose answers can be held back and made vague. */
export class HeldMemoryRemote extends MemoryRemote {
  /** Calls under way or held, by kind, since the start. */
  readonly seen: string[] = [];
  /** Calls of these kinds wait until `letGo`. */
  readonly held = new Set<'stat' | 'read'>();
  /** Nothing but the name and the kind is shown, and no version ever: as a server that chunks everything. */
  showsNothing = false;
  /** Names and sizes are shown, but neither times nor versions: as a server without ETag and Last-Modified. */
  showsSizesOnly = false;
  #waiting: (() => void)[] = [];

  letGo(): void {
    this.held.clear();
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  override async *list(key: string, options: CallOptions): AsyncGenerator<ListingBatch> {
    const isVague = this.showsNothing || this.showsSizesOnly;
    for await (const batch of super.list(key, options)) {
      yield isVague
        ? { ...batch, objects: batch.objects.map(({ name, kind }) => ({ name, kind })) }
        : batch;
    }
  }

  override async stat(key: string, options: CallOptions): Promise<ObjectAttributes> {
    await this.#pass('stat', key, options.signal);
    const attributes = await super.stat(key, options);
    return this.#shown(attributes);
  }

  override async read(key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    await this.#pass('read', key, options.signal);
    if (!this.showsNothing && !this.showsSizesOnly) return await super.read(key, sink, options);
    const vague: RangeSink = {
      head: (attributes) => sink.head(this.#shown(attributes)),
      buffer: () => sink.buffer(),
      filled: (count) => sink.filled(count),
    };
    await super.read(key, vague, options);
  }

  #shown(attributes: ObjectAttributes): ObjectAttributes {
    const { kind, sizeBytes } = attributes;
    if (this.showsNothing) return { kind };
    return this.showsSizesOnly
      ? { kind, ...(sizeBytes === undefined ? {} : { sizeBytes }) }
      : attributes;
  }

  async #pass(kind: 'stat' | 'read', key: string, signal: AbortSignal): Promise<void> {
    this.seen.push(`${kind} ${key}`);
    if (!this.held.has(kind)) return;
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push(resolve);
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    });
  }
}

export type ReadReply = { readonly errno: number } | { readonly bytes: Buffer };

function lookupSettings(ttlMs: number): LookupSettings {
  const modes = { fileMode: 0o444, directoryMode: 0o555 };
  return {
    ttlMs,
    ...modes,
    uid: 1,
    gid: 2,
    startedAtSeconds: 0,
    generationKey: new Uint8Array(16),
  };
}

export class ServedScene implements AsyncDisposable {
  readonly remote = new HeldMemoryRemote();
  readonly clock = new ManualClock();
  readonly directory = mkdtempSync(path.join(tmpdir(), 'ebb-served-'));
  /** Messages for the FUSE thread that nobody took yet. */
  posted: ToThread[] = [];
  readonly reads = new Map<number, ReadReply>();
  /** What LOOKUPs were told, by `unique`. */
  readonly entries = new Map<number, Entry>();
  readonly problems: unknown[] = [];
  /** Who is interrupted is killed; else it was a signal that he survives. */
  isKilled = true;
  readonly fetched: Fetched[] = [];
  readonly contents: Contents;
  readonly namespace: Namespace;
  readonly wholeFetch: WholeFetch;
  readonly preparer: Preparer;
  readonly recall: RecallEngine;
  readonly server: MountServer;
  readonly releaser: Releaser;
  #nextId = 1;

  /** See `scene`. */
  constructor(contents: Contents, directory: string, ttlMs: number) {
    rmSync(this.directory, { recursive: true });
    (this as { directory: string }).directory = directory;
    const { remote, clock } = this;
    const { catalog } = contents;
    const spoolDirectory = path.join(directory, 'spool');
    mkdirSync(spoolDirectory, { recursive: true });
    this.contents = contents;
    this.namespace = new Namespace({
      catalog,
      remote,
      clock,
      ttlMs,
      deadlineMs: 20_000,
      onChange: () => undefined,
      onProblem: () => undefined,
    });
    this.wholeFetch = new WholeFetch({
      namespace: this.namespace,
      remote,
      spoolDirectory,
      stallMaxMs: 20_000,
      contentOf: (node, key) => contents.contentOf(node, key),
      discard: (id) => contents.discardUnrecorded(id),
      onFetched: (fetched) => this.fetched.push(fetched),
    });
    this.preparer = new Preparer(this.namespace, this.wholeFetch, contents);
    const recall = new RecallEngine({ remote });
    this.recall = recall;
    const lookups = new LookupAnswers(catalog, lookupSettings(ttlMs), () => clock.nowMs());
    const entries = {
      entry: ({ unique }: DeferredCall, entry: Entry): boolean => {
        assert.ok(!this.entries.has(unique), `request ${unique} is answered once`);
        this.entries.set(unique, entry);
        return true;
      },
    };
    this.server = new MountServer({
      post: (message) => this.posted.push(message),
      postQuietly: (message) => this.posted.push(message),
      namespace: this.namespace,
      preparer: this.preparer,
      recall,
      contentOf: (nodeId) => contents.get(nodeId),
      preparedOf: () => undefined,
      openLocal: ({ node, file }) => contents.openLocal(node, file.key),
      answers: {
        error: (call, errno) => this.#replied(call, { errno }),
        dataFromContent: (call, file, offset, sizeBytes) => {
          const bytes = Buffer.alloc(sizeBytes);
          file.readSync(bytes, offset);
          return this.#replied(call, { bytes });
        },
      },
      answerLookup: (call, node) => lookups.answer(entries, call, node),
      onAccesses: () => undefined,
      onPrefetch: () => undefined,
      onReadEnded: () => undefined,
      onProblem: (problem) => this.problems.push(problem),
      isEnding: () => this.isKilled,
    });
    this.releaser = new Releaser({
      contents,
      catalog,
      server: this.server,
      isBusy: (id) => recall.isBusy(id) || this.wholeFetch.isPouring(id),
      remote,
      onReleased: () => undefined,
    });
  }

  #replied({ unique }: DeferredCall, reply: ReadReply): boolean {
    assert.ok(!this.reads.has(unique), `request ${unique} is answered once`);
    this.reads.set(unique, reply);
    return true;
  }

  /** Lists the root and gives the node of a name. */
  async node(name: string): Promise<Node> {
    await this.namespace.list(ROOT_NODE_ID);
    return this.child(name);
  }

  child(name: string): Node {
    const node = this.contents.catalog.child(ROOT_NODE_ID, encodeName(name));
    assert.ok(node, `${name} is known`);
    return node;
  }

  /** Asks to open; resolves with the answer, which is no longer in `posted`. */
  async open(nodeId: number): Promise<Extract<ToThread, { kind: 'answer' }>> {
    const id = this.ask(nodeId);
    return await this.answer(id);
  }

  ask(nodeId: number): number {
    const id = this.#nextId;
    this.#nextId += 1;
    this.server.take({ kind: 'open', nodeId, id, unique: id, requester: who });
    return id;
  }

  async answer(id: number): Promise<Extract<ToThread, { kind: 'answer' }>> {
    return await waitFor(
      () => {
        const index = this.posted.findIndex(
          (message) => message.kind === 'answer' && message.id === id,
        );
        const [found] = index < 0 ? [] : this.posted.splice(index, 1);
        return found as Extract<ToThread, { kind: 'answer' }> | undefined;
      },
      { what: `the answer to question ${id}`, intervalMs: 1 },
    );
  }

  /** Waits for a message of this kind and takes it. */
  async message<Kind extends ToThread['kind']>(
    kind: Kind,
  ): Promise<Extract<ToThread, { kind: Kind }>> {
    return await waitFor(
      () => {
        const index = this.posted.findIndex((message) => message.kind === kind);
        const [found] = index < 0 ? [] : this.posted.splice(index, 1);
        return found as Extract<ToThread, { kind: Kind }> | undefined;
      },
      { what: `a message ${kind}`, intervalMs: 1 },
    );
  }

  async read(
    nodeId: number,
    unique: number,
    offsetBytes: number,
    sizeBytes: number,
  ): Promise<ReadReply> {
    this.startRead(nodeId, unique, offsetBytes, sizeBytes);
    return await waitFor(() => this.reads.get(unique), { what: `read ${unique}`, intervalMs: 1 });
  }

  startRead(nodeId: number, unique: number, offsetBytes: number, sizeBytes: number): void {
    const about = { nodeId, streamId: 1, offsetBytes, sizeBytes, requester: who };
    this.server.take({ kind: 'read', unique, resent: false, ...about } satisfies ToMain);
  }

  /** Reads the local file through a descriptor that came with an answer, and closes it. */
  bytesOf(answer: Extract<ToThread, { kind: 'answer' }>, sizeBytes: number): Buffer {
    assert.ok('opened' in answer && answer.opened !== undefined, JSON.stringify(answer));
    const bytes = Buffer.alloc(sizeBytes);
    readSync(answer.opened.descriptor, bytes, 0, sizeBytes, 0);
    closeSync(answer.opened.descriptor);
    return bytes;
  }

  /** The thread lets go of everything it was given of this node. */
  drop(nodeId: number): void {
    this.server.take({ kind: 'dropped', nodeId });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.remote.letGo();
    this.server.close();
    await this.recall.close();
    await this.namespace.close();
    await this.wholeFetch.close();
    await this.contents.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export async function servedScene(ttlMs = 60_000): Promise<ServedScene> {
  const directory = mkdtempSync(path.join(tmpdir(), 'ebb-served-'));
  const problem = (): void => undefined;
  return new ServedScene(await Contents.open(directory, 'memory:', problem), directory, ttlMs);
}
