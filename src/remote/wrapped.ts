/** What remotes that add something to another one have in common. */
import type {
  CallOptions,
  ListingBatch,
  ObjectAttributes,
  RangeSink,
  ReadOptions,
  ReadyRange,
  Remote,
} from './remote.ts';

/** Is what the inner remote is; who extends it says what it does to the calls. `close` closes the inner one. */
export abstract class WrappedRemote implements Remote {
  protected readonly inner: Remote;

  constructor(inner: Remote) {
    this.inner = inner;
  }

  get kind(): string {
    return this.inner.kind;
  }

  get displayName(): string {
    return this.inner.displayName;
  }

  get supportsRanges(): boolean {
    return this.inner.supportsRanges;
  }

  abstract list(key: string, options: CallOptions): AsyncIterable<ListingBatch>;
  abstract stat(key: string, options: CallOptions): Promise<ObjectAttributes>;
  abstract read(key: string, sink: RangeSink, options: ReadOptions): Promise<void>;

  expect(key: string, version: string): void {
    this.inner.expect?.(key, version);
  }

  /** Who does something to the bytes of `read` must do it to these, or say false. */
  readReady(...range: ReadyRange): boolean | Promise<void> {
    return this.inner.readReady?.(...range) ?? false;
  }

  /** Who does something to `stat` must do it to this, or say false. */
  hasNow(key: string, version: string, sizeBytes: number): boolean {
    return this.inner.hasNow?.(key, version, sizeBytes) ?? false;
  }

  close(): Promise<void> {
    return this.inner.close();
  }
}
