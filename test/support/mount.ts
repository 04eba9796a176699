/**
 * Mounting Ebb for a test, through the same `./ebb` that users call, and taking it down whatever happened: the
 * daemon is ended by its pid, the connection aborted through fusectl if a reader is stuck, the mount detached
 * lazily. This process itself never touches the mount point: a stuck mount must not stop the test that says so.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { readRunRecords } from '../../src/base/run-directory.ts';
import { answerInTime } from '../../src/cli/answer-in-time.ts';
import { ControlClient } from '../../src/cli/client.ts';
import type { MountStatus } from '../../src/daemon/api.ts';
import { childrenOf, processLives } from './processes.ts';
import { run } from './run.ts';
import type { RunOptions, RunResult } from './run.ts';
import { mountsBelow, temporaryDirectory } from './temporary.ts';
import type { TemporaryDirectory } from './temporary.ts';
import { waitFor } from './wait-for.ts';

/** EBB_COMMAND: test another launcher, for example that of an installed package. */
const launcher = process.env['EBB_COMMAND'] ?? path.join(import.meta.dirname, '../../ebb');
const mountTimeoutMs = 30_000;
const unmountTimeoutMs = 20_000;
const logTailLines = '60';

export interface MountEbbOptions {
  /** URL or directory. */
  readonly remote: string;
  /** More arguments of `ebb mount`, before the remote. */
  readonly options?: readonly string[];
  /** A second daemon waits, as it does for users. Default false: it costs a start, and few tests need it. */
  readonly standby?: boolean;
  /** Runs everything as this user, who needs no rights at all. Default: ourselves. */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** Kept when the mount is disposed. Default: a fresh one, deleted with it. */
  readonly cacheDirectory?: string;
  readonly timeoutMs?: number;
  /** How often it is tried: a short `--deadline` may be over before a busy machine has mounted it. Default 1. */
  readonly attemptsMax?: number;
  /** More environment variables of `ebb mount`. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface EbbMount extends AsyncDisposable {
  /** The mount point. */
  readonly path: string;
  readonly cacheDirectory: string;
  /** Of records, sockets and logs: of its own, so that no other test's mounts are looked at. */
  readonly runDirectory: string;
  /** Of the daemon that served when it was mounted, or when `currentPid` was asked last. */
  readonly pid: number;
  readonly supervisorPid: number;
  /** Runs `ebb` with these arguments in the mount's environment (user, HOME, run directory). */
  ebb(parameters: readonly string[], options?: RunOptions): Promise<RunResult>;
  status(): Promise<MountStatus>;
  /** True while the daemon's process exists and is not a zombie: it has not been replaced, either. */
  alive(): boolean;
  /** True when daemon and supervisor have ended. */
  over(): boolean;
  /** Asks who serves it now. */
  currentPid(): Promise<number>;
  /** `ebb umount`, and a wait until the daemon has gone. Throws what it said when that fails. */
  unmount(): Promise<void>;
  /** SIGKILL to the daemon; the supervisor starts another one. */
  kill(): Promise<void>;
  /** SIGKILL to every daemon that the supervisor has started, the one that waits included. */
  killDaemons(): Promise<void>;
  /** SIGKILL to the supervisor and its daemons; the dead mount stays until `detach` or disposal. */
  killAll(): Promise<void>;
  /** Lazily unmounts what is at the mount point. */
  detach(): Promise<void>;
  /** Mounts again at the same place with the same cache (after `unmount` or `killAll`). */
  remount(options?: readonly string[]): Promise<void>;
  /** The daemon's last log lines, as far as it still answers or left a file. */
  logTail(): Promise<string>;
}

/** Daemons and mount points to end should this process exit before the tests did. */
const living = new Map<EbbMount, () => void>();
process.on('exit', () => {
  for (const endAtOnce of living.values()) endAtOnce();
});

/** Mounts; resolves when `ebb mount` has returned 0. A failure throws its output. */
export async function mountEbb(options: MountEbbOptions): Promise<EbbMount> {
  for (let left = options.attemptsMax ?? 1; ; left -= 1) {
    const directory = await temporaryDirectory('mount');
    const mount = new MountedEbb(options, directory);
    try {
      await mount.start();
      return mount;
    } catch (error) {
      await mount[Symbol.asyncDispose]();
      if (left <= 1) throw error;
    }
  }
}

