/**
 * The life of an attached tree: guard it, start the daemon, show the tree; start another daemon when one dies; take
 * the tree away before the guard goes. Does no input or output on the tree, so nothing it does can wait for itself.
 * More daemons wait beside the one that serves, with everything loaded (standbys.ts).
 *
 *   starting ── ready ──► serving ── the daemon died ──► restarting ── ready ──► serving
 *                            │                            │  ▲
 *                            │ stop                 paused│  │ denying meanwhile
 *                            ▼                            ▼  │
 *                    hidden, daemon ends, then denying until nobody reaches the data ──► over
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ebbError, toEbbError } from '../base/errors.ts';
import { errnoCode } from '../base/errno.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { openFilesLimit } from '../sys/process.ts';
import { DaemonProcess } from './daemon-process.ts';
import { Denier } from './denier.ts';
import { Exposure } from './exposure.ts';
import { denyWhileReachable } from './farewell.ts';
import type { Guard } from './guard.ts';
import { protocolVersion } from './messages.ts';
import type { HideResult, Opaque, ToDaemon, ToSupervisor } from './messages.ts';
import type { Shown } from './reachability.ts';
import { RestartPauses } from './restart-pauses.ts';
import type { DaemonLife } from './restart-pauses.ts';
import { Standbys } from './standbys.ts';
import { Urgency } from './urgency.ts';
import { Watchdog } from './watchdog.ts';

/** A successor that does not answer events by then is stopped: readers must not wait for it for ever. */
const restartMaxMs = 60_000;
/** For how long a planned restart waits until the successor has loaded everything. */
const warmMaxMs = 30_000;
/** What a daemon gets to deny what is pending and to close its catalog. */
const endMaxMs = 30_000;
/** The same when a signal has ended the start: nobody has seen the tree, and somebody waits. */
const cancelMaxMs = 5_000;
/** Daemons that are started to record what users changed last; none after `restartMaxMs`. */
const recordersMax = 3;

export interface SupervisorOptions {
  readonly tree: string;
  /** TREE/.ebb. */
  readonly ebbDirectory: string;
  readonly socketPath: string;
  readonly guard: Guard;
  readonly treeId: string;
  /** What `ebb attach` sent, and what the preparing process said: for the daemon. */
  readonly options: Opaque;
  readonly prepared: Opaque;
  readonly startedAtMs: number;
  /** Tells daemons whether another supervisor would come (pledge.ts). */
  readonly pledge: OwnedFd;
  /** The right to read the groups, for as long as any of them lives (tenure.ts). */
  readonly tenure: OwnedFd;
  /** Memory that each daemon hands to the next (native/change-journal.ts). */
  readonly changeJournal: OwnedFd;
  /** A daemon is being started. `restarts`: those before it. */
  readonly onDaemon: (restarts: number) => void;
  readonly log: (level: 'info' | 'warn' | 'error', message: string) => void;
  readonly onProgress: (progress: Opaque) => void;
}

type Daemon = DaemonProcess<ToDaemon>;
type StopRequest = Extract<ToSupervisor, { kind: 'stop' }>;
export type Ready = Extract<ToSupervisor, { kind: 'ready' }>;

