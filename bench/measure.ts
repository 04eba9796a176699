/** Measuring: descriptors of a process, medians, cold caches, the C reader. */
import { execFileSync } from 'node:child_process';
import { chmodSync, readdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { runOk } from '../test/support/run.ts';

/** Open descriptors. */
export function descriptorCount(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** The middle value, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

/** What the next run may fill with page cache twice over. */
const touchedMemoryBytes = 6 * 1024 ** 3;

/**
 * Touches free memory: in a virtual machine a page that the host has not backed yet costs several times a copy of it,
 * which would be measured instead of the program, and differently in each run. The host takes it back within seconds.
 */
export function touchMemory(): void {
  execFileSync(process.execPath, ['-e', `Buffer.alloc(${touchedMemoryBytes}, 1)`]);
}

/**
 * What a process holds is what starting another one costs it, because it is copied first: 55 ms with a GiB of buffers,
 * which would count as time of whatever is started and measured.
 */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}

/** Forgets page cache, dentries and inodes, and touches the memory that was freed; needs root. */
export function dropCaches(): void {
  execFileSync('sync');
  writeFileSync('/proc/sys/vm/drop_caches', '3');
  touchMemory();
}

export interface Reading {
  readonly seconds: number;
  readonly bytes: number;
}

/** Who runs a program, where root may not look into a mount. */
export interface User {
  readonly uid: number;
  readonly gid: number;
}

export interface ProgramOptions {
  /** Bounds a peer that hangs; the scenario then has no figure for it. Default 180,000. */
  readonly timeoutMs?: number;
  /** Default: the caller. */
  readonly user?: User | undefined;
  /** The only processor it may run on. Default: any. */
  readonly processor?: number | undefined;
}

/**
 * Where a caller and who serves it run decides more than what they do: waking another processor that sleeps costs tens
 * of µs in a virtual machine, and which one the scheduler takes changes from run to run. So short answers are measured
 * both ways, with the caller on the first processor.
 */
export const processorPlaces = [
  { place: 'Apart', server: 1 },
  { place: '', server: 0 },
] as const;
export const callerProcessor = 0;

/** All threads of a process, and what it starts from now on, run on this processor only; undefined: on any. */
export function pinProcess(pid: number, processor: number | undefined): void {
  const list = processor === undefined ? `0-${os.availableParallelism() - 1}` : String(processor);
  execFileSync('taskset', ['--all-tasks', '--cpu-list', '--pid', list, String(pid)], {
    stdio: 'ignore',
  });
}

const programTimeoutMs = 180_000;

/** The compiled bench/reader.c. */
export class Reader {
  readonly #program: string;

  private constructor(program: string) {
    this.#program = program;
  }

  static async compile(directory: string): Promise<Reader> {
    const program = path.join(directory, 'reader');
    const source = path.join(import.meta.dirname, 'reader.c');
    await runOk('gcc', ['-O2', '-Wall', '-Wextra', '-o', program, source], {
      debianPackage: 'gcc',
    });
    // Other users run it, too.
    chmodSync(directory, 0o755);
    return new Reader(program);
  }

  async run(
    mode: string,
    file: string,
    count?: number,
    { timeoutMs = programTimeoutMs, user, processor }: ProgramOptions = {},
  ): Promise<Reading> {
    const words = [this.#program, mode, file, ...(count === undefined ? [] : [String(count)])];
    const pin = processor === undefined ? [] : ['taskset', '--cpu-list', String(processor)];
    const [command = '', ...parameters] = [...pin, ...words];
    const result = await runOk(command, parameters, { timeoutMs, ...user });
    return JSON.parse(result.stdout.toString()) as Reading;
  }
}

/** Runs a command with its output thrown away; seconds of wall time. */
export async function timeCommand(
  script: string,
  directory: string,
  { timeoutMs = programTimeoutMs, user }: ProgramOptions = {},
): Promise<number> {
  const startedMs = performance.now();
  await runOk('/bin/sh', ['-c', `cd "$0" && ${script}`, directory], { timeoutMs, ...user });
  return (performance.now() - startedMs) / 1000;
}
