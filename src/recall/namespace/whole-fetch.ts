/**
 * One GET that brings facts and content together. Two kinds of file need it: small files that a tree walker is
 * about to read (a HEAD first would double the requests), and files whose size the remote only shows by sending
 * them (chunked answers), which cannot have a stub before.
 *
 * The content is complete and counted before the first byte enters the tree, so a broken transfer leaves nothing.
 */
import { randomUUID } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { ebbError } from '../../base/errors.ts';
import type { Node } from '../../catalog/catalog.ts';
import type { ObjectAttributes, RangeSink, Remote } from '../../remote/remote.ts';
import type { ContentFile } from '../../tree/content.ts';
import type { Namespace } from './namespace.ts';
import { SingleFlight } from './single-flight.ts';

/** Memory of one transfer, before it spills to the spool file. */
const memoryMaxBytes = 1024 * 1024;
const pieceBytes = 256 * 1024;
const noBytes = new Uint8Array(0);

export interface WholeFetchOptions {
  readonly namespace: Namespace;
  readonly remote: Remote;
  readonly clock: Clock;
  /** Where transfers larger than memory wait, on the cache's file system. */
  readonly spoolDirectory: string;
  readonly deadlineMs: number;
  /** The local file for a node that is exact and has a version; made when it does not exist. */
  readonly contentOf: (node: Node, key: string) => ContentFile;
  /** Called when a transfer ended, for the counters. */
  readonly onFetched: (bytes: number) => void;
}

export class WholeFetch {
  readonly #options: WholeFetchOptions;
  readonly #flights = new SingleFlight<number, Node>();

  constructor(options: WholeFetchOptions) {
    this.#options = options;
  }

  /** Whether a fetch of this node is under way. */
  has(nodeId: number): boolean {
    return this.#flights.has(nodeId);
  }

  /**
   * Fetches the whole file and resolves with its node (exact, with version, content complete), which has another
   * id when the remote's version moved. `maxBytes`: EFBIG instead of content beyond it.
   */
  fetch(nodeId: number, maxBytes: number, signal?: AbortSignal): Promise<Node> {
    return this.#flights.run(nodeId, () => this.#fetch(nodeId, maxBytes), signal);
  }

  settled(): Promise<void> {
    return this.#flights.settled();
  }

  async #fetch(nodeId: number, maxBytes: number): Promise<Node> {
    const { namespace, remote, clock, deadlineMs, onFetched } = this.#options;
    const key = namespace.keyOf(nodeId);
    await using body = new SpoolingSink(this.#options.spoolDirectory, maxBytes);
    await remote.read(key, body, {
      offsetBytes: 0,
      lengthBytes: undefined,
      version: undefined,
      signal: AbortSignal.timeout(deadlineMs),
    });
    const sizeBytes = body.sizeBytes;
    const head = body.attributes;
    onFetched(sizeBytes);
    if (head === undefined || (head.sizeBytes !== undefined && head.sizeBytes !== sizeBytes)) {
      throw ebbError('EIO', `the remote sent ${sizeBytes} bytes of ${key}, not what it announced`, {
        retryable: true,
      });
    }
    const node = namespace.learn(nodeId, {
      ...head,
      sizeBytes,
      // Where the remote keeps no time and no version, this very transfer is the version.
      mtime: head.mtime ?? { seconds: Math.floor(clock.nowMs() / 1_000), nanoseconds: 0 },
      version: head.version ?? `transfer:${randomUUID()}`,
    });
    const file = this.#options.contentOf(node, key);
    if (!file.residency.complete) await body.pourInto(file);
    return node;
  }
}

/**
 * Takes a whole body: into memory of the announced size, else into memory piece by piece, and beyond
 * `memoryMaxBytes` into a file that nobody else can open by name.
 */
class SpoolingSink implements RangeSink, AsyncDisposable {
  attributes: ObjectAttributes | undefined;
  sizeBytes = 0;
  readonly #directory: string;
  readonly #maxBytes: number;
  #piece: Uint8Array = noBytes;
  /** Where in `#piece` the next bytes go; only a body of announced size fills one piece in several steps. */
  #filled = 0;
  #memory: Uint8Array[] = [];
  #spool: FileHandle | undefined;

  constructor(directory: string, maxBytes: number) {
    this.#directory = directory;
    this.#maxBytes = maxBytes;
  }

  head(attributes: ObjectAttributes): void {
    const { sizeBytes } = attributes;
    if ((sizeBytes ?? 0) > this.#maxBytes) throw this.#tooBig();
    this.attributes = attributes;
    if (sizeBytes !== undefined && sizeBytes <= memoryMaxBytes)
      this.#piece = new Uint8Array(sizeBytes);
  }

  buffer(): Uint8Array {
    if (this.#filled === this.#piece.length) {
      this.#piece = new Uint8Array(pieceBytes);
      this.#filled = 0;
    }
    return this.#piece.subarray(this.#filled);
  }

  filled(countBytes: number): void | Promise<void> {
    const bytes = this.#piece.subarray(this.#filled, this.#filled + countBytes);
    const offset = this.sizeBytes;
    this.#filled += countBytes;
    this.sizeBytes += countBytes;
    if (this.sizeBytes > this.#maxBytes) throw this.#tooBig();
    if (this.#spool === undefined && this.sizeBytes <= memoryMaxBytes) {
      this.#memory.push(bytes);
      return;
    }
    return this.#spill(bytes, offset);
  }

  async #spill(bytes: Uint8Array, offset: number): Promise<void> {
    if (this.#spool === undefined) {
      const name = path.join(this.#directory, `spool-${randomUUID()}`);
      this.#spool = await open(name, 'wx+', 0o600);
      await rm(name);
      let position = 0;
      for (const kept of this.#memory) {
        await this.#writeAll(this.#spool, kept, position);
        position += kept.length;
      }
      this.#memory = [];
    }
    await this.#writeAll(this.#spool, bytes, offset);
  }

  async #writeAll(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const { bytesWritten } = await file.write(bytes, done, bytes.length - done, offset + done);
      done += bytesWritten;
    }
  }

  /** Writes the counted content into the local file and marks all of it resident. */
  async pourInto(file: ContentFile): Promise<void> {
    let position = 0;
    for (const bytes of this.#memory) {
      await file.write(bytes, position);
      position += bytes.length;
    }
    const piece = new Uint8Array(this.#spool === undefined ? 0 : pieceBytes);
    while (this.#spool !== undefined && position < this.sizeBytes) {
      const { bytesRead } = await this.#spool.read(piece, 0, pieceBytes, position);
      if (bytesRead === 0) throw ebbError('EIO', 'the spool file is shorter than what was written');
      await file.write(piece.subarray(0, bytesRead), position);
      position += bytesRead;
    }
    const chunks = Math.ceil(this.sizeBytes / file.residency.chunkBytes);
    if (chunks > 0) file.markResident(0, chunks);
  }

  #tooBig(): Error {
    return ebbError('EFBIG', `larger than the ${this.#maxBytes} bytes asked for`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#spool?.close();
  }
}
