/**
 * Starts a daemon or supervisor and waits for its word. The options go through its standard input (nothing secret in
 * its arguments), the answer comes on descriptor 3, and its log is a file unless it stays in the foreground.
 */
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync, renameSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { ensureRunDirectory, isRunning, readRunRecords, runFiles } from '../base/run-directory.ts';
import type { Failure } from '../daemon/start-api.ts';
import type { KeptDescriptor } from './kept-descriptors.ts';
import { launch, scriptOf } from './launch-service.ts';
import type { Launched, Program } from './launch-service.ts';
import { takeStartedAhead } from './started-ahead.ts';
import { tidyRunDirectory } from './tidy-run-directory.ts';
import { ExitCode } from './verb.ts';

export interface Started<Result> {
  /** In the foreground. */
  readonly child: ChildProcess | undefined;
  readonly result: Result | Failure;
}

export interface Service extends Program {
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
const logTailLines = 12;
const logTailMaxLength = 64 * 1024;

/** `log`: undefined in the foreground. */
function launchFor(service: Service, log: string | undefined): Launched {
  const { kept = [] } = service;
  const script = scriptOf(service);
  if (log === undefined) return launch(script, 'inherit', kept);
  if (!isServed(service.mountPoint)) keepLastLog(log);
  const started = kept.length === 0 ? takeStartedAhead(script, log) : undefined;
  if (started !== undefined) return started;
  const output = openSync(log, 'a', 0o600);
  try {
    return launch(script, output, kept);
  } finally {
    closeSync(output);
  }
}

/** Never rejects for what the service does: see `result`. */
export async function startService<Result extends { readonly ok: true }>(
  service: Service,
  options: object,
): Promise<Started<Result>> {
  tidyRunDirectory(ensureRunDirectory());
  const { log } = runFiles(service.mountPoint);
  const launched = launchFor(service, service.foreground ? undefined : log);
  for (const { fd } of service.kept ?? []) closeSync(fd);
  // It has a session of its own: whoever ends this process means both, from the beginning.
  handSignalsOn(launched, service.foreground);
  launched.options.end(`${JSON.stringify(options)}\n`);
  const answer = await readAnswer<Result>(launched, service);
  const child = service.foreground ? launched.child : undefined;
  if (answer !== undefined) return { child, result: answer };
  const how = await launched.ended();
  const tail = service.foreground ? '' : logTail(log);
  const error =
    `the daemon ended (${how}) before ${service.aim}` +
    (tail === '' ? '' : `; the end of its log ${log}:\n${tail}`);
  return { child, result: { ok: false, error, code: 'EIO', exitCode: 1 } };
}

/** Whoever serves it goes on writing to his log, and the next one, which he refuses, says so in the same. */
function isServed(mountPoint: string): boolean {
  return readRunRecords().some((one) => one.mountPoint === mountPoint && isRunning(one));
}

/** The last run's log is kept once, as `.log.1`. */
function keepLastLog(file: string): void {
  try {
    renameSync(file, `${file}.1`);
  } catch {
    // There was none.
  }
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
  { answers, kill }: Launched,
  { onProgress, silenceMaxMs = silenceDefaultMs }: Service,
): Promise<Result | Failure | undefined> {
  const timer = setTimeout(() => kill('SIGTERM'), silenceMaxMs);
  try {
    for await (const line of createInterface({ input: answers, crlfDelay: Infinity })) {
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
    answers.destroy();
  }
}

/**
 * In the background only the start can be ended so: who insists does not wait for what becomes of it. A terminal that
 * hangs up ends nothing there: a long attaching goes on. In the foreground it ends the service, to which SIGHUP itself
 * means something else.
 */
function handSignalsOn({ kill }: Launched, foreground: boolean): void {
  let isAsked = false;
  for (const signal of ['SIGINT', 'SIGTERM', ...(foreground ? ['SIGHUP'] : [])] as const) {
    process.on(signal, () => {
      if (isAsked && !foreground) process.exit(ExitCode.failed);
      isAsked = true;
      kill(signal === 'SIGINT' ? 'SIGINT' : 'SIGTERM');
    });
  }
}

/** Until it ends. */
export function followForeground(child: ChildProcess): Promise<ExitCode> {
  return new Promise((resolve) => {
    const over = (code: number | null): void =>
      resolve(code === 0 ? ExitCode.done : ExitCode.failed);
    child.once('exit', over);
    if (child.exitCode !== null || child.signalCode !== null) over(child.exitCode);
  });
}
