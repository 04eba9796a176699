/**
 * A native tree for a test: a loop file system of its own, attached through the same `./ebb` that users call, and
 * taken down whatever happened. This process touches the tree only where a test does so itself: a reader that is
 * never answered would hang it, so programs read in child processes.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { readRunRecords, runFiles } from '../../src/base/run-directory.ts';
import type { RunRecord } from '../../src/base/run-directory.ts';
import { answerInTime } from '../../src/cli/answer-in-time.ts';
import { ControlClient } from '../../src/cli/client.ts';
import type { TreeStatus } from '../../src/daemon/api.ts';
import { killTogether, processLives } from './processes.ts';
import { run, runOk } from './run.ts';
import type { RunOptions, RunResult } from './run.ts';
import { loopFilesystem, mountsBelow, temporaryDirectory } from './temporary.ts';
import type { LoopFilesystem, LoopFilesystemType, TemporaryDirectory } from './temporary.ts';
import { waitFor } from './wait-for.ts';

const launcher = process.env['EBB_COMMAND'] ?? path.join(import.meta.dirname, '../../ebb');
const attachTimeoutMs = 120_000;
const commandTimeoutMs = 60_000;
const logTailLines = '60';
const defaultSizeBytes = 4 * 1024 ** 3;

export const treeFilesystems: readonly LoopFilesystemType[] = ['ext4', 'xfs', 'btrfs'];

export interface AttachOptions {
  readonly type: LoopFilesystemType;
  /** URL or directory. */
  readonly remote: string;
  /** More arguments of `ebb attach`. */
  readonly options?: readonly string[];
  /** Of `ebb`, and so of the processes that serve the tree. */
  readonly env?: Readonly<Record<string, string>>;
  /** A second daemon waits, as it does for users. Default false: it costs a start, and few tests need it. */
  readonly standby?: boolean;
  /** Of the loop image, sparse. Default 4 GiB. */
  readonly sizeBytes?: number;
  /** On btrfs: the tree is a subvolume. */
  readonly subvolume?: boolean;
  /** `--state`: a directory that is there. Default: one of its own. */
  readonly stateDirectory?: string;
  /** What attaching may take. Default 120,000. */
  readonly timeoutMs?: number;
  /** Runs `ebb attach` and resolves when the tree is attached. Default: it runs in the background. */
  readonly start?: (
    command: readonly string[],
    env: Readonly<Record<string, string>>,
  ) => Promise<void>;
  /** Ends what `start` started and an orderly end has left. Default: nothing. */
  readonly end?: () => Promise<void>;
  /** Before attaching: puts files into the directory that becomes the tree. */
  readonly prepare?: (directory: string) => Promise<void>;
}

export class AttachedTree implements AsyncDisposable {
  readonly filesystem: LoopFilesystem;
  /** The tree: a directory of the file system. */
  readonly path: string;
  readonly stateDirectory: string;
  readonly #options: AttachOptions;
  readonly #directory: TemporaryDirectory;
  #pids: readonly number[] = [];

  private constructor(
    options: AttachOptions,
    filesystem: LoopFilesystem,
    directory: TemporaryDirectory,
  ) {
    this.#options = options;
    this.filesystem = filesystem;
    this.#directory = directory;
    this.path = path.join(filesystem.path, 'tree');
    this.stateDirectory = options.stateDirectory ?? path.join(directory.path, 'state');
  }

