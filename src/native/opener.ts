/** Who was let in to a large file, and will probably ask for its first range a moment later. */
import { isRunning, programOf, requesterOf, systemCallText } from './requester.ts';
import type { RequesterFacts } from './requester.ts';

/** Who asks, and the line of /proc/TID/syscall of what he does. */
export interface SeenAsker {
  readonly requester: RequesterFacts;
  readonly callText: string;
}

/** Who opens a file to read it does so at once; on a busy machine he may have to wait for a processor. */
const knownMs = 100;

/**
 * Who he is takes longest to be known, and is looked up while he goes on. When he asks, no more is looked at than what
 * he does, and whether he still runs that program: a shell opens the files that it then starts programs with.
 */
export class Opener {
  readonly #knownMs: number;
  #requester: RequesterFacts | undefined;
  #letInAtMs = -Infinity;

  constructor(maxMs = knownMs) {
    this.#knownMs = maxMs;
  }

  /** After the answer. */
  isLetIn(tid: number): void {
    this.#requester = requesterOf(tid);
    this.#letInAtMs = performance.now();
  }

  /** Undefined: another thread, another program by now, or it cannot be told. Once for who was let in last. */
  seenAgain(tid: number): SeenAsker | undefined {
    const requester = this.#requester;
    this.#requester = undefined;
    if (requester?.tid !== tid || performance.now() - this.#letInAtMs > this.#knownMs)
      return undefined;
    const callText = systemCallText(tid);
    if (callText === undefined || isRunning(callText)) return undefined;
    const program = programOf(tid);
    const isSame = program?.name === requester.name && program.executable === requester.executable;
    return isSame ? { requester, callText } : undefined;
  }
}