/** Runs `body` over a mount; if it throws, the daemon's log is attached to the error. */
export async function withEbb<T>(
  options: MountEbbOptions,
  body: (mount: EbbMount) => Promise<T>,
): Promise<T> {
  await using mount = await mountEbb(options);
  try {
    return await body(mount);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`${message}\n--- daemon's log\n${await mount.logTail()}`, { cause: error });
  }
}

/** Result of an `ebb` run that is not meant to succeed or to leave a mount: for tests of bad input. */
export async function runEbb(
  parameters: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  return run(launcher, parameters, { timeoutMs: mountTimeoutMs, ...options });
}

class MountedEbb implements EbbMount {
  readonly path: string;
  readonly cacheDirectory: string;
  readonly runDirectory: string;
  pid = 0;
  supervisorPid = 0;
  readonly #options: MountEbbOptions;
  readonly #directory: TemporaryDirectory;

  constructor(options: MountEbbOptions, directory: TemporaryDirectory) {
    this.#options = options;
    this.#directory = directory;
    this.path = path.join(directory.path, 'mnt');
    this.runDirectory = path.join(directory.path, 'run');
    this.cacheDirectory = options.cacheDirectory ?? path.join(directory.path, 'cache');
  }

  async start(): Promise<void> {
    const { user } = this.#options;
    for (const name of ['mnt', 'cache', 'home', 'run']) {
      const made = path.join(this.#directory.path, name);
      await mkdir(made, { recursive: true });
      if (user !== undefined) await chown(made, user.uid, user.gid);
    }
    await chmod(this.#directory.path, 0o755);
    await chmod(this.runDirectory, 0o700);
    await this.remount();
  }

  async remount(options: readonly string[] = this.#options.options ?? []): Promise<void> {
    const ours = ['--cache-dir', this.cacheDirectory];
    if (this.#options.standby !== true) ours.push('--no-standby');
    const parameters = ['mount', ...options, ...ours, this.#options.remote, this.path];
    const timeoutMs = this.#options.timeoutMs ?? mountTimeoutMs;
    living.set(this, () => this.#endAtOnce());
    const result = await this.ebb(parameters, { timeoutMs });
    if (result.code !== 0) {
      const how = result.timedOut ? `did not return in ${timeoutMs} ms` : `ended ${result.code}`;
      throw new Error(`ebb ${parameters.join(' ')}: ${how}\n${outputOf(result)}`);
    }
    await this.currentPid();
  }

  /** A daemon that has just followed another one serves before it takes commands. */
  async currentPid(): Promise<number> {
    const asking = { what: 'a daemon that can be asked', timeoutMs: mountTimeoutMs };
    const { pid, supervisorPid } = await waitFor(() => this.status(), asking);
    this.pid = pid;
    this.supervisorPid = supervisorPid;
    return pid;
  }

  over(): boolean {
    return !this.alive() && !processLives(this.supervisorPid);
  }

  ebb(parameters: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const { user } = this.#options;
    const home = path.join(this.#directory.path, 'home');
    return run(launcher, parameters, {
      timeoutMs: mountTimeoutMs,
      cwd: this.#directory.path,
      ...(user === undefined ? {} : user),
      ...options,
      env: {
        HOME: home,
        XDG_CACHE_HOME: path.join(home, '.cache'),
        EBB_RUN_DIR: this.runDirectory,
        ...this.#options.env,
        ...options.env,
      },
    });
  }

  /** Without a process of its own, where the run directory is ours: a kill should not be late, nor asking cost much. */
  async status(): Promise<MountStatus> {
    const records = this.#options.user === undefined ? readRunRecords(this.runDirectory) : [];
    const record = records.find(({ mountPoint }) => mountPoint === this.path);
    if (record === undefined) return await this.#statusByCommand();
    const status = await answerInTime(record, new ControlClient(record).status());
    assert(status.kind === 'mount');
    return status;
  }

  async #statusByCommand(): Promise<MountStatus> {
    const result = await this.ebb(['status', '--json', this.path]);
    if (result.code !== 0) throw new Error(`ebb status: ${result.code} ${outputOf(result)}`);
    const parsed = JSON.parse(result.stdout.toString()) as MountStatus | MountStatus[];
    const first = Array.isArray(parsed) ? parsed[0] : parsed;
    if (first === undefined) throw new Error('ebb status names no mount');
    return first;
  }

  alive(): boolean {
    return processLives(this.pid);
  }

  async unmount(): Promise<void> {
    const result = await this.ebb(['umount', this.path], { timeoutMs: unmountTimeoutMs });
    if (result.code !== 0) throw new Error(`ebb umount: ${result.code} ${outputOf(result)}`);
    await waitFor(() => this.over(), { what: 'the daemon to end', timeoutMs: 10_000 });
  }

  async kill(): Promise<void> {
    if (this.pid > 1 && this.alive()) process.kill(this.pid, 'SIGKILL');
    await waitFor(() => !this.alive(), { what: 'the killed daemon to go', timeoutMs: 10_000 });
  }

  killDaemons(): Promise<void> {
    return this.#kill(childrenOf(this.supervisorPid));
  }

  killAll(): Promise<void> {
    return this.#kill([this.supervisorPid, ...childrenOf(this.supervisorPid), this.pid]);
  }

  async #kill(pids: readonly number[]): Promise<void> {
    for (const pid of pids) if (processLives(pid)) process.kill(pid, 'SIGKILL');
    const gone = (): boolean => !pids.some(processLives);
    await waitFor(gone, { what: 'the killed processes to go', timeoutMs: 10_000 });
  }

  async detach(): Promise<void> {
    for (const point of await mountsBelow(this.path)) {
      await run('umount', ['--lazy', point], { timeoutMs: 10_000 });
    }
  }

  async logTail(): Promise<string> {
    const log = this.alive()
      ? await this.ebb(['log', '--lines', logTailLines, this.path], { timeoutMs: 5000 })
      : undefined;
    const state = this.alive() ? `daemon ${this.pid} lives` : `daemon ${this.pid} is gone`;
    return `${state}\n${log === undefined ? '' : outputOf(log).slice(-8000)}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      const mounted = (await mountsBelow(this.path)).length > 0;
      if (mounted && !this.over()) {
        await this.ebb(['umount', this.path], { timeoutMs: unmountTimeoutMs }).catch(() => {});
      }
      await abortConnections(this.path);
      await this.detach();
      if (!this.over()) {
        await waitFor(() => this.over(), { what: 'the end', timeoutMs: 3000 }).catch(() => {});
      }
      if (!this.over()) await this.killAll();
    } finally {
      living.delete(this);
      await this.#directory[Symbol.asyncDispose]();
    }
  }

  #endAtOnce(): void {
    for (const pid of [this.supervisorPid, ...childrenOf(this.supervisorPid), this.pid]) {
      if (processLives(pid)) process.kill(pid, 'SIGKILL');
    }
    spawnSync('umount', ['--lazy', this.path], { timeout: 5000, stdio: 'ignore' });
  }
}

function outputOf(result: RunResult): string {
  return `${result.stdout.toString()}${result.stderr.toString()}`.slice(-4000);
}

const connectionsDirectory = '/sys/fs/fuse/connections';

/**
 * Aborts the FUSE connections mounted at or below `directory`, the last resort that wakes readers that nothing
 * else wakes (Documentation/filesystems/fuse.rst, "Control filesystem"). Connections are named after the device
 * minor number, field 3 of mountinfo.
 */
export async function abortConnections(directory: string): Promise<void> {
  if (!existsSync(connectionsDirectory)) return;
  const points = new Set(await mountsBelow(directory));
  for (const line of (await readFile('/proc/self/mountinfo', 'utf8')).split('\n')) {
    const fields = line.split(' ');
    if (!points.has(fields[4] ?? '')) continue;
    const minor = (fields[2] ?? '').split(':')[1] ?? '';
    await writeFile(path.join(connectionsDirectory, minor, 'abort'), '1').catch(() => {});
  }
}
