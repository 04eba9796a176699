/**
 * The life of a mount: start its daemon, which mounts; hold /dev/fuse and what the kernel has open; give both to
 * another daemon when one dies. Requests of the kernel wait meanwhile: nobody here reads them. Does no input or output
 * on the mount, so nothing it does can wait for itself.
 *
 *   starting ── ready ──► serving ── the daemon died ──► restarting ── ready ──► serving
 *                            │                            │  │
 *                            │ unmounted                  │  │ no daemon can be started
 *                            ▼                            ▼  ▼
 *                          over                     given up: the connection ends (ENOTCONN)
 *
 * More daemons wait beside the one that serves, with everything loaded (standbys.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoCode } from '../base/errno.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import { InitFlag } from '../fuse/constants.ts';
import { Connection } from '../fuse/connection.ts';
import { duplicateFd } from '../sys/fd.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { createMemoryFile } from '../sys/memory-file.ts';
import { receiveFd, socketPair } from '../sys/socket.ts';
import { DaemonProcess } from './daemon-process.ts';
import type { Opaque } from './messages.ts';
import { mountProtocolVersion } from './mount-messages.ts';
import type { Established, ToMountDaemon, ToMountSupervisor } from './mount-messages.ts';
import { RestartPauses } from './restart-pauses.ts';
import type { DaemonLife } from './restart-pauses.ts';
import { Standbys } from './standbys.ts';
import { Urgency } from './urgency.ts';
import { Watchdog } from './watchdog.ts';

/** A successor that does not answer the kernel by then is stopped: readers wait for it. */
const restartMaxMs = 60_000;
/** A first one that is to stop, has mounted nothing and has not ended by then does nothing any more. */
const cancelMaxMs = 5_000;
/** Starts in a row that fail before it is given up: about 20 s of pauses in all. */
const failedStartsMax = 5;
/** For how long a planned restart waits until the successor has loaded everything. */
const warmMaxMs = 30_000;

type Daemon = DaemonProcess<ToMountDaemon>;

export interface MountSupervisorOptions {
  /** What `ebb mount` sent. */
  readonly line: string;
  /** Another daemon waits with its code loaded. */
  readonly standby: boolean;
  readonly startedAtMs: number;
  /** Fires when the mount is not wanted any more before it is there. */
  readonly signal: AbortSignal;
  readonly log: (level: 'info' | 'warn' | 'error', message: string) => void;
}

