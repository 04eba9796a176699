/**
 * Entry point of a mount's daemon, started by `ebb mount`: options on standard input, the result on descriptor 3,
 * the log on standard error. Lives until the file system is unmounted or a signal asks it to stop.
 */
import { closeSync, writeSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { ebbError, toEbbError } from '../base/errors.ts';
import { dieOfBugs, endSoon, outliveTheLog, startExitCode } from '../base/service-process.ts';
import type { StartResult } from './api.ts';
import { MountProcess } from './mount/mount-process.ts';
import { parseOptions } from './options.ts';

const resultDescriptor = 3;

/** Tells `ebb mount` how the start went. It may be gone by now; the mount goes on without it. */
function report(result: StartResult): void {
  try {
    writeSync(resultDescriptor, `${JSON.stringify(result)}\n`);
    closeSync(resultDescriptor);
  } catch {
    // Nobody listens.
  }
}

async function main(): Promise<void> {
  const starting = new AbortController();
  let daemon: MountProcess | undefined;
  // A second signal while stopping changes nothing; SIGKILL is always safe.
  const stop = (): void => {
    starting.abort(ebbError('EINTR', 'stopped by a signal while starting'));
    daemon?.stop(true).catch((error: unknown) => {
      process.stderr.write(`cannot unmount: ${toEbbError(error).message}\n`);
    });
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop);
  process.on('SIGHUP', () => undefined);
  try {
    const configuration = parseOptions(await text(process.stdin));
    daemon = await MountProcess.start(configuration, starting.signal);
  } catch (thrown) {
    const error = toEbbError(thrown);
    report({ ok: false, error: error.message, code: error.code, exitCode: startExitCode(error) });
    process.stderr.write(`${error.stack ?? error.message}\n`);
    process.exitCode = startExitCode(error);
    return;
  }
  if (starting.signal.aborted) stop();
  report({ ok: true, run: daemon.run, ...daemon.counts() });
  await daemon.ended;
}

outliveTheLog();
// The kernel answers ENOTCONN then, and `ebb mount` can start anew.
dieOfBugs();

await main();
endSoon();
