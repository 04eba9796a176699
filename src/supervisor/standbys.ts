/**
 * Daemons that wait with all of their code loaded, to be the next one that serves: loading takes longer than readers
 * should wait. One is enough as long as daemons do not die; after a death there are two for a while, because what kills
 * one may kill the next one soon. They load one after the other: else each would only take the other's processor.
 */
/** For so long after a death two wait. 50 MiB of memory each. */
const troubleMs = 60_000;
/** The daemon that has just begun to serve needs the processor more than its successor does. */
const delayMs = 250;
/** One that died while it waited is made good after so long: it may have died of its start. */
const lostDelayMs = 10_000;

export interface StandbyDaemon {
  readonly ended: Promise<unknown>;
  kill(): void;
}

interface Standby<Daemon> {
  readonly daemon: Daemon;
  isWarm: boolean;
}

export class Standbys<Daemon extends StandbyDaemon> {
  readonly #spawn: () => Daemon | undefined;
  readonly #standbys: Standby<Daemon>[] = [];
  /** Who waits until one is warm. */
  readonly #waiting = new Set<() => void>();
  #timer: NodeJS.Timeout | undefined;
  #calmTimer: NodeJS.Timeout | undefined;
  #isTrouble = false;
  #isClosed = false;

  /** `spawn`: starts one; undefined: there is nothing to serve any more. */
  constructor(spawn: () => Daemon | undefined) {
    this.#spawn = spawn;
  }

  /** From now on there should be some, in a moment. */
  wanted(): void {
    this.#fillIn(this.#isTrouble ? 0 : delayMs);
  }

  /** A daemon has died that nobody wanted to die. */
  trouble(): void {
    this.#isTrouble = true;
    clearTimeout(this.#calmTimer);
    this.#calmTimer = setTimeout(() => this.#calmDown(), troubleMs).unref();
  }

  /** The one that is ready, or will be next. Its life is the caller's business from now on. */
  take(): Daemon | undefined {
    clearTimeout(this.#timer);
    const warmAt = this.#standbys.findIndex(({ isWarm }) => isWarm);
    const [taken] = this.#standbys.splice(Math.max(0, warmAt), 1);
    return taken?.daemon;
  }

  /** A daemon has loaded everything; not necessarily one of these. */
  warmed(daemon: Daemon): void {
    const standby = this.#standbys.find((one) => one.daemon === daemon);
    if (standby === undefined) return;
    standby.isWarm = true;
    for (const resolve of this.#waiting) resolve();
    this.#fill();
  }

  /** Resolves when one is ready, at the latest after `maxMs`. */
  async untilWarm(maxMs: number): Promise<void> {
    this.#fill();
    if (this.#standbys.some(({ isWarm }) => isWarm)) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const late = setTimeout(resolve, maxMs);
    this.#waiting.add(resolve);
    await promise;
    this.#waiting.delete(resolve);
    clearTimeout(late);
  }

  /** There are none any more. Resolves when those that waited have ended. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#calmTimer);
    const left = this.#standbys.splice(0).map(({ daemon }) => daemon);
    for (const daemon of left) daemon.kill();
    await Promise.all(left.map(({ ended }) => ended));
  }

  #fill(): void {
    const enough = this.#standbys.length >= (this.#isTrouble ? 2 : 1);
    const isLoading = this.#standbys.some(({ isWarm }) => !isWarm);
    if (this.#isClosed || enough || isLoading) return;
    const daemon = this.#spawn();
    if (daemon === undefined) return;
    this.#standbys.push({ daemon, isWarm: false });
    void daemon.ended.then(() => {
      const at = this.#standbys.findIndex((one) => one.daemon === daemon);
      if (at < 0) return;
      this.#standbys.splice(at, 1);
      this.#fillIn(lostDelayMs);
    });
  }

  #fillIn(afterMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fill(), afterMs).unref();
  }

  #calmDown(): void {
    this.#isTrouble = false;
    for (const { daemon } of this.#standbys.splice(1)) daemon.kill();
  }
}
