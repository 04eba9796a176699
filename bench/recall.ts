/**
 * What the recall engine itself costs: a remote that delivers at once, a local file on a page-cached
 * filesystem (TMPDIR). Usage: node bench/recall.ts [MiB]. Prints one line per case.
 */
import { closeSync, fsyncSync, ftruncateSync, mkdtempSync, openSync, rmSync, write } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { RecallEngine } from '../src/recall/engine.ts';
import type { Requester } from '../src/recall/recall.ts';
import type {
  ListingBatch,
  ObjectAttributes,
  RangeSink,
  ReadOptions,
  Remote,
} from '../src/remote/remote.ts';
import type { ContentFile } from '../src/tree/content.ts';
import { Residency } from '../src/tree/residency.ts';

const MiB = 1024 * 1024;
const requester: Requester = { pid: 1, uid: 0, gid: 0 };
const attributes = (sizeBytes: number): ObjectAttributes => ({
  kind: 'file',
  sizeBytes,
  version: 'v',
});

/** Says that every buffer is full, in steps as a socket would, without touching it. */
class NullRemote implements Remote {
  readonly kind = 'null';
  readonly displayName = 'null:';
  readonly supportsRanges = true;
  readonly #sizeBytes: number;
  readonly #stepBytes: number;

  constructor(sizeBytes: number, stepBytes: number) {
    this.#sizeBytes = sizeBytes;
    this.#stepBytes = stepBytes;
  }

  async *list(): AsyncIterable<ListingBatch> {
    yield { objects: [], skipped: [] };
  }

