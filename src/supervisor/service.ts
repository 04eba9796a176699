/**
 * What the entry points of supervisors have in common: options on standard input, progress and the result on
 * descriptor 3, the log on standard error, signals.
 */
import { closeSync, writeSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { ebbError, toEbbError } from '../base/errors.ts';
import { outliveTheLog, startExitCode } from '../base/service-process.ts';
import { indispensable } from './daemon-process.ts';
import type { Opaque } from './messages.ts';

const resultDescriptor = 3;

export interface Callbacks {
  readonly log: (level: 'info' | 'warn' | 'error', message: string) => void;
  readonly onProgress: (progress: Opaque) => void;
  /** Fires when a signal asks for the end, with an EbbError (EINTR). */
  readonly signal: AbortSignal;
}

export interface Service {
  /** For whoever started it. */
  readonly facts: Opaque;
  /** Resolves with whether all is in order; everything is closed then. */
  readonly ended: Promise<boolean>;
  /** Lazily: who asks by a signal cannot be told who the holders are. */
  stop(): Promise<void> | void;
  revive(): void;
}

/** Whoever started it may be gone by now; the service goes on without. */
function report(line: Opaque): void {
  try {
    writeSync(resultDescriptor, `${JSON.stringify(line)}\n`);
  } catch {
    // Nobody listens.
  }
}

function reportLast(line: Opaque): void {
  report(line);
  try {
    closeSync(resultDescriptor);
  } catch {
    // It was not even open.
  }
}

function log(level: 'info' | 'warn' | 'error', message: string): void {
  process.stderr.write(`${new Date().toISOString()} ${level} supervisor: ${message}\n`);
}

/** Runs until the service has ended. `start` throws EbbError with a sentence for the user, and leaves nothing then. */
export async function runService(
  start: (line: string, callbacks: Callbacks) => Promise<Service>,
): Promise<void> {
  outliveTheLog();
  indispensable();
  const stopping = new AbortController();
  let service: Service | undefined;
  const stop = (): void => {
    stopping.abort(ebbError('EINTR', 'stopped by a signal while starting'));
    const complain = (error: unknown): void => log('error', toEbbError(error).message);
    Promise.resolve(service?.stop()).catch(complain);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop);
  process.on('SIGHUP', () => service?.revive());
  try {
    service = await start(await text(process.stdin), {
      log,
      onProgress: (progress) => report({ progress }),
      signal: stopping.signal,
    });
  } catch (thrown) {
    const error = toEbbError(thrown);
    const exitCode = startExitCode(error);
    reportLast({ ok: false, error: error.message, code: error.code, exitCode });
    log('error', error.stack ?? error.message);
    process.exitCode = exitCode;
    return;
  }
  reportLast({ ok: true, ...service.facts });
  if (stopping.signal.aborted) stop();
  if (!(await service.ended)) process.exitCode = 1;
}