  /** Resolves when `ebb attach` has returned 0. A failure throws its output and leaves nothing behind. */
  static async attach(options: AttachOptions): Promise<AttachedTree> {
    const filesystem = await loopFilesystem({
      type: options.type,
      sizeBytes: options.sizeBytes ?? defaultSizeBytes,
    });
    const directory = await temporaryDirectory('tree');
    const tree = new AttachedTree(options, filesystem, directory);
    try {
      if (options.subvolume === true) await runOk('btrfs', ['subvolume', 'create', tree.path]);
      else await mkdir(tree.path);
      await mkdir(tree.#runDirectory, { mode: 0o700 });
      await options.prepare?.(tree.path);
      await tree.attach();
      return tree;
    } catch (error) {
      await tree[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Attaches again, after a stop or a crash. */
  async attach(): Promise<void> {
    const { options = [], remote, standby = false, start } = this.#options;
    const { timeoutMs = attachTimeoutMs } = this.#options;
    const state = ['--state', this.stateDirectory, ...(standby ? [] : ['--no-standby'])];
    const parameters = ['attach', ...options, ...state, this.path, remote];
    if (start !== undefined) {
      await start([launcher, ...parameters], this.#environment());
      await this.status();
      return;
    }
    const result = await this.ebb(parameters, { timeoutMs });
    if (result.code !== 0) {
      const how = result.timedOut ? `did not return in ${timeoutMs} ms` : `${result.code}`;
      throw new Error(`ebb ${parameters.join(' ')}: ${how}\n${outputOf(result)}`);
    }
    await this.status();
  }

  /** Runs `ebb` in the tree's environment (state and run directory). */
  ebb(parameters: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run(launcher, parameters, {
      timeoutMs: commandTimeoutMs,
      cwd: this.#directory.path,
      ...options,
      env: { ...this.#environment(), ...options.env },
    });
  }

  /** Of its own, so that no other test's trees are looked at. */
  get #runDirectory(): string {
    return path.join(this.#directory.path, 'run');
  }

  #environment(): Record<string, string> {
    return { ...this.#options.env, EBB_RUN_DIR: this.#runDirectory };
  }

  /** Like `ebb`, but must end with 0. */
  async ebbOk(parameters: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const result = await this.ebb(parameters, options);
    if (result.code === 0) return result;
    throw new Error(`ebb ${parameters.join(' ')}: ${result.code}\n${outputOf(result)}`);
  }

  /** How its daemon is spoken to without a process of `ebb`. Throws when nothing is attached. */
  runRecord(): RunRecord {
    const records = readRunRecords(this.#runDirectory);
    const record = records.find(({ mountPoint }) => mountPoint === this.path);
    if (record === undefined) throw new Error(`${this.path} has no run record`);
    return record;
  }

  /**
   * Asks the daemon, without a process of `ebb`, which would be most of what asking costs. Also remembers the pids, so
   * that disposal finds them when nobody answers any more.
   */
  async status(): Promise<TreeStatus> {
    const record = this.runRecord();
    const status = await answerInTime(record, new ControlClient(record).status());
    assert(status.kind === 'tree');
    const keeper = record.keeper === undefined ? [] : [record.keeper.pid];
    this.#pids = [...keeper, status.supervisorPid, status.pid];
    return status;
  }

  /** Who starts another supervisor. 0: nobody, as in the foreground. */
  get keeperPid(): number {
    return this.runRecord().keeper?.pid ?? 0;
  }

  /** Orderly stop: the tree is hidden, then everything ends. */
  async stop(): Promise<void> {
    await this.ebbUnshared(['umount', this.path]);
    // Who has copied all mounts in the moment between the last look and the end is a user of it as long as he lives.
    await this.#ended(60_000);
  }

  /**
   * Like `ebbOk`, for what is refused while somebody uses the tree. A copy of all mounts that another program on this
   * machine (another test, too) has just made for itself counts as a user: its end is waited for.
   */
  async ebbUnshared(parameters: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const attempt = async (): Promise<RunResult | undefined> => {
      const result = await this.ebb(parameters, options);
      const isCopied = /in another mount namespace/.test(result.stderr.toString());
      return result.code !== 0 && isCopied ? undefined : result;
    };
    const result = await waitFor(attempt, {
      what: `ebb ${parameters.join(' ')} in no other mount namespace`,
      timeoutMs: 60_000,
      intervalMs: 250,
    });
    if (result.code === 0) return result;
    throw new Error(`ebb ${parameters.join(' ')}: ${result.code}\n${outputOf(result)}`);
  }

  /** The daemon's log, as far as somebody answers or a file is left. */
  async logTail(): Promise<string> {
    const log = await this.ebb(['log', '--lines', logTailLines, this.path], { timeoutMs: 5_000 });
    return outputOf(log).slice(-8_000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (await this.#mayLive()) {
        await this.ebb(['umount', '--lazy', this.path], { timeoutMs: 20_000 }).catch(() => {});
      }
      await this.#ended(10_000).catch(() => {});
      await this.#options.end?.();
      // Together: each would start another one of those that it is there for.
      killTogether(this.#pids);
      for (const point of await mountsBelow(this.path)) {
        await run('umount', ['--lazy', point], { timeoutMs: 10_000 });
      }
    } finally {
      await this.filesystem[Symbol.asyncDispose]();
      await this.#directory[Symbol.asyncDispose]();
    }
  }

  /** Whether there may be something to take away: not after an orderly stop. */
  async #mayLive(): Promise<boolean> {
    const isOver = this.#pids.length > 0 && !this.#pids.some(processLives);
    return !isOver || (await mountsBelow(this.path)).length > 0;
  }

  async #ended(timeoutMs: number): Promise<void> {
    const { log } = runFiles(this.path, this.#runDirectory);
    try {
      await waitFor(() => !this.#pids.some(processLives), {
        what: 'keeper, supervisor and daemon to end',
        timeoutMs,
      });
    } catch (error) {
      const said = existsSync(log) ? readFileSync(log, 'utf8').slice(-4_000) : 'no log';
      const left = this.#pids.filter(processLives).join(', ');
      throw new Error(`${left} live on\n${said}`, { cause: error });
    }
  }
}

function outputOf(result: RunResult): string {
  return `${result.stdout.toString()}${result.stderr.toString()}`.slice(-4_000);
}
