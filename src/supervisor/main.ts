/**
 * Entry point of a tree's supervisor, started by `ebb attach`: options on standard input, progress and the result on
 * descriptor 3, the log on standard error. Lives until the tree was taken away (docs/native.md, "Processes").
 */
import { closeSync, writeSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { toEbbError } from '../base/errors.ts';
import { outliveTheLog, startExitCode } from '../base/service-process.ts';
import { attach } from './attach.ts';
import { indispensable } from './daemon-process.ts';

const resultDescriptor = 3;

/** `ebb attach` may be gone by now; the tree goes on without it. */
function report(line: Readonly<Record<string, unknown>>): void {
  try {
    writeSync(resultDescriptor, `${JSON.stringify(line)}\n`);
  } catch {
    // Nobody listens.
  }
}

function reportLast(line: Readonly<Record<string, unknown>>): void {
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

async function main(): Promise<void> {
  let stopping = false;
  let attached: Awaited<ReturnType<typeof attach>> | undefined;
  const stop = (): void => {
    stopping = true;
    attached?.stop().catch((error: unknown) => log('error', toEbbError(error).message));
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop);
  process.on('SIGHUP', () => attached?.revive());
  try {
    attached = await attach(await text(process.stdin), {
      log,
      onProgress: (progress) => report({ progress }),
    });
  } catch (thrown) {
    const error = toEbbError(thrown);
    const exitCode = startExitCode(error);
    reportLast({ ok: false, error: error.message, code: error.code, exitCode });
    log('error', error.stack ?? error.message);
    process.exitCode = exitCode;
    return;
  }
  reportLast({ ok: true, ...attached.facts });
  if (stopping) stop();
  await attached.ended;
}

outliveTheLog();
indispensable();
await main();
