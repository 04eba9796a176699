/**
 * Notices a daemon that lives and does nothing: stopped by a signal, caught in a loop, or waiting for what never comes.
 * Its readers would wait as long. It says every few seconds that it is alive (messages.ts), both of its threads.
 *
 * What counts is not time but how often this process itself came to look: a machine that was suspended, or is so busy
 * that nobody gets a processor, has kept us from looking as well.
 */

/** How often a daemon says so, and how often is looked. Shorter in tests. */
export const aliveEveryMs = Number(process.env['EBB_ALIVE_MS'] ?? 5_000);
/** Looks without a word in between: a minute. A transaction on a slow disk keeps a daemon quiet for seconds. */
const silentLooksMax = 12;

export class Watchdog {
  readonly #onSilent: () => void;
  #timer: NodeJS.Timeout | undefined;
  #silentLooks = 0;

  /** `onSilent`: called once for each daemon. */
  constructor(onSilent: () => void) {
    this.#onSilent = onSilent;
  }

  /** The daemon is alive. It is watched from the first time on: an older one never says so. */
  heard(): void {
    this.#silentLooks = 0;
    this.#timer ??= setInterval(() => this.#look(), aliveEveryMs);
  }

  /** The daemon has ended, or may take its time from now on. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #look(): void {
    this.#silentLooks += 1;
    if (this.#silentLooks < silentLooksMax) return;
    this.stop();
    this.#onSilent();
  }
}
