/**
 * A remote that lives in memory: the twin that tests and the simulator use, with calls that change
 * it. It behaves like a directory on a local disk: exact times, modes, symlinks; nothing is ever
 * followed.
 */
import { assert } from '../../base/assert.ts';
import { ebbError } from '../../base/errors.ts';
import { deliver, rangeEnd } from '../deliver.ts';
import { baseName, parentKey, splitKey } from '../key.ts';
import { linkSignals } from '../linked-signal.ts';
import type {
  CallOptions,
  ListedObject,
  ListingBatch,
  ObjectAttributes,
  RangeSink,
  ReadOptions,
  Remote,
  Timestamp,
} from '../remote.ts';

/**
 * Gives the bytes of a file that is too large to keep: fills `into` with what is at `offsetBytes`.
 */
export type ContentGenerator = (into: Uint8Array, offsetBytes: number) => void;

export interface MemoryAttributes {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: Timestamp;
  readonly xattrs?: ReadonlyMap<string, Uint8Array>;
  /** The version to show instead of the next number; `null` shows none. */
  readonly version?: string | null;
}

export interface MemoryRemoteOptions {
  /** Objects per batch of a listing. Default 100. */
  readonly batchObjectsMax?: number;
  /** False: behaves like a server that ignores ranges. Default true. */
  readonly supportsRanges?: boolean;
}

interface MemoryObject {
  readonly attributes: ObjectAttributes;
  readonly read: ContentGenerator | undefined;
  readonly children: Map<string, MemoryObject> | undefined;
}

const defaultBatchObjectsMax = 100;
/** How much is copied in one go before other work gets its turn. */
const turnBytes = 4 * 1024 * 1024;

export class MemoryRemote implements Remote {
  readonly kind = 'memory';
  readonly displayName = 'memory:';
  readonly supportsRanges: boolean;
  readonly #batchObjectsMax: number;
  readonly #closed = new AbortController();
  readonly #root: MemoryObject = directoryObject({});
  #lastVersion = 0;

  constructor(options: MemoryRemoteOptions = {}) {
    this.#batchObjectsMax = options.batchObjectsMax ?? defaultBatchObjectsMax;
    this.supportsRanges = options.supportsRanges ?? true;
  }

  /**
   * Creates or replaces a file (a new version, even with the same bytes); makes the directories
   * above it.
   */
  putFile(key: string, bytes: Uint8Array, attributes: MemoryAttributes = {}): void {
    const kept = bytes.slice();
    this.putGenerated(
      key,
      kept.length,
      (into, offset) => into.set(kept.subarray(offset, offset + into.length)),
      attributes,
    );
  }

  /** A file of any size whose bytes are computed. */
  putGenerated(
    key: string,
    sizeBytes: number,
    read: ContentGenerator,
    attributes: MemoryAttributes = {},
  ): void {
    this.#lastVersion += 1;
    const version = attributes.version === null ? undefined : attributes.version;
    const shown = {
      ...plainAttributes(attributes),
      kind: 'file' as const,
      sizeBytes,
      version: attributes.version === null ? undefined : (version ?? `v${this.#lastVersion}`),
    };
    this.#put(key, { attributes: shown, read, children: undefined });
  }

  putDirectory(key: string, attributes: MemoryAttributes = {}): void {
    if (key !== '') this.#put(key, directoryObject(attributes));
  }

  /** `target` in the lossless form of base/name.ts; need not exist. */
  putSymlink(key: string, target: string, attributes: MemoryAttributes = {}): void {
    const shown = { ...plainAttributes(attributes), kind: 'symlink' as const, target };
    this.#put(key, { attributes: shown, read: undefined, children: undefined });
  }

  /** A pipe, socket or device. */
  putOther(key: string): void {
    const shown = { ...plainAttributes({}), kind: 'other' as const };
    this.#put(key, { attributes: shown, read: undefined, children: undefined });
  }

  /** Removes an object and all below it. */
  remove(key: string): void {
    const parent = this.#find(parentKey(key) ?? '');
    parent?.children?.delete(baseName(key));
  }

