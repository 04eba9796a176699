/**
 * Enforces the contract of remote.ts around any remote, so that a mistake in one cannot place a
 * wrong byte, count a byte twice or shorten a file. What breaks the contract becomes EIO, and
 * nothing more reaches the sink.
 *
 * It sees counts, ranges, order and versions. It does not see content: bytes that a remote passes
 * as its own are believed to be them.
 */
import { ebbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { NameSet } from '../base/name-set.ts';
import { nameProblem } from '../base/name.ts';
import { attributesProblem } from './attributes.ts';
import { CheckedSink } from './checked-sink.ts';
import { splitKey } from './key.ts';
import type {
  CallOptions,
  ListedObject,
  ListingBatch,
  ObjectAttributes,
  RangeSink,
  ReadOptions,
  Remote,
  SkippedName,
} from './remote.ts';
import { WrappedRemote } from './wrapped.ts';

export interface CheckOptions {
  /** Listings are checked for names that come twice: what came is remembered. Default true. */
  readonly checksRepeats?: boolean;
}

/** Wraps `inner`; same behaviour as long as `inner` keeps the contract. */
export function checkedRemote(inner: Remote, options: CheckOptions = {}): Remote {
  return new CheckedRemote(inner, options);
}

class CheckedRemote extends WrappedRemote {
  readonly #checksRepeats: boolean;

  constructor(inner: Remote, options: CheckOptions) {
    super(inner);
    this.#checksRepeats = options.checksRepeats ?? true;
  }

  /**
   * Names that no directory can hold, and names that come twice, are moved to `skipped`; attributes
   * that cannot be true end the listing with EIO.
   */
  override async *list(key: string, options: CallOptions): AsyncIterable<ListingBatch> {
    splitKey(key);
    options.signal.throwIfAborted();
    const seen = this.#checksRepeats ? new NameSet() : undefined;
    for await (const batch of this.inner.list(key, options)) {
      options.signal.throwIfAborted();
      const objects: ListedObject[] = [];
      const skipped: SkippedName[] = [...batch.skipped];
      for (const object of batch.objects) {
        const twice = seen?.add(object.name) === false ? 'the name is listed twice' : undefined;
        const why = nameProblem(object.name) ?? twice;
        if (why !== undefined) {
          skipped.push({ raw: object.name, why });
          continue;
        }
        this.#refuseNonsense(`${key}/${object.name}`, object);
        objects.push(object);
      }
      yield { objects, skipped };
    }
    // An iteration that merely stopped because the caller gave up is no complete listing.
    options.signal.throwIfAborted();
  }

  override async stat(key: string, options: CallOptions): Promise<ObjectAttributes> {
    splitKey(key);
    options.signal.throwIfAborted();
    const attributes = await this.inner.stat(key, options);
    this.#refuseNonsense(key, attributes);
    return attributes;
  }

  override async read(key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    splitKey(key);
    checkRange(options);
    options.signal.throwIfAborted();
    const checked = new CheckedSink(key, sink, options);
    try {
      await this.inner.read(key, checked, options);
    } catch (error) {
      checked.end();
      // Whatever the remote made of it: first what the sink said, then what we found.
      throw checked.failure ?? error;
    }
    const failure = checked.failure ?? checked.shortfall();
    checked.end();
    if (failure !== undefined) throw failure;
  }

  #refuseNonsense(key: string, attributes: ObjectAttributes): void {
    const problem = attributesProblem(attributes);
    if (problem !== undefined) throw broken(`${this.displayName} says of ${key}: ${problem}.`);
  }
}

function checkRange(options: ReadOptions): void {
  const { offsetBytes, lengthBytes = 0 } = options;
  const ok =
    Number.isSafeInteger(offsetBytes) &&
    offsetBytes >= 0 &&
    Number.isSafeInteger(lengthBytes) &&
    lengthBytes >= 0 &&
    Number.isSafeInteger(offsetBytes + lengthBytes);
  if (!ok) throw ebbError('EINVAL', `${offsetBytes}+${lengthBytes} is not a range of bytes.`);
}

function broken(sentence: string): EbbError {
  return ebbError('EIO', sentence, { retryable: true, answered: true });
}
