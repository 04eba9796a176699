/**
 * fdatasync(2) of many files by one request (io_submit(2), IOCB_CMD_FDSYNC, Linux 4.18): threads of the kernel sync
 * beside each other and share the journal's commits, and this process is woken once, not twice for each file.
 */
import { Errno } from '../base/errno.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { addressOf, bind, bindAsync, lazily, orErrno, systemError } from './ffi.ts';
import { syncData } from './file-io.ts';
import { startWriteback } from './writeback.ts';

/** Syncs under way at a time: each is a thread of the kernel that waits for the disk. */
const syncsAtOnceMax = 32;
/** Of the process's own threads. Together they share the journal's commits: docs/decisions/0003-flat-tree.md. */
const parallelSyncsMax = 4;

const numbers =
  process.arch === 'arm64'
    ? { setup: 0, destroy: 1, submit: 2, getEvents: 4 }
    : { setup: 206, destroy: 207, submit: 209, getEvents: 208 };
/** linux/aio_abi.h: struct iocb, struct io_event, and members that are not 0. */
const pointerBytes = 8;
const requestBytes = 64;
const requestAt = { data: 0, operation: 16, fd: 20 } as const;
const eventBytes = 32;
const eventAt = { data: 0, result: 16 } as const;
const IOCB_CMD_FDSYNC = 3;

/** aio_context_t */
type Context = bigint;

const native = lazily(() => ({
  setup: bind<(number: number, events: number, into: BigUint64Array) => number>(
    'long syscall(long number, unsigned int events, void *context)',
  ),
  submit: bind<(number: number, context: Context, count: number, list: Uint8Array) => number>(
    'long syscall(long number, uint64_t context, long count, void *list)',
  ),
  destroyAsync: bindAsync<[number: number, context: Context]>(
    'long syscall(long number, uint64_t context)',
  ),
  getEventsAsync: bindAsync<
    [number: number, context: Context, min: number, max: number, into: Uint8Array, timeout: null]
  >('long syscall(long number, uint64_t context, long min, long max, void *events, void *timeout)'),
}));

/** As soon as it is known that the data of the file at this place is lost. The kernel tells of an error once. */
export type OnSyncFailed = (index: number, error: EbbError) => void;

export class ManySyncs implements Disposable {
  /** Undefined: not asked for yet; false: this kernel, or who confines us, has none, or it was given back. */
  #context: Context | false | undefined;
  #running: Promise<unknown> = Promise.resolve();

  /**
   * `syncData` of all these open files, which stay open meanwhile. One call at a time. Resolves when all has been
   * tried: what `onFailed` was not told of is on stable storage. Rejects with what `onFailed` throws.
   */
  async run(fds: readonly number[], onFailed: OnSyncFailed): Promise<void> {
    const running = this.#run(fds, onFailed);
    this.#running = running.catch(() => undefined);
    await running;
  }

  async #run(fds: readonly number[], onFailed: OnSyncFailed): Promise<void> {
    let taken = 0;
    while (taken < fds.length && fds.length > 1) {
      const context = (this.#context ??= newContext());
      if (context === false) break;
      const results = await this.#runSome(context, fds.slice(taken, taken + syncsAtOnceMax));
      // What the kernel does not take now is left to the pool.
      if (results.length === 0) break;
      for (const [index, error] of results.entries()) {
        if (error !== undefined) onFailed(taken + index, error);
      }
      taken += results.length;
    }
    const left = fds.slice(taken);
    if (left.length > 1) await Promise.allSettled(left.map((fd) => startWriteback(fd)));
    await syncEach(left, syncData, (index, error) => onFailed(taken + index, error));
  }

  /** When what is under way has ended. In the pool: the kernel takes its time with that. */
  [Symbol.dispose](): void {
    const context = this.#context;
    this.#context = false;
    if (typeof context !== 'bigint') return;
    void this.#running.then(() => native().destroyAsync(numbers.destroy, context));
  }

  /** What became of the first ones, of all that the kernel took. */
  async #runSome(
    context: Context,
    fds: readonly number[],
  ): Promise<readonly (EbbError | undefined)[]> {
    const started = submit(context, fds);
    // What is not known to be synced is not.
    const unknown = ebbError('EIO', 'It is not known whether a file was synced.');
    const results = Array.from({ length: started }, (): EbbError | undefined => unknown);
    const events = new Uint8Array(started * eventBytes);
    const view = new DataView(events.buffer);
    for (let ended = 0; ended < started;) {
      const left = started - ended;
      const { getEvents } = numbers;
      const count = await native().getEventsAsync(getEvents, context, left, left, events, null);
      if (count === -Errno.EINTR) continue;
      if (count <= 0) {
        // Their results would be taken for those of others.
        this.#context = false;
        return results;
      }
      for (let at = 0; at < count * eventBytes; at += eventBytes) {
        const index = view.getUint32(at + eventAt.data, true);
        const result = Number(view.getBigInt64(at + eventAt.result, true));
        results[index] = result < 0 ? systemError(-result, 'fdatasync') : undefined;
      }
      ended += count;
    }
    return results;
  }
}

/** The same by any `sync` of one file, some at a time. */
export async function syncEach(
  fds: readonly number[],
  sync: (fd: number) => Promise<void>,
  onFailed: OnSyncFailed,
): Promise<void> {
  const waiting = [...fds.entries()];
  const syncSome = async (): Promise<void> => {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const [index, fd] = next;
      try {
        await sync(fd);
      } catch (error) {
        onFailed(index, toEbbError(error));
      }
    }
  };
  await Promise.all(Array.from({ length: parallelSyncsMax }, syncSome));
}

function newContext(): Context | false {
  const into = new BigUint64Array(1);
  const result = native().setup(numbers.setup, syncsAtOnceMax, into);
  return result < 0 ? false : (into[0] as bigint);
}

/** How many of them are on their way: the first ones. */
function submit(context: Context, fds: readonly number[]): number {
  // A list of pointers, and behind it what they lead to: one array is passed, so all of it stays alive.
  const firstAt = fds.length * pointerBytes;
  const bytes = new Uint8Array(firstAt + fds.length * requestBytes);
  const list = new BigUint64Array(bytes.buffer, 0, fds.length);
  const view = new DataView(bytes.buffer);
  const address = addressOf(bytes);
  for (const [index, fd] of fds.entries()) {
    const at = firstAt + index * requestBytes;
    view.setUint32(at + requestAt.data, index, true);
    view.setUint16(at + requestAt.operation, IOCB_CMD_FDSYNC, true);
    view.setUint32(at + requestAt.fd, fd, true);
    list[index] = address + BigInt(at);
  }
  return Math.max(0, orErrno(native().submit(numbers.submit, context, fds.length, bytes)));
}
