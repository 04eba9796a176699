/**
 * A remote that could not be opened yet (a directory that is not mounted, or whose server does not answer): each call
 * tries to open it first. What is here goes on meanwhile, and nothing is concluded about what the remote has.
 */
import { ebbError, toEbbError } from '../base/errors.ts';
import { abandonOnAbort } from './abortable.ts';
import type {
  CallOptions,
  ListingBatch,
  ObjectAttributes,
  RangeSink,
  ReadOptions,
  ReadyRange,
  Remote,
} from './remote.ts';

export class LateRemote implements Remote {
  readonly kind: string;
  readonly displayName: string;
  readonly #open: () => Promise<Remote>;
  #remote: Remote | undefined;
  #opening: Promise<Remote> | undefined;
  #closed = false;

  /** What it will be: `displayName` without credentials. `opening`: a try that is under way. */
  constructor(
    { kind, displayName }: Pick<Remote, 'kind' | 'displayName'>,
    open: () => Promise<Remote>,
    opening?: Promise<Remote>,
  ) {
    this.kind = kind;
    this.displayName = displayName;
    this.#open = open;
    if (opening !== undefined) void this.#begin(opening);
  }

  get supportsRanges(): boolean {
    return this.#remote?.supportsRanges ?? true;
  }

  async *list(key: string, options: CallOptions): AsyncGenerator<ListingBatch> {
    yield* (await this.#opened(options.signal)).list(key, options);
  }

  async stat(key: string, options: CallOptions): Promise<ObjectAttributes> {
    return await (await this.#opened(options.signal)).stat(key, options);
  }

  async read(key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    await (await this.#opened(options.signal)).read(key, sink, options);
  }

  expect(key: string, version: string): void {
    this.#remote?.expect?.(key, version);
  }

  readReady(...range: ReadyRange): boolean | Promise<void> {
    return this.#remote?.readReady?.(...range) ?? false;
  }

  hasNow(key: string, version: string, sizeBytes: number): boolean {
    return this.#remote?.hasNow?.(key, version, sizeBytes) ?? false;
  }

  /** Does not wait for a try that is under way: it may hang. What it opens is closed then. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#remote?.close();
  }

  /** Its absence says nothing about any object of it: never ENOENT. Rejects with the reason of `signal`. */
  async #opened(signal: AbortSignal): Promise<Remote> {
    if (this.#closed) throw this.#wasClosed();
    if (this.#remote !== undefined) return this.#remote;
    const opening = this.#opening ?? this.#begin(this.#open());
    try {
      return await abandonOnAbort(opening, signal);
    } catch (error) {
      if (signal.aborted || this.#closed) throw error;
      const why = `The remote ${this.displayName} cannot be opened now: ${toEbbError(error).message}`;
      throw ebbError('EIO', why, { cause: error, retryable: true });
    }
  }

  /** One try at a time: each may hold a thread of the pool for as long as a server does not answer. */
  #begin(trying: Promise<Remote>): Promise<Remote> {
    const opening = this.#settle(trying).finally(() => {
      this.#opening = undefined;
    });
    opening.catch(() => undefined);
    this.#opening = opening;
    return opening;
  }

  async #settle(trying: Promise<Remote>): Promise<Remote> {
    const remote = await trying;
    if (this.#closed) {
      await remote.close();
      throw this.#wasClosed();
    }
    this.#remote = remote;
    return remote;
  }

  #wasClosed(): Error {
    return ebbError('ESHUTDOWN', `The remote ${this.displayName} was closed.`);
  }
}
