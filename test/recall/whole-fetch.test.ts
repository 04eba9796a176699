/** Files fetched whole: into memory or through a spool file, counted before a byte of them is believed. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { ManualClock } from '../../src/base/clock.ts';
import { encodeName } from '../../src/base/name.ts';
import { ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import type { Node } from '../../src/catalog/catalog.ts';
import { MemoryCatalog } from '../../src/catalog/memory/catalog.ts';
import { Namespace } from '../../src/recall/namespace/namespace.ts';
import { isTransferVersion } from '../../src/recall/namespace/reconcile.ts';
import { WholeFetch } from '../../src/recall/namespace/whole-fetch.ts';
import type { Fetched } from '../../src/recall/namespace/whole-fetch.ts';
import type { ObjectAttributes, RangeSink, ReadOptions, Remote } from '../../src/remote/remote.ts';
import { patternBytes } from '../support/pattern.ts';
import { LocalFile, isCode } from './support.ts';

const MiB = 1024 * 1024;

/** One file `a` of which the test says what is announced, sent, and when. */
class OneFile implements Remote {
  readonly kind = 'one';
  readonly displayName = 'one:';
  readonly supportsRanges = true;
  readonly bytes: Uint8Array;
  announced: ObjectAttributes;
  reads = 0;
  stepBytes = 100_000;
  /** Called before each step. */
  beforeStep: (doneBytes: number, signal: AbortSignal) => Promise<void> | void = () => undefined;

  constructor(bytes: Uint8Array, announced: Partial<ObjectAttributes> = {}) {
    this.bytes = bytes;
    this.announced = { kind: 'file', ...announced };
  }

  async *list(): AsyncGenerator<{ objects: { name: string; kind: 'file' }[]; skipped: [] }> {
    yield { objects: [{ name: 'a', kind: 'file' }], skipped: [] };
  }

  async stat(): Promise<ObjectAttributes> {
    return this.announced;
  }

  async read(_key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    this.reads += 1;
    assert.equal(options.version, undefined);
    sink.head(this.announced);
    for (let at = 0; at < this.bytes.length;) {
      await this.beforeStep(at, options.signal);
      options.signal.throwIfAborted();
      const into = sink.buffer();
      const count = Math.min(into.length, this.stepBytes, this.bytes.length - at);
      into.set(this.bytes.subarray(at, at + count));
      at += count;
      await sink.filled(count);
    }
  }

  async close(): Promise<void> {}
}

class Scene implements AsyncDisposable {
  readonly catalog = new MemoryCatalog();
  readonly clock = new ManualClock();
  readonly spool = mkdtempSync(path.join(tmpdir(), 'ebb-spool-'));
  readonly files = new Map<number, LocalFile>();
  readonly fetched: Fetched[] = [];
  readonly reserved: number[] = [];
  readonly namespace: Namespace;
  readonly whole: WholeFetch;
  beforeWrite: (offsetBytes: number) => void | Promise<void> = () => undefined;

  constructor(remote: Remote, stallMaxMs = 5_000) {
    const { catalog, clock } = this;
    this.namespace = new Namespace({
      catalog,
      remote,
      clock,
      ttlMs: 60_000,
      deadlineMs: 5_000,
      onChange: () => undefined,
      onProblem: () => undefined,
    });
    this.whole = new WholeFetch({
      namespace: this.namespace,
      remote,
      spoolDirectory: this.spool,
      stallMaxMs,
      contentOf: (node, key) => this.#contentOf(node, key),
      discard: () => undefined,
      reserve: (bytes) => void this.reserved.push(bytes),
      onFetched: (one) => this.fetched.push(one),
    });
  }

  #contentOf(node: Node, key: string): LocalFile {
    const known = this.files.get(node.id);
    if (known !== undefined) return known;
    const file = new LocalFile({
      id: node.id,
      key,
      version: node.version ?? '',
      sizeBytes: node.sizeBytes,
      beforeWrite: (offset) => this.beforeWrite(offset),
    });
    this.files.set(node.id, file);
    return file;
  }

  async id(): Promise<number> {
    await this.namespace.list(ROOT_NODE_ID);
    return this.catalog.child(ROOT_NODE_ID, encodeName('a'))?.id ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.whole.close();
    await this.namespace.close();
    for (const file of this.files.values()) file[Symbol.dispose]();
    rmSync(this.spool, { recursive: true });
  }
}

for (const sizeBytes of [0, 1, MiB, MiB + 1, 5 * MiB + 3]) {
  for (const isAnnounced of [true, false]) {
    test(`${sizeBytes} bytes, ${isAnnounced ? 'announced' : 'of unknown length'}`, async () => {
      const remote = new OneFile(patternBytes(1, sizeBytes), isAnnounced ? { sizeBytes } : {});
      await using scene = new Scene(remote);
      const node = await scene.whole.fetch(await scene.id(), 64 * MiB);
      assert.equal(node.sizeBytes, sizeBytes);
      assert.ok(node.exact && isTransferVersion(node.version));
      const file = scene.files.get(node.id);
      assert.ok(file?.residency.complete);
      assert.equal(file.differenceTo(1, 0, sizeBytes), -1);
      assert.deepEqual(readdirSync(scene.spool), []);
      assert.equal(scene.fetched[0]?.bytes, sizeBytes);
      if (sizeBytes > 0) assert.ok(scene.reserved.includes(sizeBytes), 'room is asked for');
    });
  }
}

