/**
 * How other threads reach a serving thread that is blocked in poll(2) (src/fuse/loop.ts, src/fanotify/loop.ts): one
 * eventfd, and one word that says whether it is time to stop.
 */
import { EventFd } from './event-fd.ts';

/** What another thread needs to open the same control: can be posted to a worker. */
export interface SharedLoopControl {
  readonly eventFileDescriptor: number;
  readonly state: SharedArrayBuffer;
}

/** Words of `state`. */
const phaseWord = 0;
const wokenWord = 1;

const running = 0;
const stopping = 1;

/** `create` owns the eventfd; what `open` returned does not, and must not outlive its creator. */
export class LoopControl implements Disposable {
  readonly shared: SharedLoopControl;
  readonly #event: EventFd;
  readonly #state: Int32Array;

  private constructor(event: EventFd, shared: SharedLoopControl) {
    this.#event = event;
    this.shared = shared;
    this.#state = new Int32Array(shared.state);
  }

  /** Throws EMFILE, ENFILE. */
  static create(): LoopControl {
    const event = EventFd.create();
    const state = new SharedArrayBuffer(8);
    return new LoopControl(event, { eventFileDescriptor: event.fd, state });
  }

  static open(shared: SharedLoopControl): LoopControl {
    return new LoopControl(EventFd.borrow(shared.eventFileDescriptor), shared);
  }

  get eventFileDescriptor(): number {
    return this.#event.fd;
  }

  /**
   * The loop will call its `wakeup` soon. Any thread; never blocks. Costs a system call only when the thread
   * has taken the signal before.
   */
  wake(): void {
    if (Atomics.exchange(this.#state, wokenWord, 1) === 0) this.#event.signal();
  }

  /** The loop will end after the request it is handling. Any thread; never blocks; for ever. */
  stop(): void {
    Atomics.store(this.#state, phaseWord, stopping);
    this.#event.signal();
  }

  get isStopping(): boolean {
    return Atomics.load(this.#state, phaseWord) !== running;
  }

  /** For the loop: takes the signals. Whoever calls `wake` from now on signals again. */
  drain(): void {
    this.#event.drain();
    Atomics.store(this.#state, wokenWord, 0);
  }

  [Symbol.dispose](): void {
    this.#event[Symbol.dispose]();
  }
}
