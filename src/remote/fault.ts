/**
 * Injects faults between a remote and its user, for tests and the simulator. What goes wrong is
 * decided by a function, so a test can script single faults, or let a seed decide (`seededFaults`).
 *
 * Ordinary faults keep the contract: they are what honest remotes do on bad days. *Evil* faults
 * break it, to test that checks further out notice.
 */
import { ebbError } from '../base/errors.ts';
import type { EbbErrorOptions } from '../base/errors.ts';
import type { ErrnoCode } from '../base/errno.ts';
import { sleep } from '../base/deadline.ts';
import { FaultySink, isEvil } from './fault-sink.ts';
import type { EvilFault } from './fault-sink.ts';
import type {
  CallOptions,
  ListingBatch,
  ObjectAttributes,
  RangeSink,
  ReadOptions,
  Remote,
} from './remote.ts';
import { WrappedRemote } from './wrapped.ts';

export interface FaultCall {
  readonly call: 'list' | 'stat' | 'read';
  readonly key: string;
  readonly offsetBytes: number;
  /** Counts the calls through this wrapper, from 0. */
  readonly index: number;
}

export type OrdinaryFault =
  /**
   * Fails after this many bytes (read) or batches (list); 0: at once. A fault beyond the end never
   * happens.
   */
  | { readonly kind: 'error'; readonly after?: number; readonly error?: FaultError }
  /** Waits before the call. */
  | { readonly kind: 'delay'; readonly delayMs: number }
  /** Delivers this many bytes or batches, then nothing until the signal fires. */
  | { readonly kind: 'stall'; readonly after?: number }
  /** The version moved: ESTALE, after this many bytes. */
  | { readonly kind: 'changed'; readonly after?: number };

export type Fault = OrdinaryFault | EvilFault;

export interface FaultError extends EbbErrorOptions {
  readonly code: ErrnoCode;
}

/** Decides what happens to a call; undefined: nothing. */
export type DecideFault = (call: FaultCall) => Fault | undefined;

export function faultyRemote(inner: Remote, decide: DecideFault): Remote {
  return new FaultyRemote(inner, decide);
}

class FaultyRemote extends WrappedRemote {
  readonly #decide: DecideFault;
  #calls = 0;

  constructor(inner: Remote, decide: DecideFault) {
    super(inner);
    this.#decide = decide;
  }

  override async *list(key: string, options: CallOptions): AsyncIterable<ListingBatch> {
    const fault = this.#fault('list', key, 0);
    await this.#before(fault, options.signal);
    let batches = 0;
    for await (const batch of this.inner.list(key, options)) {
      await strike(fault, batches, options.signal);
      yield batch;
      batches += 1;
    }
    await strike(fault, batches, options.signal);
  }

  override async stat(key: string, options: CallOptions): Promise<ObjectAttributes> {
    const fault = this.#fault('stat', key, 0);
    await this.#before(fault, options.signal);
    await strike(fault, 0, options.signal);
    const attributes = await this.inner.stat(key, options);
    if (fault?.kind !== 'wrongVersion') return attributes;
    return { ...attributes, version: `${attributes.version}-not` };
  }

  override async read(key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    const fault = this.#fault('read', key, options.offsetBytes);
    await this.#before(fault, options.signal);
    await strike(fault, 0, options.signal);
    if (fault === undefined || fault.kind === 'delay') {
      await this.inner.read(key, sink, options);
      return;
    }
    const faulty = new FaultySink(sink, isEvil(fault) ? fault : undefined, afterOf(fault), () =>
      strike(fault, Infinity, options.signal),
    );
    await faulty.run((between) => this.inner.read(key, between, options));
  }

  /** Each read meets its fault. */
  override readReady(): boolean {
    return false;
  }

  /** And each stat. */
  override hasNow(): boolean {
    return false;
  }

  #fault(call: FaultCall['call'], key: string, offsetBytes: number): Fault | undefined {
    const index = this.#calls;
    this.#calls += 1;
    return this.#decide({ call, key, offsetBytes, index });
  }

  async #before(fault: Fault | undefined, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (fault?.kind === 'delay') await sleep(fault.delayMs, signal);
  }
}

/** Where an ordinary fault strikes; Infinity for evil ones and none. */
function afterOf(fault: Fault | undefined): number {
  if (fault === undefined || fault.kind === 'delay' || isEvil(fault)) return Infinity;
  return fault.after ?? 0;
}

/** Lets the fault happen if `done` bytes or batches have reached its place. */
async function strike(fault: Fault | undefined, done: number, signal: AbortSignal): Promise<void> {
  if (fault === undefined || done < afterOf(fault) || afterOf(fault) === Infinity) return;
  if (fault.kind === 'error') {
    const { code, ...options } = fault.error ?? { code: 'EIO', retryable: true };
    throw ebbError(code, 'An injected failure.', options);
  }
  if (fault.kind === 'changed') throw ebbError('ESTALE', 'An injected change of version.');
  if (fault.kind === 'stall') {
    // Longer than any test; ends by the signal.
    await sleep(2 ** 30, signal);
  }
}