test('more or less than announced is EIO, and nothing of it is kept', async () => {
  for (const sizeBytes of [999, 1001]) {
    await using scene = new Scene(new OneFile(patternBytes(1, 1000), { sizeBytes }));
    await assert.rejects(scene.whole.fetch(await scene.id(), MiB), isCode('EIO'));
    assert.equal(scene.files.size, 0);
  }
});

test('a file larger than asked for is EFBIG, announced or not', async () => {
  for (const announced of [{ sizeBytes: 3 * MiB }, {}]) {
    await using scene = new Scene(new OneFile(patternBytes(1, 3 * MiB), announced));
    await assert.rejects(scene.whole.fetch(await scene.id(), MiB), isCode('EFBIG'));
    assert.equal(scene.files.size, 0);
    assert.deepEqual(readdirSync(scene.spool), []);
  }
});

test('many callers share one transfer; who gives up does not end it for the others', async () => {
  const remote = new OneFile(patternBytes(1, 1000));
  await using scene = new Scene(remote);
  const id = await scene.id();
  const controller = new AbortController();
  const first = scene.whole.fetch(id, MiB, controller.signal, { pid: 7, uid: 0, gid: 0 });
  const second = scene.whole.fetch(id, MiB);
  assert.equal(scene.whole.has(id), true);
  controller.abort();
  await assert.rejects(first, isCode('EINTR'));
  assert.equal((await second).sizeBytes, 1000);
  assert.equal(remote.reads, 1);
  assert.equal(scene.fetched[0]?.requester?.pid, 7);
  assert.equal(scene.whole.has(id), false);
});

test('who may have more is not refused because a modest caller came first', async () => {
  await using scene = new Scene(new OneFile(patternBytes(1, 3 * MiB)));
  const id = await scene.id();
  const modest = scene.whole.fetch(id, MiB);
  const generous = scene.whole.fetch(id, 10 * MiB);
  await assert.rejects(modest, isCode('EFBIG'));
  assert.equal((await generous).sizeBytes, 3 * MiB);
});

test('a remote that stalls is given up, one that is only slow is not', async () => {
  const remote = new OneFile(patternBytes(1, 500_000));
  await using scene = new Scene(remote, 1_000);
  const id = await scene.id();
  remote.beforeStep = async (doneBytes, signal) => {
    if (doneBytes < 200_000) return;
    await new Promise<void>((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    });
  };
  await assert.rejects(scene.whole.fetch(id, MiB), isCode('ETIMEDOUT'));
  // All of it takes longer than that.
  remote.beforeStep = () => new Promise((resolve) => setTimeout(resolve, 150));
  assert.equal((await scene.whole.fetch(id, MiB)).sizeBytes, 500_000);
});

test('closing gives up what is under way at once', async () => {
  const remote = new OneFile(patternBytes(1, 1000));
  await using scene = new Scene(remote);
  remote.beforeStep = (_doneBytes, signal) =>
    new Promise<void>((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    });
  const fetching = assert.rejects(scene.whole.fetch(await scene.id(), MiB), isCode('EINTR'));
  await new Promise((resolve) => setTimeout(resolve, 10));
  // The remote never goes on by itself.
  await scene.whole.close();
  await fetching;
  await assert.rejects(scene.whole.fetch(2, MiB), isCode('EINTR'));
});

test('while content is written into a file, the file says so: nobody may release it', async () => {
  await using scene = new Scene(new OneFile(patternBytes(1, 3 * MiB)));
  const id = await scene.id();
  const seen = new Set<boolean>();
  scene.beforeWrite = () => void seen.add(scene.whole.isPouring(id));
  await scene.whole.fetch(id, 10 * MiB);
  assert.deepEqual([...seen], [true]);
  assert.equal(scene.whole.isPouring(id), false);
});

test('a write that fails leaves nothing claimed, and the next fetch begins anew', async () => {
  const remote = new OneFile(patternBytes(1, 3 * MiB));
  await using scene = new Scene(remote);
  const id = await scene.id();
  scene.beforeWrite = (offsetBytes) => {
    if (offsetBytes > MiB) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
  };
  await assert.rejects(scene.whole.fetch(id, 10 * MiB));
  assert.equal([...scene.files.values()][0]?.residency.residentBytes, 0);
  assert.equal(scene.whole.isPouring(id), false);
  scene.beforeWrite = () => undefined;
  const node = await scene.whole.fetch(id, 10 * MiB);
  assert.notEqual(node.id, id);
  assert.equal(scene.files.get(node.id)?.residency.complete, true);
});

test('a disk that loses a piece while the next are written: nothing is claimed, the next begins anew', async () => {
  const remote = new OneFile(patternBytes(1, 3 * MiB));
  await using scene = new Scene(remote);
  const id = await scene.id();
  scene.beforeWrite = (offsetBytes) => {
    if (offsetBytes === 0) return;
    scene.beforeWrite = () => undefined;
    for (const file of scene.files.values()) file.losses += 1;
  };
  await assert.rejects(scene.whole.fetch(id, 10 * MiB), isCode('EIO'));
  assert.equal([...scene.files.values()][0]?.residency.residentBytes, 0);
  const node = await scene.whole.fetch(id, 10 * MiB);
  assert.equal(scene.files.get(node.id)?.residency.complete, true);
});