export class TreeSupervisor {
  /** Resolves when nobody can reach the data any more and the daemon has ended; the guard may go. Never rejects. */
  readonly ended: Promise<void>;
  readonly #options: SupervisorOptions;
  readonly #denier: Denier;
  readonly #pauses = new RestartPauses();
  readonly #urgency = new Urgency();
  readonly #standbys: Standbys<Daemon>;
  readonly #watchdog = new Watchdog(() => {
    this.#options.log('error', 'the daemon does nothing any more: it is replaced');
    this.#daemon?.kill();
  });
  readonly #over = Promise.withResolvers<void>();
  #daemon: Daemon | undefined;
  #starting: PromiseWithResolvers<Ready> | undefined;
  #exposure: Exposure | undefined;
  #isServing = false;
  #isReplacing = false;
  #restarts = 0;
  #hiding: Promise<HideResult> | undefined;
  #isHidden = false;
  /** The last daemon has recorded all that users changed. */
  #isRecorded = false;
  #finishing: Promise<void> | undefined;
  /** Cuts a pause between two starts short. */
  #wake = new AbortController();

  private constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#standbys = new Standbys(() => this.#spawn(), options.options['standby'] !== false);
    this.#denier = new Denier(
      [options.guard.access, options.guard.open],
      options.treeId,
      (message) => options.log('error', message),
    );
    this.ended = this.#over.promise;
  }

  /**
   * Resolves when users can see the tree. Rejects with the daemon's reason, and when `signal` fires; only the guard is
   * left then.
   */
  static async start(
    options: SupervisorOptions,
    signal: AbortSignal,
  ): Promise<{ readonly supervisor: TreeSupervisor; readonly ready: Ready }> {
    const supervisor = new TreeSupervisor(options);
    const stopped = (): void => supervisor.#starting?.reject(signal.reason);
    signal.addEventListener('abort', stopped);
    try {
      const ready = await supervisor.#startDaemon(supervisor.#spawn());
      signal.throwIfAborted();
      const { tree, ebbDirectory, guard } = options;
      supervisor.#exposure = Exposure.show(tree, ebbDirectory, guard.lock.fd);
      if (supervisor.#exposure.isCovered) {
        throw ebbError('EBUSY', `something else was mounted on ${tree} at the same time`);
      }
      return { supervisor, ready };
    } catch (error) {
      supervisor.#isHidden = true;
      await supervisor.#standbys.close();
      await supervisor.finish(signal.aborted ? cancelMaxMs : endMaxMs);
      throw error;
    } finally {
      signal.removeEventListener('abort', stopped);
    }
  }

  /**
   * Goes on with a tree that users see and whose supervisor has died, like its daemon, after `restarts` others of that
   * tree: what they had taken is denied, and another daemon starts, as often as it takes.
   */
  static resume(options: SupervisorOptions, exposure: Exposure, restarts: number): TreeSupervisor {
    const supervisor = new TreeSupervisor(options);
    supervisor.#exposure = exposure;
    supervisor.#restarts = restarts;
    const denied = options.guard.sweep(openFilesLimit().soft);
    options.log('warn', `the supervisor before this one died; ${denied} waiting calls got EIO`);
    void supervisor.#restart('failed');
    return supervisor;
  }

  /** The mount that users were given. */
  get shown(): Shown | undefined {
    return this.#exposure?.shown;
  }

  /** Takes the tree away, see `Exposure.hide`; then the daemon ends, then `ended` resolves. */
  async stop(lazy: boolean): Promise<HideResult> {
    const earlier = this.#hiding;
    // Who waits for a polite attempt may be joined, but not by somebody who insists.
    if (earlier !== undefined && !lazy) return await earlier;
    const hiding = this.#hideAfter(earlier, lazy).finally(() => {
      if (this.#hiding === hiding) this.#hiding = undefined;
    });
    this.#hiding = hiding;
    return await hiding;
  }

  /** Somebody wants the daemon back now, not after the pause. */
  revive(): void {
    this.#pauses.reset();
    this.#wake.abort();
  }

  async #hideAfter(earlier: Promise<HideResult> | undefined, lazy: boolean): Promise<HideResult> {
    const before = await earlier?.catch(() => undefined);
    if (before?.stopped === true || this.#isHidden) return { stopped: true, holders: [] };
    const result = (await this.#exposure?.hide(lazy)) ?? { stopped: true, holders: [] };
    if (!result.stopped) return result;
    this.#isHidden = true;
    this.#watchdog.stop();
    this.#options.log('info', `${this.#options.tree} was taken away`);
    this.#wake.abort();
    // They hold the file system, and the groups.
    await this.#standbys.close();
    return result;
  }

  /** After a `stop` that stopped: the daemon ends, who still has the data open is denied, `ended` resolves. */
  async finish(maxMs = endMaxMs): Promise<void> {
    await this.#end(this.#daemon, maxMs);
    await this.#finishAfter(undefined, undefined);
  }

  /** `asking`: the daemon that wanted the tree to be taken away, which ends by itself within `maxMs`. */
  #finishAfter(asking: Daemon | undefined, maxMs: number | undefined): Promise<void> {
    this.#finishing ??= this.#finishOnce(asking, maxMs);
    return this.#finishing;
  }

  async #finishOnce(asking: Daemon | undefined, maxMs: number | undefined): Promise<void> {
    const { tree, log } = this.#options;
    try {
      await this.#awaitEnd(asking, maxMs);
      // Another one, when it died before the tree was hidden. Since then none was started.
      await this.#end(this.#daemon);
      this.#denier.stop();
      if (this.#exposure === undefined) return;
      await this.#recordWhatIsLeft();
      await denyWhileReachable(this.#exposure.shown, {
        tree,
        denier: this.#denier,
        log,
        // Who still has a file open may write to it.
        onWaiting: () => (this.#isRecorded = false),
      });
      await this.#recordWhatIsLeft();
    } catch (error) {
      log('error', `while the tree was taken away: ${toEbbError(error).message}`);
    } finally {
      this.#over.resolve();
    }
  }

  /** Nobody else knows what users changed last: what was read is in the journal, the rest in the queue. */
  async #recordWhatIsLeft(): Promise<void> {
    const { log } = this.#options;
    const endsAtMs = performance.now() + restartMaxMs;
    for (let recorders = 0; !this.#isRecorded && recorders < recordersMax; recorders += 1) {
      if (performance.now() > endsAtMs) break;
      log('info', 'another daemon records what users changed last');
      this.#restarts += 1;
      const daemon = this.#spawn();
      const overdue = setTimeout(() => daemon.kill(), restartMaxMs);
      try {
        await Promise.race([this.#startDaemon(daemon), daemon.ended]);
      } catch (error) {
        log('error', toEbbError(error).message);
        daemon.kill();
      } finally {
        clearTimeout(overdue);
      }
      daemon.send({ kind: 'end' });
      await this.#awaitEnd(daemon, endMaxMs);
    }
    if (!this.#isRecorded) log('error', 'what users changed last may not be recorded');
  }

  /** It loads its code, and does nothing before it is told to. */
  #spawn(): Daemon {
    const { guard } = this.#options;
    const program = {
      script: 'daemon/native-main.ts',
      scriptVariable: 'EBB_NATIVE_MAIN',
      // The order of src/supervisor/messages.ts `Inherited`.
      inherited: [
        guard.access,
        guard.open,
        guard.changes,
        guard.privateMount,
        guard.lock,
        this.#options.pledge,
        this.#options.tenure,
        this.#options.changeJournal,
      ].map(({ fd }) => fd),
    };
    const daemon: Daemon = DaemonProcess.start(program, (message) =>
      this.#take(daemon, message as ToSupervisor),
    );
    void daemon.ended.then(({ how, inOrder }) => {
      if (this.#daemon === daemon) this.#daemonEnded(how, inOrder);
    });
    return daemon;
  }

  /** Has this daemon serve; resolves when it answers events. */
  async #startDaemon(daemon: Daemon): Promise<Ready> {
    const { options, prepared, startedAtMs, socketPath } = this.#options;
    const starting = Promise.withResolvers<Ready>();
    this.#starting = starting;
    this.#daemon = daemon;
    this.#options.onDaemon(this.#restarts);
    daemon.send({
      kind: 'start',
      protocol: protocolVersion,
      options,
      prepared,
      supervisorPid: process.pid,
      startedAtMs,
      restarts: this.#restarts,
      socketPath,
      canReplace: true,
      hasChangeJournal: true,
    });
    try {
      return await starting.promise;
    } finally {
      // It may have died, and the next one be starting already.
      if (this.#starting === starting) this.#starting = undefined;
    }
  }

  #take(daemon: Daemon, message: ToSupervisor): void {
    if (message.kind === 'warm') return this.#standbys.warmed(daemon);
    if (daemon !== this.#daemon) return;
    switch (message.kind) {
      case 'progress':
        return this.#options.onProgress(message.progress);
      case 'ready':
        this.#isServing = true;
        this.#urgency.over();
        if (!this.#isHidden) this.#standbys.wanted();
        return this.#starting?.resolve(message);
      case 'alive':
        return this.#isHidden ? undefined : this.#watchdog.heard();
      case 'failed':
        return this.#starting?.reject(ebbError(errnoCode(message.code) ?? 'EIO', message.error));
      case 'stop':
        return void this.#stopFor(daemon, message);
      case 'successor':
        return void this.#prepareSuccessor(daemon);
      case 'replace':
        // It ends by itself; nobody would follow.
        if (this.#isHidden) return;
        this.#isReplacing = true;
        return daemon.kill();
    }
  }

  async #prepareSuccessor(daemon: Daemon): Promise<void> {
    const isReady = !this.#isHidden && (await this.#standbys.renewed(warmMaxMs));
    daemon.send({ kind: 'successor', isReady });
  }

  async #stopFor(daemon: Daemon, { id, lazy, endMaxMs }: StopRequest): Promise<void> {
    let result: HideResult = { stopped: false, holders: [] };
    try {
      result = await this.stop(lazy);
    } catch (error) {
      this.#options.log('error', `cannot take the tree away: ${toEbbError(error).message}`);
    }
    daemon.send({ kind: 'stopResult', id, result });
    if (result.stopped) await this.#finishAfter(daemon, endMaxMs);
  }

  #daemonEnded(how: string, inOrder: boolean): void {
    this.#daemon = undefined;
    const hasServed = this.#isServing;
    this.#isServing = false;
    this.#isRecorded = inOrder && hasServed;
    this.#watchdog.stop();
    this.#urgency.over();
    const { guard, log } = this.#options;
    // Before anybody reads: what the dead one had taken is answered by its numbers.
    const denied = guard.sweep(openFilesLimit().soft);
    if (this.#isHidden && inOrder && denied === 0) return;
    const life = hasServed ? 'served' : 'failed';
    const isPlanned = this.#isReplacing;
    this.#isReplacing = false;
    if (isPlanned && denied === 0) log('info', 'the daemon is replaced');
    else log('error', `the daemon ended (${how}); ${denied} waiting calls got EIO`);
    this.#starting?.reject(ebbError('EIO', `the daemon ended (${how}) before it served`));
    // The first one: nobody has seen the tree yet, whoever starts it hears of the failure.
    if (this.#exposure === undefined || this.#isHidden) return;
    if (!isPlanned) this.#standbys.trouble();
    void this.#restart(isPlanned ? 'replaced' : life);
  }

  async #restart(life: DaemonLife | 'replaced'): Promise<void> {
    const { log } = this.#options;
    if (life === 'replaced') this.#pauses.reset();
    const pauseMs = life === 'replaced' ? 0 : this.#pauses.next(life, performance.now());
    if (pauseMs > 0) {
      log('warn', `files that are not here fail with EIO; the next daemon starts in ${pauseMs} ms`);
      this.#denier.start();
      this.#wake = new AbortController();
      await sleep(pauseMs, undefined, { signal: this.#wake.signal }).catch(() => undefined);
    }
    if (this.#isHidden) return;
    // While a daemon lives nobody else may answer.
    this.#denier.stop();
    this.#restarts += 1;
    const diedAtMs = performance.now();
    const daemon = this.#standbys.take() ?? this.#spawn();
    this.#urgency.begin(daemon.pid);
    const overdue = setTimeout(() => {
      log('error', `the daemon does not answer after ${restartMaxMs} ms: it is stopped`);
      daemon.kill();
    }, restartMaxMs);
    try {
      await this.#startDaemon(daemon);
      log('info', `another daemon serves after ${Math.round(performance.now() - diedAtMs)} ms`);
    } catch (error) {
      log('error', toEbbError(error).message);
      // Its end starts the next one, or has done so: not whichever serves now.
      daemon.kill();
    } finally {
      clearTimeout(overdue);
    }
  }

  async #end(daemon: Daemon | undefined, maxMs = endMaxMs): Promise<void> {
    daemon?.send({ kind: 'end' });
    await this.#awaitEnd(daemon, maxMs);
  }

  async #awaitEnd(daemon: Daemon | undefined, maxMs: number | undefined): Promise<void> {
    if (daemon === undefined) return;
    const overdue =
      maxMs === undefined
        ? undefined
        : setTimeout(() => {
            this.#options.log('error', `the daemon does not end within ${maxMs} ms: it is stopped`);
            daemon.kill();
          }, maxMs);
    await daemon.ended;
    clearTimeout(overdue);
  }
}
