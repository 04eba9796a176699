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
import { AttendedTimer } from '../../base/attended-timer.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import type { Node } from '../../catalog/catalog.ts';
import { linkSignals } from '../../remote/linked-signal.ts';
import type { ObjectAttributes, RangeSink, Remote } from '../../remote/remote.ts';
import type { ContentFile } from '../../tree/content.ts';
import type { Requester } from '../recall.ts';
import type { Namespace } from './namespace.ts';
import { isTransferVersion, transferVersion } from './reconcile.ts';
import { SingleFlight } from './single-flight.ts';

/** Memory of one transfer, before it spills to the spool file. */
const memoryMaxBytes = 1024 * 1024;
const pieceBytes = 256 * 1024;
const noBytes = new Uint8Array(0);

export interface WholeFetchOptions {
  readonly namespace: Namespace;
  readonly remote: Remote;
  /** Where transfers larger than memory wait, on the cache's file system. */
  readonly spoolDirectory: string;
  /** A remote that sends nothing for so long is given up. */
  readonly stallMaxMs: number;
  /** The local file for a node that is exact and has a version; made when it does not exist. */
  readonly contentOf: (node: Node, key: string) => ContentFile;
  /** Gives up the local file of a content that could not be recorded. */
  readonly discard: (contentId: number) => void;
  /** Makes room on the cache's file system; throws or rejects with ENOSPC, EDQUOT. */
  readonly reserve?: (bytes: number) => void | Promise<void>;
  /** Called when a transfer ended, for the counters; `requester` began it. */
  readonly onFetched: (fetched: Fetched) => void;
}

export interface Fetched {
  readonly nodeId: number;
  readonly key: string;
  readonly bytes: number;
  readonly requester: Requester | undefined;
}

export class WholeFetch {
  readonly #options: WholeFetchOptions;
  readonly #flights = new SingleFlight<number, Node>();
  /** What each flight may bring at most. */
  readonly #maxBytes = new Map<number, number>();
  /** Contents that bytes are being written into, with by how many. */
  readonly #pouring = new Map<number, number>();
  readonly #closing = new AbortController();

  constructor(options: WholeFetchOptions) {
    this.#options = options;
  }

  /** True while a fetch writes into this content: it must not be released. */
  isPouring(contentId: number): boolean {
    return this.#pouring.has(contentId);
  }

  /** Whether a fetch of this node is under way. */
  has(nodeId: number): boolean {
    return this.#flights.has(nodeId);
  }

  /**
   * Fetches the whole file and resolves with its node (exact, with version, content complete), which has another
   * id when the remote's version moved. `maxBytes`: EFBIG instead of content beyond it. ETIMEDOUT: the remote
   * stalled; EINTR: `signal`, or the daemon stops.
   */
  async fetch(
    nodeId: number,
    maxBytes: number,
    signal?: AbortSignal,
    requester?: Requester,
  ): Promise<Node> {
    for (;;) {
      const joinedMaxBytes = this.#maxBytes.get(nodeId) ?? maxBytes;
      try {
        const start = (): Promise<Node> => this.#fetch(nodeId, maxBytes, requester);
        return await this.#flights.run(nodeId, start, signal);
      } catch (error) {
        // Too much only for whoever began it.
        if (joinedMaxBytes >= maxBytes || toEbbError(error).code !== 'EFBIG') throw error;
      }
    }
  }

  settled(): Promise<void> {
    return this.#flights.settled();
  }

  /** Gives up all fetches; resolves when nothing touches a file any more. */
  async close(): Promise<void> {
    this.#closing.abort(ebbError('EINTR', 'Ebb is stopping.'));
    await this.settled();
  }

