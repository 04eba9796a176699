/** The life of a mount's daemon: from the supervisor's word to start until it is unmounted and all is closed. */
import { ebbError, toEbbError } from '../../base/errors.ts';
import { findMountHolders } from '../../base/mount-holders.ts';
import { processStartTicks, removeRunRecord, writeRunRecord } from '../../base/run-directory.ts';
import type { RunRecord } from '../../base/run-directory.ts';
import { ROOT_NODE_ID } from '../../catalog/catalog.ts';
import type { StopResult } from '../api.ts';
import { letGo } from './let-go.ts';
import type { Configuration } from '../options.ts';
import { Teardown } from '../teardown.ts';
import { buildMount } from './build-mount.ts';
import type { Ends, Stack, Surroundings } from './build-mount.ts';

/** Closing that takes longer is given up: the process ends. */
const closeMaxMs = 30_000;

export class MountProcess {
  readonly run: RunRecord;
  /** Resolves when the file system is unmounted and everything is closed. Never rejects. */
  readonly ended: Promise<void>;
  readonly #stack: Stack;
  readonly #teardown: Teardown;
  #stopping: Promise<StopResult> | undefined;

  private constructor(stack: Stack, teardown: Teardown, { link, die }: Surroundings) {
    this.#stack = stack;
    this.#teardown = teardown;
    this.run = stack.parts.run;
    this.ended = this.#live(die);
    void link.lost.then(() => this.#goOnAlone());
  }

  /**
   * Throws EbbError with a sentence for the user (EINTR when `signal` fires); leaves nothing mounted, locked or
   * running then, unless this was a successor: its process must end at once.
   */
  static async start(
    configuration: Configuration,
    surroundings: Surroundings,
  ): Promise<MountProcess> {
    const teardown = new Teardown();
    const self: { process?: MountProcess } = {};
    const stop = async (lazy: boolean): Promise<StopResult> => {
      if (self.process === undefined) throw ebbError('EAGAIN', 'the mount is still starting');
      return await self.process.stop(lazy);
    };
    const ends: Ends = { teardown, stop };
    try {
      const stack = await buildMount(configuration, surroundings, ends);
      self.process = new MountProcess(stack, teardown, surroundings);
      return self.process;
    } catch (error) {
      // A successor takes nothing away: the next one shall find it all as it was.
      if (surroundings.start.established === undefined) await teardown.run(() => undefined);
      else await letGo(ends.threads);
      throw error;
    }
  }

  counts(): { files: number; directories: number } {
    const { files, directories } = this.#stack.parts.catalog.totals(ROOT_NODE_ID);
    return { files, directories };
  }

  /** Unmounts. Busy and not lazy: nothing happens, and the holders are named. */
  async stop(lazy: boolean): Promise<StopResult> {
    const earlier = this.#stopping;
    // Who waits for a polite attempt may be joined, but not by somebody who insists.
    if (earlier !== undefined && !lazy) return await earlier;
    const stopping = this.#unmountAfter(earlier, lazy).finally(() => {
      if (this.#stopping === stopping) this.#stopping = undefined;
    });
    this.#stopping = stopping;
    return await stopping;
  }

  async #unmountAfter(
    earlier: Promise<StopResult> | undefined,
    lazy: boolean,
  ): Promise<StopResult> {
    const result = await earlier?.catch(() => undefined);
    return result?.stopped === true ? result : await this.#unmount(lazy);
  }

  async #unmount(lazy: boolean): Promise<StopResult> {
    const { connection, parts } = this.#stack;
    try {
      await connection.unmount({ lazy });
      return { stopped: true, holders: [] };
    } catch (thrown) {
      const error = toEbbError(thrown);
      // Somebody else unmounted it already.
      if (error.code === 'EINVAL') return { stopped: true, holders: [] };
      if (error.code !== 'EBUSY' || connection.isCovered) throw error;
      const holders = await findMountHolders(parts.run.mountPoint);
      return { stopped: false, holders };
    }
  }

  /** Nobody would start another daemon: `ebb status` and `ebb umount` shall find this one. */
  #goOnAlone(): void {
    const { parts } = this.#stack;
    parts.logbook.log('error', 'the supervisor is gone: the mount ends with this daemon');
    const startTicks = processStartTicks(process.pid) ?? 0;
    writeRunRecord({ ...parts.run, pid: process.pid, startTicks });
    this.#teardown.add('removing the run record', () => removeRunRecord(parts.run.mountPoint));
  }

  async #live(die: () => void): Promise<void> {
    const { threads, parts } = this.#stack;
    const { logbook } = parts;
    try {
      const end = await threads.ended;
      logbook.log('info', `the FUSE connection ended: ${JSON.stringify(end)}`);
    } catch (error) {
      // An orderly end would answer what waits with errors.
      logbook.log('error', `the FUSE thread died: ${toEbbError(error).message}`);
      return die();
    }
    const overdue = setTimeout(() => {
      // What is not committed is recalled again; a process that stays would keep the cache locked.
      logbook.log('error', `closing takes longer than ${closeMaxMs} ms: giving up`);
      process.exit(1);
    }, closeMaxMs);
    await this.#teardown.run((what, error) => logbook.log('error', `${what}: ${error.message}`));
    clearTimeout(overdue);
  }
}
