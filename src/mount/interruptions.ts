/**
 * Requests that the kernel has interrupted. It says so once, and for any signal: of a timer, too, or of a child that
 * has ended. stat(2), read(2) of a file and page faults are not interrupted by those on other file systems, few
 * programs expect it, and one whose timer is faster than the remote would never get a page. So a request is given up
 * when its requester is ending, and until then that is looked at now and then.
 */
import { isEnding } from '../base/process-signals.ts';

/** How long somebody who was killed after another signal may have to wait. */
const lookAgainMs = 250;

export class Interruptions {
  readonly #isEnding: (tid: number) => boolean;
  readonly #tids = new Map<AbortController, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(isEndingNow: (tid: number) => boolean = isEnding) {
    this.#isEnding = isEndingNow;
  }

  /** The request of thread `tid` was interrupted: aborts, now or later. Until `over`. */
  add(request: AbortController, tid: number): void {
    if (this.#isEnding(tid)) return request.abort();
    this.#tids.set(request, tid);
    this.#timer ??= setInterval(() => this.#look(), lookAgainMs).unref();
  }

  over(request: AbortController): void {
    if (this.#tids.delete(request) && this.#tids.size === 0) this.#stop();
  }

  #look(): void {
    const ending = new Map<number, boolean>();
    for (const [request, tid] of this.#tids) {
      const isOver = ending.get(tid) ?? this.#isEnding(tid);
      ending.set(tid, isOver);
      if (!isOver) continue;
      this.#tids.delete(request);
      request.abort();
    }
    if (this.#tids.size === 0) this.#stop();
  }

  #stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
