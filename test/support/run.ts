/**
 * Running other programs from tests: always with a timeout, output captured and bounded, nothing
 * left running. A child is the leader of its own process group, so that a timeout ends what it
 * started, too. A child that cannot be killed (stuck in the kernel on a dead mount) is given up,
 * not waited for.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { patience } from './patience.ts';

export interface RunOptions {
  /** Then the process group is killed. Default 30,000. */
  readonly timeoutMs?: number;
  readonly cwd?: string;
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  /** Per stream; what exceeds it is dropped from the front. Default 16 MiB. */
  readonly outputMaxBytes?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Named in the message when the program is not installed. */
  readonly debianPackage?: string;
}

export interface RunResult {
  /** null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly timedOut: boolean;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

const defaultTimeoutMs = 30_000;
const defaultOutputMaxBytes = 16 * 1024 * 1024;
const killGraceMs = 2000;

const running = new Set<ChildProcess>();
let exitHookInstalled = false;

/** Registers a child for being killed (with its group) when this process exits before it. */
export function killAtExit(child: ChildProcess): void {
  running.add(child);
  child.once('exit', () => running.delete(child));
  if (exitHookInstalled) return;
  exitHookInstalled = true;
  process.on('exit', () => {
    for (const each of running) killGroup(each);
  });
}

/** SIGKILL to the child's process group (it was spawned with `detached`). Never throws. */
export function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    child.kill('SIGKILL');
  }
}

/**
 * Runs a program to its end. Rejects only when it cannot be started; see `runOk` for exit codes.
 */
export function run(
  command: string,
  parameters: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, parameters, {
      cwd: options.cwd,
      env: { ...process.env, PATH: searchPath(), LC_ALL: 'C.UTF-8', ...options.env },
      uid: options.uid,
      gid: options.gid,
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    killAtExit(child);
    const maximumBytes = options.outputMaxBytes ?? defaultOutputMaxBytes;
    const stdout = new OutputTail(maximumBytes);
    const stderr = new OutputTail(maximumBytes);
    child.stdout.on('data', (bytes: Buffer) => stdout.add(bytes));
    child.stderr.on('data', (bytes: Buffer) => stderr.add(bytes));
    child.stdin.on('error', () => {});
    child.stdin.end(options.input);

    let timedOut = false;
    let giveUp: NodeJS.Timeout | undefined;
    const finish = (code: number | null, signal: NodeJS.Signals | null): void => {
      clearTimeout(timer);
      clearTimeout(giveUp);
      resolve({ code, signal, timedOut, stdout: stdout.bytes(), stderr: stderr.bytes() });
    };
    const timer = setTimeout(
      () => {
        timedOut = true;
        killGroup(child);
        giveUp = setTimeout(() => {
          child.stdout.destroy();
          child.stderr.destroy();
          child.unref();
          finish(null, 'SIGKILL');
        }, killGraceMs);
      },
      patience * (options.timeoutMs ?? defaultTimeoutMs),
    );
    child.once('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      reject(error.code === 'ENOENT' ? notInstalled(command, options) : error);
    });
    child.once('close', finish);
  });
}

/**
 * Like `run`, but anything except exit code 0 rejects with the command line and the end of stderr.
 */
export async function runOk(
  command: string,
  parameters: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const result = await run(command, parameters, options);
  if (result.code === 0) return result;
  const line = [command, ...parameters].join(' ');
  const how = result.timedOut
    ? `did not end within ${options.timeoutMs ?? defaultTimeoutMs} ms`
    : `ended with ${result.signal ?? result.code}`;
  const said = [result.stdout, result.stderr]
    .map((bytes) => bytes.toString().slice(-2000))
    .join('');
  throw new Error(`${line}: ${how}\n${said}`);
}

/** What a command that ends with 0 prints, without white space around it. */
export async function said(command: string, ...parameters: string[]): Promise<string> {
  return (await runOk(command, parameters)).stdout.toString().trim();
}

/**
 * PATH with the folders where mkfs, losetup and servers are, which a plain user's PATH may lack.
 */
function searchPath(): string {
  return `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin:/sbin`;
}

function notInstalled(command: string, options: RunOptions): Error {
  const advice =
    options.debianPackage === undefined
      ? 'it is not installed'
      : `install the Debian package ${options.debianPackage}`;
  return new Error(`this test needs the program ${command}: ${advice}`);
}

/** Fails with a sentence naming the Debian package unless `command` can be found on PATH. */
export async function requireProgram(command: string, debianPackage: string): Promise<void> {
  const found = await run('/bin/sh', ['-c', 'command -v "$0"', command], { timeoutMs: 10_000 });
  if (found.code !== 0) throw notInstalled(command, { debianPackage });
}

class OutputTail {
  #parts: Buffer[] = [];
  #sizeBytes = 0;
  readonly #maximumBytes: number;

  constructor(maximumBytes: number) {
    this.#maximumBytes = maximumBytes;
  }

  add(bytes: Buffer): void {
    this.#parts.push(bytes);
    this.#sizeBytes += bytes.length;
    while (this.#sizeBytes > this.#maximumBytes && this.#parts.length > 1) {
      this.#sizeBytes -= this.#parts.shift()?.length ?? 0;
    }
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}
