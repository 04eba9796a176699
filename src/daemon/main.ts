/**
 * Entry point of a mount's daemon, started by `ebb mount`: options on standard input, the result on descriptor 3,
 * the log on standard error. Lives until the file system is unmounted or a signal asks it to stop.
 */
import { closeSync, writeSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import type { StartResult } from './api.ts';
import { MountProcess } from './mount-process.ts';
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

const refusedCodes = new Set(['EBUSY', 'EEXIST']);

function exitCodeOf(error: EbbError): 1 | 2 | 3 {
  if (error.code === 'EINVAL') return 2;
  return refusedCodes.has(error.code) ? 3 : 1;
}

async function main(): Promise<void> {
  let daemon: MountProcess;
  try {
    const configuration = parseOptions(await text(process.stdin));
    daemon = await MountProcess.start(configuration);
  } catch (thrown) {
    const error = toEbbError(thrown);
    report({ ok: false, error: error.message, code: error.code, exitCode: exitCodeOf(error) });
    process.stderr.write(`${error.stack ?? error.message}\n`);
    process.exitCode = exitCodeOf(error);
    return;
  }
  // A second signal while stopping changes nothing; SIGKILL is always safe.
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    process.on(signal, () => void daemon.stop(true));
  process.on('SIGHUP', () => undefined);
  report({ ok: true, run: daemon.run, ...daemon.counts() });
  await daemon.ended;
}

// A bug must not leave readers hanging: the process ends, the kernel answers ENOTCONN, `ebb mount` can start anew.
process.on('uncaughtException', (error) => {
  process.stderr.write(
    `${new Date().toISOString()} error uncaught: ${error.stack ?? error.message}\n`,
  );
  process.kill(process.pid, 'SIGKILL');
});

await main();
