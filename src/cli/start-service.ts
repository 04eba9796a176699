/**
 * Starts a daemon or supervisor and waits for its word. The options go through its standard input (nothing secret in
 * its arguments), the answer comes on descriptor 3, and its log is a file unless it stays in the foreground.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync, renameSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { daemonEnvironment } from '../base/daemon-environment.ts';
import { ensureRunDirectory, runFiles } from '../base/run-directory.ts';
import type { Failure } from '../daemon/api.ts';
import type { KeptDescriptor } from './kept-descriptors.ts';
import { ExitCode } from './verb.ts';

export interface Started<Result> {
  readonly child: ChildProcess;
  readonly result: Result | Failure;
}

export interface Service {
  /** Below src/: `supervisor/main.ts`. */
  readonly script: string;
  /** Environment variable that names another script, in tests. */
  readonly scriptVariable: string;
  /** What the log is named after. */
  readonly mountPoint: string;
  readonly foreground: boolean;
  /** For the sentence about one that died: `it had mounted anything`. */
  readonly aim: string;
  /** Descriptors for the service, which this process gives away. */
  readonly kept?: readonly KeptDescriptor[];
  /** Lines before the answer. */
  readonly onProgress?: (line: object) => void;
  /** How long it may say nothing before it is stopped. Default 180,000: listing a slow remote's root takes time. */
  readonly silenceMaxMs?: number;
}

const silenceDefaultMs = 180_000;
const serviceFlags = [
  // Node alone trusts its own list of authorities: those of the system are added.
  '--use-system-ca',
  // MiB. At V8's 16 each thread keeps tens of MiB of garbage: docs/decisions/0012-receive-buffers-and-memory.md.
  '--max-semi-space-size=2',
  // %. V8 lets a heap grow to four times of what lives in it: docs/decisions/0034-memory-is-given-back.md.
  '--heap-growing-percent=100',
  // For src/base/heap-keeper.ts.
  '--expose-gc',
];
const logTailLines = 12;
const logTailMaxLength = 64 * 1024;

/** Starts it in a session of its own. Never rejects for what it does: see `result`. */
export async function startService<Result extends { readonly ok: true }>(
  service: Service,
  options: object,
): Promise<Started<Result>> {
  ensureRunDirectory();
  const { log } = runFiles(service.mountPoint);
  const logDescriptor = service.foreground ? undefined : openLog(log);
  const output = logDescriptor ?? 'inherit';
  const kept = service.kept ?? [];
  const child = spawn(process.execPath, [...process.execArgv, ...serviceFlags, scriptOf(service)], {
    cwd: '/',
    env: { ...daemonEnvironment, ...process.env, ...keptVariable(kept) },
    detached: true,
    stdio: ['pipe', output, output, 'pipe', ...kept.map(({ fd }) => fd)],
  });
  for (const { fd } of kept) closeSync(fd);
  // It has a session of its own: whoever ends this process means both, from the beginning.
  if (service.foreground) handSignalsOn(child);
  if (logDescriptor !== undefined) closeSync(logDescriptor);
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
  const stdin = child.stdin as Writable;
  stdin.on('error', () => {}); // it died first: its end says more
  stdin.end(`${JSON.stringify(options)}\n`);
  const answer = await readAnswer<Result>(child.stdio[3] as Readable, child, service);
  if (answer !== undefined) return { child, result: answer };
  const how = await ended;
  const tail = service.foreground ? '' : logTail(log);
  const error =
    `the daemon ended (${how}) before ${service.aim}` +
    (tail === '' ? '' : `; the end of its log ${log}:\n${tail}`);
  return { child, result: { ok: false, error, code: 'EIO', exitCode: 1 } };
}

function scriptOf({ script, scriptVariable }: Service): string {
  return process.env[scriptVariable] ?? fileURLToPath(new URL(`../${script}`, import.meta.url));
}

/** The numbers that they get follow the order. */
function keptVariable(kept: readonly KeptDescriptor[]): Readonly<Record<string, string>> {
  return kept.length === 0 ? {} : { EBB_KEPT_DESCRIPTORS: kept.map(({ name }) => name).join(':') };
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

/** The first line with `ok` on descriptor 3; undefined when there is none, or nothing sensible comes in time. */
async function readAnswer<Result>(
  pipe: Readable,
  child: ChildProcess,
  { onProgress, silenceMaxMs = silenceDefaultMs }: Service,
): Promise<Result | Failure | undefined> {
  const timer = setTimeout(() => child.kill('SIGTERM'), silenceMaxMs);
  try {
    for await (const line of createInterface({ input: pipe, crlfDelay: Infinity })) {
      const value: unknown = JSON.parse(line);
      if (typeof value !== 'object' || value === null) return undefined;
      if ('ok' in value) return value as Result | Failure;
      onProgress?.(value);
      timer.refresh();
    }
    return undefined;
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
    pipe.destroy();
  }
}

function handSignalsOn(child: ChildProcess): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => child.kill(signal));
  }
}

/** Until it ends. */
export function followForeground(child: ChildProcess): Promise<ExitCode> {
  return new Promise((resolve) => {
    child.once('exit', (code) => resolve(code === 0 ? ExitCode.done : ExitCode.failed));
    if (child.exitCode !== null || child.signalCode !== null) resolve(ExitCode.failed);
  });
}
