/**
 * Who opens a large file that is not all here only to read it needs nothing at open, most of the time: what he reads
 * comes by ranges, and about each of these main is asked. Such opens the event thread lets in by itself. The decision
 * is policy.ts's, upon facts that are had without waiting; where one is missing, main is asked.
 *
 * What main alone knows does not matter to a reader's open: where somebody is just emptying the file, or it is found
 * out what a writer did, its ranges wait for that.
 */
import { BoundedMap } from '../base/bounded-map.ts';
import { fileStatus, uniqueMountId } from '../sys/stat.ts';
import { mountsSeenMax } from './layers.ts';
import type { NativePolicy } from './options.ts';
import { decideOpen, executableBits, Verdicts } from './policy.ts';
import { programOf, systemCallAtOnce } from './requester.ts';
import { effectAtOpen } from './syscall.ts';

export interface DoorkeeperOptions {
  readonly policy: NativePolicy;
  /** `StubStore.hasPoison`. */
  readonly hasPoison: boolean;
}

export class Doorkeeper {
  readonly #options: DoorkeeperOptions;
  readonly #verdicts: Verdicts;
  /** Mounts that main has found to be no layers (layers.ts). */
  readonly #mounts = new BoundedMap<bigint, true>(mountsSeenMax);

  constructor(options: DoorkeeperOptions) {
    this.#options = options;
    this.#verdicts = new Verdicts(options.policy);
  }

  /** Nobody is let in to what is not larger. */
  get wholeFileMaxBytes(): number {
    return this.#options.policy.wholeFileMaxBytes;
  }

  /** Main has seen that this mount is an ordinary one. */
  noteMount(uniqueId: bigint): void {
    this.#mounts.set(uniqueId, true);
  }

  /** Whether the thread that opens a stub (`fd`: of its event) may go on, as far as that can be told at once. */
  letsIn(fd: number, tid: number, versionSizeBytes: number): boolean {
    const { policy, hasPoison } = this.#options;
    if (!this.#mounts.has(uniqueMountId(fd))) return false;
    const call = systemCallAtOnce(tid);
    if (call === undefined || effectAtOpen(call) !== 'reads') return false;
    const program = programOf(tid);
    if (program === undefined) return false;
    const { executable, name } = program;
    const { sizeBytes, mode } = fileStatus(fd);
    const file = {
      state: 'clean',
      versionSizeBytes,
      sizeBytes,
      complete: false,
      executable: (mode & executableBits) !== 0,
      throughLayer: false,
      hasPoison,
    } as const;
    const asker = {
      effect: 'reads',
      streams: false,
      maps: false,
      verdict: this.#verdicts.of(executable, name),
      looksForHoles: this.#verdicts.looksForHoles(executable, name),
    } as const;
    return decideOpen(file, asker, policy).kind === 'allow';
  }
}
