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
  readonly #isWanted: boolean;
  readonly #standbys: Standby<Daemon>[] = [];
  /** Killed, not yet gone. */
  readonly #ending = new Set<Daemon>();
  /** Who waits until one is warm. */
  readonly #waiting = new Map<Daemon, () => void>();
  #timer: NodeJS.Timeout | undefined;
  #calmTimer: NodeJS.Timeout | undefined;
  #isTrouble = false;
  #isClosed = false;

  /**
   * `spawn`: starts one; undefined: there is nothing to serve any more. `isWanted`: false: none waits, but for a
   * restart that somebody asks for.
   */
  constructor(spawn: () => Daemon | undefined, isWanted: boolean) {
    this.#spawn = spawn;
    this.#isWanted = isWanted;
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
    this.#waiting.get(daemon)?.();
    this.#fill();
  }

  /**
   * Who waits has the code of the time when it was started: another one takes its place. Resolves with true when that
   * one is ready, or still loads after `maxMs`; with false when it died of it, or there is nothing to serve.
   */
  async renewed(maxMs: number): Promise<boolean> {
    clearTimeout(this.#timer);
    this.#endAllBut(0);
    const daemon = this.#add();
    if (daemon === undefined) return false;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const late = setTimeout(() => resolve(true), maxMs);
    this.#waiting.set(daemon, () => resolve(true));
    void daemon.ended.then(() => resolve(false));
    const isThere = await promise;
    this.#waiting.delete(daemon);
    clearTimeout(late);
    return isThere;
  }

  /** There are none any more. Resolves when those that waited have ended. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#calmTimer);
    this.#endAllBut(0);
    await Promise.all([...this.#ending].map(({ ended }) => ended));
  }

  #endAllBut(count: number): void {
    for (const { daemon } of this.#standbys.splice(count)) {
      this.#ending.add(daemon);
      void daemon.ended.then(() => this.#ending.delete(daemon));
      daemon.kill();
    }
  }

  /** Starts one if one is missing and none is being loaded. */
  #fill(): void {
    const enough = this.#standbys.length >= (this.#isTrouble ? 2 : 1);
    const isLoading = this.#standbys.some(({ isWarm }) => !isWarm);
    if (this.#isWanted && !enough && !isLoading) this.#add();
  }

  #add(): Daemon | undefined {
    const daemon = this.#isClosed ? undefined : this.#spawn();
    if (daemon === undefined) return undefined;
    this.#standbys.push({ daemon, isWarm: false });
    void daemon.ended.then(() => {
      const at = this.#standbys.findIndex((one) => one.daemon === daemon);
      if (at < 0) return;
      this.#standbys.splice(at, 1);
      this.#fillIn(lostDelayMs);
    });
    return daemon;
  }

  #fillIn(afterMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fill(), afterMs).unref();
  }

  #calmDown(): void {
    this.#isTrouble = false;
    this.#endAllBut(1);
  }
}
