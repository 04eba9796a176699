/**
 * A remote that could not be opened yet (a directory that is not mounted): each call tries to open it first. What is
 * here goes on meanwhile, and nothing is concluded about what the remote has.
 */
import { ebbError, toEbbError } from '../base/errors.ts';
import type {
  CallOptions,
  ListingBatch,
  ObjectAttributes,
  RangeSink,
  ReadOptions,
  Remote,
} from './remote.ts';

export class LateRemote implements Remote {
  readonly kind: string;
  readonly displayName: string;
  readonly #open: () => Promise<Remote>;
  #remote: Remote | undefined;
  #opening: Promise<Remote> | undefined;
  #closed = false;

  /** What it will be: `displayName` without credentials. */
  constructor(
    { kind, displayName }: Pick<Remote, 'kind' | 'displayName'>,
    open: () => Promise<Remote>,
  ) {
    this.kind = kind;
    this.displayName = displayName;
    this.#open = open;
  }

  get supportsRanges(): boolean {
    return this.#remote?.supportsRanges ?? true;
  }

  async *list(key: string, options: CallOptions): AsyncGenerator<ListingBatch> {
    yield* (await this.#opened()).list(key, options);
  }

  async stat(key: string, options: CallOptions): Promise<ObjectAttributes> {
    return await (await this.#opened()).stat(key, options);
  }

  async read(key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    await (await this.#opened()).read(key, sink, options);
  }

  async close(): Promise<void> {
    this.#closed = true;
    const remote = this.#remote ?? (await this.#opening?.catch(() => undefined));
    await remote?.close();
  }

  /** Its absence says nothing about any object of it: never ENOENT. */
  async #opened(): Promise<Remote> {
    if (this.#closed) throw ebbError('ESHUTDOWN', `The remote ${this.displayName} was closed.`);
    if (this.#remote !== undefined) return this.#remote;
    this.#opening ??= this.#open().finally(() => {
      this.#opening = undefined;
    });
    try {
      this.#remote = await this.#opening;
      return this.#remote;
    } catch (error) {
      const why = `The remote ${this.displayName} cannot be opened now: ${toEbbError(error).message}`;
      throw ebbError('EIO', why, { cause: error, retryable: true });
    }
  }
}
