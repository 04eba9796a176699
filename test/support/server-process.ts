/**
 * Runs one real server for a test: a free loopback port, a process group of its own, a wait until it answers,
 * and an end that comes even when the test fails or its process dies.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { accessSync, closeSync, constants, mkdtempSync, openSync, readFileSync } from 'node:fs';
import { rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { patience } from './patience.ts';
import { freePort, listensOn } from './ports.ts';

const startAttemptsMax = 5;
const readyTimeoutMs = 10_000;
const stopTimeoutMs = 3_000;
const logCharactersMax = 64 * 1024;

export interface RunningServer extends AsyncDisposable {
  /** Ends with `/`; names 127.0.0.1. */
  readonly url: string;
  readonly port: number;
  /** Of the master process; it leads a process group of its own. */
  readonly pid: number;
  /** Temporary directory of this server (configuration, logs); gone after `stop`. */
  readonly directory: string;
  /** What it printed, the last 64 KiB; until `stop`. */
  output(): string;
  /** SIGKILL to the whole group: the origin dies without a word. `stop` is still needed. */
  kill(): Promise<void>;
  /** Idempotent. */
  stop(): Promise<void>;
}

export interface ServerPlan {
  /** Command name, looked up in PATH and the sbin directories. */
  readonly command: string;
  /** Debian package to name when the command is missing. */
  readonly debianPackage: string;
  readonly scheme: 'http' | 'https' | 'nfs';
  /** Listen here instead of on a free port (to bring a killed origin back). */
  readonly port: number | undefined;
  /** Writes the configuration into `directory` and returns the arguments. */
  configure(directory: string, port: number): readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

/** Groups to kill should this process exit before the tests stopped them. */
const livingGroups = new Set<number>();
process.on('exit', () => {
  for (const pid of livingGroups) killGroup(pid, 'SIGKILL');
});

/** Absolute path of a program; throws a sentence that names the Debian package. */
export function findProgram(command: string, debianPackage: string): string {
  const directories = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'];
  for (const directory of directories) {
    const candidate = path.join(directory, command);
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // not here
    }
  }
  throw new Error(`${command} is missing; install the Debian package ${debianPackage}`);
}

/** Starts the server; tries other ports when somebody else was faster to take the one found free. */
export async function startServer(plan: ServerPlan): Promise<RunningServer> {
  const program = findProgram(plan.command, plan.debianPackage);
  let failure = '';
  for (let attempt = 0; attempt < startAttemptsMax; attempt += 1) {
    const directory = mkdtempSync(path.join(tmpdir(), `ebb-test-${plan.command}-`));
    const port = plan.port ?? (await freePort());
    const started = launch(program, plan, directory, port);
    if (await answers(started.child, port)) return running(plan, started, directory, port);
    failure = started.output();
    await end(started.child);
    rmSync(directory, { recursive: true, force: true });
  }
  throw new Error(`${plan.command} did not start: ${failure}`);
}

interface Started {
  readonly child: ChildProcess;
  output(): string;
}

function launch(program: string, plan: ServerPlan, directory: string, port: number): Started {
  const args = plan.configure(directory, port);
  const logFile = path.join(directory, 'output.log');
  const log = openSync(logFile, 'a');
  // setpriv: the kernel ends the server when the test's process dies, however it dies.
  const child = spawn('setpriv', ['--pdeathsig', 'TERM', '--', program, ...args], {
    detached: true,
    cwd: directory,
    stdio: ['ignore', log, log],
    env: { ...process.env, HOME: directory, ...plan.environment },
  });
  closeSync(log);
  child.on('error', () => {
    // `answers` notices that there is no process.
  });
  if (child.pid !== undefined) livingGroups.add(child.pid);
  return { child, output: () => readFileSync(logFile, 'latin1').slice(-logCharactersMax) };
}

function running(
  plan: ServerPlan,
  started: Started,
  directory: string,
  port: number,
): RunningServer {
  const { child } = started;
  child.unref();
  const stop = async (): Promise<void> => {
    await end(child);
    rmSync(directory, { recursive: true, force: true });
  };
  return {
    url: `${plan.scheme}://127.0.0.1:${port}/`,
    port,
    pid: child.pid ?? 0,
    directory,
    output: () => started.output(),
    async kill(): Promise<void> {
      killGroup(child.pid ?? 0, 'SIGKILL');
      await exited(child);
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** True when the port accepts connections and it is this process, not a stranger, that listens there. */
async function answers(child: ChildProcess, port: number): Promise<boolean> {
  const deadlineMs = performance.now() + patience * readyTimeoutMs;
  while (performance.now() < deadlineMs) {
    if (hasExited(child)) return false;
    if (listensOn(child.pid ?? 0, port) && (await connects(port))) return true;
    await sleep(20);
  }
  return false;
}

function connects(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => done(true));
    socket.once('error', () => done(false));
  });
}

function hasExited(child: ChildProcess): boolean {
  return child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
}

async function exited(child: ChildProcess): Promise<void> {
  if (hasExited(child)) return;
  await new Promise((resolve) => {
    child.once('exit', resolve);
  });
}

async function end(child: ChildProcess): Promise<void> {
  const { pid } = child;
  if (pid === undefined) return;
  if (!hasExited(child)) {
    child.ref();
    killGroup(pid, 'SIGTERM');
    const timer = setTimeout(() => killGroup(pid, 'SIGKILL'), patience * stopTimeoutMs);
    await exited(child);
    clearTimeout(timer);
  }
  killGroup(pid, 'SIGKILL');
  livingGroups.delete(pid);
}

function killGroup(pid: number, signal: NodeJS.Signals): void {
  if (pid <= 1) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // the group is gone
  }
}
