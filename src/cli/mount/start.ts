/**
 * Starts a daemon and waits for its word. The options go through its standard input (nothing secret in its
 * arguments), the answer comes on descriptor 3, and its log is a file unless it stays in the foreground.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync, renameSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Readable, Writable } from 'node:stream';
import { ensureRunDirectory, runFiles } from '../../base/run-directory.ts';
import type { MountOptions, StartResult } from '../../daemon/api.ts';

export interface Started {
  readonly child: ChildProcess;
  readonly result: StartResult;
}

/** A daemon that has not answered by then is stopped. Listing a slow remote's root takes time. */
const startTimeoutMs = 180_000;
/** What is read once, before the daemon's first line runs. */
const daemonEnvironment = {
  // libuv: syncs of the cache's disk must not keep recalls from writing.
  UV_THREADPOOL_SIZE: '16',
  // mallopt(3): receive buffers go back to the system, and threads share heaps. 20 MiB less after long reads.
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '131072',
};
const answerMaxLength = 1024 * 1024;
const logTailLines = 12;
const logTailMaxLength = 64 * 1024;

/** The daemon's script; `EBB_DAEMON_MAIN` replaces it in tests. */
function daemonMain(): string {
  const override = process.env['EBB_DAEMON_MAIN'];
  return override ?? fileURLToPath(new URL('../../daemon/main.ts', import.meta.url));
}

/** Starts the daemon in a session of its own. Never rejects for what the daemon does: see `result`. */
export async function startDaemon(options: MountOptions): Promise<Started> {
  ensureRunDirectory();
  const { log } = runFiles(options.mountPoint);
  const foreground = options.foreground === true;
  const logDescriptor = foreground ? undefined : openLog(log);
  const output = logDescriptor ?? 'inherit';
  // Node alone trusts its own list of authorities: those of the system are added.
  const flags = [...process.execArgv, '--use-system-ca'];
  const child = spawn(process.execPath, [...flags, daemonMain()], {
    cwd: '/',
    env: { ...daemonEnvironment, ...process.env },
    detached: true,
    stdio: ['pipe', output, output, 'pipe'],
  });
  if (logDescriptor !== undefined) closeSync(logDescriptor);
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
  const stdin = child.stdin as Writable;
  stdin.on('error', () => {}); // the daemon died first: its end says more
  stdin.end(`${JSON.stringify(options)}\n`);
  const answer = await readAnswer(child.stdio[3] as Readable, child);
  if (answer !== undefined) return { child, result: answer };
  const how = await ended;
  const tail = foreground ? '' : logTail(log);
  const error =
    `the daemon ended (${how}) before it had mounted anything` +
    (tail === '' ? '' : `; the end of its log ${log}:\n${tail}`);
  return { child, result: { ok: false, error, code: 'EIO', exitCode: 1 } };
}

/** The last run's log is kept once, as `.log.1`. */
function openLog(file: string): number {
  try {
    renameSync(file, `${file}.1`);
  } catch {
    // There was none.
  }
  return openSync(file, 'a', 0o600);
}

function logTail(file: string): string {
  try {
    const text = readFileSync(file, 'utf8').slice(-logTailMaxLength).trimEnd();
    return text.split('\n').slice(-logTailLines).join('\n');
  } catch {
    return '';
  }
}

/** The first line of descriptor 3; undefined when it closes without one, or nothing sensible comes in time. */
async function readAnswer(pipe: Readable, child: ChildProcess): Promise<StartResult | undefined> {
  const timer = setTimeout(() => child.kill('SIGTERM'), startTimeoutMs);
  let text = '';
  try {
    pipe.setEncoding('utf8');
    for await (const chunk of pipe as AsyncIterable<string>) {
      text += chunk;
      if (text.includes('\n') || text.length > answerMaxLength) break;
    }
    const value: unknown = JSON.parse(text.split('\n', 1)[0] ?? '');
    return isStartResult(value) ? value : undefined;
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
    pipe.destroy();
  }
}

function isStartResult(value: unknown): value is StartResult {
  return typeof value === 'object' && value !== null && 'ok' in value;
}