  async *list(key: string, options: CallOptions): AsyncIterable<ListingBatch> {
    this.#checkCall(options.signal);
    const directory = this.#get(key);
    if (directory.children === undefined) throw ebbError('ENOTDIR', `${key} is not a directory.`);
    const all = [...directory.children].map(([name, object]): ListedObject => ({
      ...object.attributes,
      name,
    }));
    for (let index = 0; index < all.length; index += this.#batchObjectsMax) {
      await turn();
      this.#checkCall(options.signal);
      yield { objects: all.slice(index, index + this.#batchObjectsMax), skipped: [] };
    }
  }

  async stat(key: string, options: CallOptions): Promise<ObjectAttributes> {
    this.#checkCall(options.signal);
    return this.#get(key).attributes;
  }

  async read(key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    this.#checkCall(options.signal);
    const object = this.#get(key);
    const { kind, sizeBytes, version } = object.attributes;
    if (kind === 'directory') throw ebbError('EISDIR', `${key} is a directory.`);
    if (object.read === undefined || sizeBytes === undefined) {
      throw ebbError('EOPNOTSUPP', `${key} is a ${kind}, it has no content.`);
    }
    const whole = options.offsetBytes === 0 && options.lengthBytes === undefined;
    if (!this.supportsRanges && !whole) {
      throw ebbError('EOPNOTSUPP', `${this.displayName} gives whole files only.`);
    }
    if (options.version !== undefined && options.version !== version) throw changed(key);
    const endBytes = rangeEnd(key, sizeBytes, options);
    sink.head(object.attributes);
    using linked = linkSignals(options.signal, this.#closed.signal);
    await deliver(
      this.#source(key, object, object.read),
      sink,
      { key, offsetBytes: options.offsetBytes, endBytes },
      linked.signal,
    );
  }

  close(): Promise<void> {
    this.#closed.abort(ebbError('ESHUTDOWN', `${this.displayName} was closed.`));
    return Promise.resolve();
  }

  #source(key: string, object: MemoryObject, read: ContentGenerator) {
    let untilTurnBytes = turnBytes;
    return {
      readAt: async (into: Uint8Array, offsetBytes: number): Promise<number> => {
        untilTurnBytes -= into.length;
        if (untilTurnBytes < 0) {
          await turn();
          untilTurnBytes = turnBytes;
        }
        read(into, offsetBytes);
        return into.length;
      },
      verify: (): void => {
        if (this.#find(key) !== object) throw changed(key);
      },
    };
  }

  #checkCall(signal: AbortSignal): void {
    signal.throwIfAborted();
    this.#closed.signal.throwIfAborted();
  }

  #get(key: string): MemoryObject {
    const object = this.#find(key);
    if (object === undefined) throw ebbError('ENOENT', `${this.displayName}${key} does not exist.`);
    return object;
  }

  #find(key: string): MemoryObject | undefined {
    let object: MemoryObject | undefined = this.#root;
    for (const name of splitKey(key)) object = object?.children?.get(name);
    return object;
  }

  #put(key: string, object: MemoryObject): void {
    const names = splitKey(key);
    const last = names.pop();
    assert(last !== undefined, 'the root of a remote cannot be replaced');
    let children = this.#root.children;
    for (const name of names) {
      let next: MemoryObject | undefined = children?.get(name);
      if (next === undefined) {
        next = directoryObject({});
        children?.set(name, next);
      }
      children = next.children;
    }
    assert(children !== undefined, `a name on the way to ${key} is not a directory`);
    children.set(last, object);
  }
}

function directoryObject(attributes: MemoryAttributes): MemoryObject {
  const shown = { mode: 0o755, ...plainAttributes(attributes), kind: 'directory' as const };
  return { attributes: shown, read: undefined, children: new Map() };
}

function plainAttributes(attributes: MemoryAttributes): Omit<ObjectAttributes, 'kind'> {
  const { version: _version, ...rest } = attributes;
  return { mtime: { seconds: 1_700_000_000, nanoseconds: 0 }, ...rest };
}

function changed(key: string): Error {
  return ebbError('ESTALE', `${key} is no longer the version that was asked for.`);
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