  async #fetch(nodeId: number, maxBytes: number, requester?: Requester): Promise<Node> {
    this.#closing.signal.throwIfAborted();
    this.#maxBytes.set(nodeId, maxBytes);
    try {
      const { spoolDirectory, reserve } = this.#options;
      await using body = new SpoolingSink(spoolDirectory, maxBytes, reserve);
      const key = this.#options.namespace.keyOf(nodeId);
      await this.#receive(key, body);
      this.#options.onFetched({ nodeId, key, bytes: body.sizeBytes, requester });
      const { node, file } = await this.#enter(nodeId, key, body);
      const pour = (): Promise<Node> => this.#pour(node, file, body);
      // Whoever asks for a new id meanwhile waits for the content, too.
      return await (this.#flights.has(node.id) ? pour() : this.#flights.run(node.id, pour));
    } finally {
      this.#maxBytes.delete(nodeId);
    }
  }

  async #receive(key: string, body: SpoolingSink): Promise<void> {
    const { remote, stallMaxMs } = this.#options;
    const stalled = new AbortController();
    using timer = new AttendedTimer(stallMaxMs, () => {
      const message = `The remote sent nothing of ${key} for ${stallMaxMs} ms.`;
      stalled.abort(ebbError('ETIMEDOUT', message, { retryable: true }));
    });
    body.onProgress = () => timer.renew();
    using linked = linkSignals(this.#closing.signal, stalled.signal);
    await remote.read(key, body, {
      offsetBytes: 0,
      lengthBytes: undefined,
      version: undefined,
      signal: linked.signal,
    });
  }

  /** Facts and the row of the content are one transaction, with those of other files that came at the same time. */
  async #enter(
    nodeId: number,
    key: string,
    body: SpoolingSink,
  ): Promise<{ node: Node; file: ContentFile }> {
    const { namespace, contentOf, discard } = this.#options;
    let enteredId: number | undefined;
    try {
      return await namespace.enter(() => {
        const node = namespace.learn(nodeId, factsOf(key, body));
        enteredId = node.id;
        return { node, file: contentOf(node, key) };
      });
    } catch (error) {
      if (enteredId !== undefined) discard(enteredId);
      throw error;
    }
  }

  async #pour(node: Node, file: ContentFile, body: SpoolingSink): Promise<Node> {
    const { reserve, namespace } = this.#options;
    if (!file.residency.complete) {
      this.#countPouring(file.id, 1);
      try {
        await reserve?.(body.sizeBytes);
        await body.pourInto(file);
      } finally {
        this.#countPouring(file.id, -1);
      }
    }
    return isTransferVersion(node.version) ? namespace.confirm(node.id) : node;
  }

  #countPouring(contentId: number, change: 1 | -1): void {
    const count = (this.#pouring.get(contentId) ?? 0) + change;
    if (count > 0) this.#pouring.set(contentId, count);
    else this.#pouring.delete(contentId);
  }
}

/** What the transfer has shown. Throws EIO when that is not what was announced. */
function factsOf(key: string, { attributes, sizeBytes }: SpoolingSink): ObjectAttributes {
  const announced = attributes?.sizeBytes ?? sizeBytes;
  if (attributes === undefined || announced !== sizeBytes) {
    throw ebbError('EIO', `the remote sent ${sizeBytes} bytes of ${key}, not what it announced`, {
      retryable: true,
    });
  }
  // Where the remote shows no version, this very transfer is the version.
  const version = attributes.version ?? transferVersion(randomUUID());
  return { ...attributes, sizeBytes, version };
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
  onProgress: () => void = () => undefined;
  readonly #reserve: WholeFetchOptions['reserve'];

  constructor(directory: string, maxBytes: number, reserve: WholeFetchOptions['reserve']) {
    this.#directory = directory;
    this.#maxBytes = maxBytes;
    this.#reserve = reserve;
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
    this.onProgress();
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
    await this.#reserve?.(bytes.length);
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
    const { losses } = file;
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
    if (chunks > 0) file.markResident(0, chunks, losses);
  }

  #tooBig(): Error {
    return ebbError('EFBIG', `larger than the ${this.#maxBytes} bytes asked for`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#spool?.close();
  }
}