  async stat(): Promise<ObjectAttributes> {
    return attributes(this.#sizeBytes);
  }

  async read(_key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    sink.head(attributes(this.#sizeBytes));
    let left = options.lengthBytes ?? this.#sizeBytes;
    while (left > 0) {
      const count = Math.min(sink.buffer().length, this.#stepBytes, left);
      left -= count;
      const wait = sink.filled(count);
      if (wait !== undefined) await wait;
      options.signal.throwIfAborted();
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** A server at the end of a long line: time to the first byte, and a rate per connection. */
class FarRemote implements Remote {
  readonly kind = 'far';
  readonly displayName = 'far:';
  readonly supportsRanges = true;
  requests = 0;
  readonly #sizeBytes: number;
  readonly #latencyMs: number;
  readonly #bytesPerMs: number;

  constructor(sizeBytes: number, latencyMs: number, bytesPerMs: number) {
    this.#sizeBytes = sizeBytes;
    this.#latencyMs = latencyMs;
    this.#bytesPerMs = bytesPerMs;
  }

  async *list(): AsyncIterable<ListingBatch> {
    yield { objects: [], skipped: [] };
  }

  async stat(): Promise<ObjectAttributes> {
    return attributes(this.#sizeBytes);
  }

  async read(_key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    this.requests += 1;
    await sleep(this.#latencyMs);
    sink.head(attributes(this.#sizeBytes));
    const lengthBytes = options.lengthBytes ?? this.#sizeBytes;
    const startedMs = performance.now();
    let sentBytes = 0;
    while (sentBytes < lengthBytes) {
      options.signal.throwIfAborted();
      await sleep(2);
      const dueBytes = Math.floor((performance.now() - startedMs) * this.#bytesPerMs);
      const limitBytes = Math.min(lengthBytes, dueBytes);
      while (sentBytes < limitBytes) {
        const count = Math.min(sink.buffer().length, limitBytes - sentBytes);
        sentBytes += count;
        const wait = sink.filled(count);
        if (wait !== undefined) await wait;
      }
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

function sleep(durationMs: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, durationMs);
  });
}

class BenchFile implements ContentFile, Disposable {
  readonly id = 1;
  readonly key = 'file';
  readonly version = 'v';
  readonly sizeBytes: number;
  readonly residency: Residency;
  readonly #directory = mkdtempSync(path.join(os.tmpdir(), 'ebb-bench-'));
  readonly #descriptor = openSync(path.join(this.#directory, 'content'), 'w+');

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    this.residency = Residency.create(sizeBytes);
    ftruncateSync(this.#descriptor, sizeBytes);
  }

  write(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    return new Promise((resolve, reject) => {
      write(this.#descriptor, bytes, 0, bytes.length, offsetBytes, (error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });
  }

  readonly losses = 0;

  markResident(firstChunk: number, chunkCount: number): void {
    this.residency.markResident(firstChunk, chunkCount);
  }

  readSync(): number {
    throw new Error('not needed here');
  }

  [Symbol.dispose](): void {
    fsyncSync(this.#descriptor);
    closeSync(this.#descriptor);
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

async function measure(name: string, bytes: number, run: () => Promise<number>): Promise<void> {
  const before = process.cpuUsage();
  const startedMs = performance.now();
  const calls = await run();
  const tookMs = performance.now() - startedMs;
  const { user, system } = process.cpuUsage(before);
  const cpuSeconds = (user + system) / 1e6;
  const gib = bytes / 1024 / MiB;
  console.log(
    `${name}: ${(bytes / 1e6 / (tookMs / 1000)).toFixed(0)} MB/s, ` +
      `${(cpuSeconds / gib).toFixed(3)} CPU s/GiB (${(user / 1e6 / gib).toFixed(3)} user), ` +
      `${((cpuSeconds * 1e6) / calls).toFixed(0)} us CPU and ${((tookMs * 1000) / calls).toFixed(0)} us per call`,
  );
}

async function writesAlone(sizeBytes: number): Promise<void> {
  using file = new BenchFile(sizeBytes);
  const bytes = Buffer.alloc(MiB, 1);
  await measure('pwrite alone, 1 MiB, 4 at once', sizeBytes, async () => {
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < sizeBytes) {
        const at = next;
        next += MiB;
        await file.write(bytes, at);
      }
    };
    await Promise.all([worker(), worker(), worker(), worker()]);
    return sizeBytes / MiB;
  });
}

async function sequential(sizeBytes: number, readBytes: number, stepBytes: number): Promise<void> {
  using file = new BenchFile(sizeBytes);
  const engine = new RecallEngine({ remote: new NullRemote(sizeBytes, stepBytes) });
  const name = `sequential, READs of ${readBytes / 1024} KiB, body in ${stepBytes / 1024} KiB`;
  await measure(name, sizeBytes, async () => {
    let calls = 0;
    for (let at = 0; at < sizeBytes; at += readBytes) {
      if (file.residency.has(at, readBytes)) {
        if (at % MiB === 0) engine.advance(file, at, readBytes, 1);
        continue;
      }
      calls += 1;
      await engine.ensure(file, at, readBytes, { intent: 'demand', requester, streamId: 1 });
    }
    return calls;
  });
  await engine.close();
}

async function whole(sizeBytes: number): Promise<void> {
  using file = new BenchFile(sizeBytes);
  const engine = new RecallEngine({ remote: new NullRemote(sizeBytes, 64 * 1024) });
  await measure('get of the whole file', sizeBytes, async () => {
    await engine.ensure(file, 0, sizeBytes, { intent: 'get', requester });
    return 1;
  });
  await engine.close();
}

async function random(sizeBytes: number): Promise<void> {
  using file = new BenchFile(sizeBytes);
  const engine = new RecallEngine({ remote: new NullRemote(sizeBytes, 64 * 1024) });
  const chunks = file.residency.chunkCount;
  await measure('random 4 KiB, every chunk once', sizeBytes, async () => {
    for (let index = 0; index < chunks; index += 1) {
      const at = ((index * 7919) % chunks) * file.residency.chunkBytes;
      await engine.ensure(file, at, 4096, { intent: 'demand', requester, streamId: 1 });
    }
    return chunks;
  });
  await engine.close();
}

async function far(sizeBytes: number, latencyMs: number, bytesPerMs: number): Promise<void> {
  using file = new BenchFile(sizeBytes);
  const remote = new FarRemote(sizeBytes, latencyMs, bytesPerMs);
  const engine = new RecallEngine({ remote });
  const options = { intent: 'demand', requester, streamId: 1 } as const;
  const startedMs = performance.now();
  await engine.ensure(file, 0, 4096, options);
  const firstMs = performance.now() - startedMs;
  const name = `sequential, ${latencyMs} ms away, ${(bytesPerMs / 1000).toFixed(0)} MB/s per request`;
  await measure(name, sizeBytes, async () => {
    const readBytes = 128 * 1024;
    for (let at = 0; at < sizeBytes; at += readBytes) {
      if (!file.residency.has(at, readBytes)) await engine.ensure(file, at, readBytes, options);
      else if (at % MiB === 0) engine.advance(file, at, readBytes, 1);
    }
    return remote.requests;
  });
  console.log(`  first 4 KiB: ${firstMs.toFixed(1)} ms; ${remote.requests} requests`);
  await engine.close();
}

const sizeBytes = Number(process.argv[2] ?? 1024) * MiB;
await writesAlone(sizeBytes);
await sequential(sizeBytes, 128 * 1024, 64 * 1024);
await sequential(sizeBytes, MiB, 64 * 1024);
await sequential(sizeBytes, MiB, MiB);
await whole(sizeBytes);
await random(sizeBytes);
await far(sizeBytes / 4, 20, 50_000);
await far(sizeBytes / 16, 100, 5000);