export class MountSupervisor {
  /** Resolves when the mount is over; false: given up, it is there still and nobody answers. Never rejects. */
  readonly ended: Promise<boolean>;
  readonly #options: MountSupervisorOptions;
  readonly #handles: OwnedFd = createMemoryFile('ebb-handles');
  readonly #scans: OwnedFd = createMemoryFile('ebb-scans');
  readonly #requests: OwnedFd = createMemoryFile('ebb-requests');
  readonly #pauses = new RestartPauses();
  readonly #urgency = new Urgency();
  readonly #over = Promise.withResolvers<boolean>();
  readonly #ready = Promise.withResolvers<Opaque>();
  #device: OwnedFd | undefined;
  #established: Established | undefined;
  readonly #standbys: Standbys<Daemon>;
  readonly #watchdog = new Watchdog(() => {
    this.#options.log('error', 'the daemon does nothing any more: it is replaced');
    this.#killHanging();
  });
  #daemon: Daemon | undefined;
  #isServing = false;
  /** The daemon takes requests, though it may not have said yet that it serves. */
  #isTaking = false;
  /** The last one that took requests died of something else than somebody's SIGKILL. */
  #predecessorFailed = false;
  #isHanging = false;
  #restarts = 0;
  #isOver = false;
  #isReplacing = false;
  /** Cuts a pause between two starts short. */
  #wake = new AbortController();

  private constructor(options: MountSupervisorOptions) {
    this.#options = options;
    this.#standbys = new Standbys(() => this.#spawnSuccessor(), options.standby);
    this.ended = this.#over.promise;
  }

  /** Resolves when the mount can be used. Rejects with the daemon's reason; nothing is left then. */
  static async start(
    options: MountSupervisorOptions,
  ): Promise<{ readonly supervisor: MountSupervisor; readonly facts: Opaque }> {
    const supervisor = new MountSupervisor(options);
    const facts = await supervisor.#startFirst();
    return { supervisor, facts };
  }

  /** Unmounts lazily: who asks by a signal cannot be told who uses it. Without a daemon everybody is let go. */
  stop(): void {
    if (this.#isServing) this.#daemon?.send({ kind: 'stop' });
    else void this.#abandon();
  }

  /** Somebody wants the daemon back now, not after the pause. */
  revive(): void {
    this.#pauses.reset();
    this.#wake.abort();
  }

  async #startFirst(): Promise<Opaque> {
    const { signal } = this.#options;
    const [ours, theirs] = socketPair();
    using socket = ours;
    let daemon: Daemon;
    {
      using childEnd = theirs;
      daemon = this.#spawn(childEnd.fd, (established) => {
        this.#device = receiveFd(socket.fd);
        this.#established = established;
      });
    }
    let late: NodeJS.Timeout | undefined;
    const cancel = (): void => {
      daemon.send({ kind: 'stop' });
      late = setTimeout(() => {
        if (this.#device === undefined) daemon.kill();
      }, cancelMaxMs);
    };
    signal.addEventListener('abort', cancel, { once: true });
    try {
      this.#command(daemon);
      if (signal.aborted) cancel();
      return await this.#ready.promise;
    } catch (error) {
      // It takes away what it has mounted.
      await daemon.ended;
      this.#finish(true);
      throw error;
    } finally {
      clearTimeout(late);
      signal.removeEventListener('abort', cancel);
    }
  }

  #spawn(link: number, onMounted: (established: Established) => void): Daemon {
    const program = {
      script: 'daemon/main.ts',
      scriptVariable: 'EBB_MOUNT_MAIN',
      inherited: [this.#handles.fd, this.#scans.fd, link, this.#requests.fd],
    };
    const daemon: Daemon = DaemonProcess.start(program, (raw) => {
      const message = raw as ToMountSupervisor;
      if (message.kind === 'mounted') onMounted(message.established);
      else this.#take(daemon, message);
    });
    void daemon.ended.then(({ how, inOrder }) => {
      if (this.#daemon === daemon) this.#daemonEnded(how, inOrder);
    });
    return daemon;
  }

  #spawnSuccessor(): Daemon | undefined {
    return this.#device === undefined ? undefined : this.#spawn(this.#device.fd, () => undefined);
  }

  /** From now on it is this one that serves. */
  #command(daemon: Daemon): void {
    const { line, startedAtMs } = this.#options;
    this.#daemon = daemon;
    daemon.send({
      kind: 'start',
      protocol: mountProtocolVersion,
      line,
      supervisorPid: process.pid,
      startedAtMs,
      restarts: this.#restarts,
      hasRequestJournal: true,
      predecessorFailed: this.#predecessorFailed,
      ...(this.#established === undefined ? {} : { established: this.#established }),
    });
  }

  #take(daemon: Daemon, message: Exclude<ToMountSupervisor, { kind: 'mounted' }>): void {
    if (message.kind === 'warm') return this.#standbys.warmed(daemon);
    if (daemon !== this.#daemon) return;
    switch (message.kind) {
      case 'takingOver':
        this.#isTaking = true;
        return;
      case 'ready':
        this.#isServing = true;
        this.#urgency.over();
        this.#ready.resolve(message.facts);
        return this.#standbys.wanted();
      case 'failed':
        this.#options.log('error', message.error);
        this.#ready.reject(ebbError(errnoCode(message.code) ?? 'EIO', message.error));
        return this.#startFailed();
      case 'restart':
        return void this.#replace(daemon);
      case 'alive':
        return this.#watchdog.heard();
    }
  }

  /** It knows why it cannot serve: that counts as a start in vain, and no request that it took is to blame. */
  #startFailed(): void {
    if (!this.#isTaking) return;
    this.#isTaking = false;
    this.#predecessorFailed = false;
  }

  /** The daemon has written everything down: that it is killed costs what a crash costs, and nothing else. */
  async #replace(daemon: Daemon): Promise<void> {
    if (!(await this.#standbys.renewed(warmMaxMs))) {
      return this.#options.log('error', 'the daemon is not replaced: no other one can be started');
    }
    if (this.#daemon !== daemon) return;
    this.#isReplacing = true;
    daemon.kill();
  }

  /** It died of what it was doing, not of us. */
  #killHanging(): void {
    this.#isHanging = true;
    this.#daemon?.kill();
  }

  #daemonEnded(how: string, inOrder: boolean): void {
    this.#daemon = undefined;
    this.#watchdog.stop();
    this.#urgency.over();
    const hadServed = this.#restarts > 0 || this.#isServing;
    if (this.#isTaking) this.#predecessorFailed = how !== 'SIGKILL' || this.#isHanging;
    const life = this.#life();
    this.#isServing = false;
    this.#isTaking = false;
    this.#isHanging = false;
    if (this.#isOver) return;
    if (!hadServed) {
      this.#ready.reject(
        ebbError('EIO', `the daemon ended (${how}) before it had mounted anything`),
      );
    } else if (inOrder) this.#finish(true);
    else void this.#restart(how, life);
  }

  #life(): DaemonLife {
    if (!this.#isTaking) return 'failed';
    return this.#isServing || !this.#predecessorFailed ? 'served' : 'crashed';
  }

  async #restart(how: string, life: DaemonLife): Promise<void> {
    const { log } = this.#options;
    // Its successors die of something else.
    const isPlanned = this.#isReplacing;
    this.#isReplacing = false;
    const pauseMs = isPlanned ? 0 : this.#pauses.next(life, performance.now());
    if (isPlanned) {
      this.#pauses.reset();
      log('info', 'the daemon is replaced');
    } else {
      log('error', `the daemon ended (${how})`);
      this.#standbys.trouble();
    }
    if (!this.#canResend) return this.#giveUp('this kernel cannot hand requests to another daemon');
    if (life === 'failed' && this.#pauses.failures > failedStartsMax) {
      return this.#giveUp(`no daemon could be started ${failedStartsMax} times in a row`);
    }
    if (pauseMs > 0) {
      log('warn', `who reads waits; the next daemon starts in ${pauseMs} ms`);
      this.#wake = new AbortController();
      await sleep(pauseMs, undefined, { signal: this.#wake.signal }).catch(() => undefined);
    }
    if (this.#isOver) return;
    const daemon = this.#standbys.take() ?? this.#spawnSuccessor();
    if (daemon === undefined) return this.#giveUp('the connection is gone');
    this.#restarts += 1;
    this.#urgency.begin(daemon.pid);
    const overdue = setTimeout(() => {
      if (this.#isServing || this.#daemon !== daemon) return;
      log('error', `the daemon does not serve after ${restartMaxMs} ms: it is stopped`);
      this.#killHanging();
    }, restartMaxMs);
    void daemon.ended.then(() => clearTimeout(overdue));
    overdue.unref();
    this.#command(daemon);
  }

  /** FUSE_NOTIFY_RESEND, Linux 6.9: what the dead one had read would never be answered without. */
  get #canResend(): boolean {
    return (BigInt(this.#established?.flags ?? 0) & InitFlag.HAS_RESEND) !== 0n;
  }

  /** Who waits gets ENOTCONN: with the last descriptor the connection ends. The mount stays, to be seen. */
  #giveUp(why: string): void {
    const { log } = this.#options;
    const mountPoint = this.#established?.mountPoint ?? '';
    log('error', `given up: ${why}; clean up with: ebb umount ${mountPoint}`);
    this.#finish(false);
  }

  async #abandon(): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#wake.abort();
    try {
      if (this.#established !== undefined && this.#device !== undefined) {
        const { mountPoint, isPrivileged } = this.#established;
        using connection = new Connection(duplicateFd(this.#device.fd), mountPoint, isPrivileged);
        await connection.unmount({ lazy: true });
      }
    } catch (error) {
      this.#options.log('error', `cannot unmount: ${toEbbError(error).message}`);
    }
    this.#finish(true);
  }

  #finish(isGone: boolean): void {
    this.#isOver = true;
    this.#wake.abort();
    this.#watchdog.stop();
    void this.#standbys.close();
    this.#daemon?.kill();
    this.#device?.close();
    this.#handles.close();
    this.#scans.close();
    this.#requests.close();
    this.#over.resolve(isGone);
  }
}
