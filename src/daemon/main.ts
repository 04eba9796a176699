/**
 * Entry point of a mount's daemon, started by its supervisor (src/supervisor/mount-supervisor.ts): descriptors
 * inherited, everything else over the channel; the log on standard error. Waits until it is told to serve, with all of
 * its code loaded. Ends with 0 when the file system is unmounted.
 */
import { writeSync } from 'node:fs';
import { ebbError, toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { MountProcess, prepareThread } from './mount/mount-process.ts';
import { SupervisorLink } from './mount/supervisor-link.ts';
import type { Start } from './mount/supervisor-link.ts';
import { parseOptions } from './options.ts';

const lingerMaxMs = 2_000;
const refusedCodes = new Set(['EBUSY', 'EEXIST']);

function exitCodeOf(error: EbbError): 1 | 2 | 3 {
  if (error.code === 'EINVAL') return 2;
  return refusedCodes.has(error.code) ? 3 : 1;
}

/** Ends at once, as a crash does: what the kernel waits for is delivered to the next daemon. */
function die(): void {
  process.kill(process.pid, 'SIGKILL');
}

async function serve(link: SupervisorLink, start: Start): Promise<void> {
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
  void link.stopped.then(stop);
  try {
    const configuration = parseOptions(start.line);
    daemon = await MountProcess.start(configuration, {
      link,
      start,
      thread,
      signal: starting.signal,
      die,
    });
  } catch (thrown) {
    const error = toEbbError(thrown);
    link.failed({ error: error.message, code: error.code, exitCode: exitCodeOf(error) });
    writeSync(2, `${error.stack ?? error.message}\n`);
    if (start.established !== undefined) die();
    process.exitCode = exitCodeOf(error);
    link.release();
    return;
  }
  if (starting.signal.aborted) stop();
  link.ready({ run: daemon.run, ...(start.restarts === 0 ? daemon.counts() : {}) });
  await daemon.ended;
  link.release();
}

// A log that nobody reads any more (a closed pipe, a full disk) is no reason to end.
process.stderr.on('error', () => undefined);
process.on('SIGHUP', () => undefined);

// A bug must not leave readers hanging: the process ends, and the supervisor starts another one.
process.on('uncaughtException', (error) => {
  writeSync(2, `${new Date().toISOString()} error uncaught: ${error.stack ?? error.message}\n`);
  die();
});

const link = new SupervisorLink();
// Loads while nothing is to be done yet.
const thread = prepareThread();
link.warm();
const start = await link.started.catch((error: unknown) => {
  writeSync(2, `${toEbbError(error).message}\n`);
  process.exit(1);
});
await serve(link, start);
// All is closed: what still keeps the event loop alive is forgotten work, and must not keep the process.
setTimeout(() => process.exit(), lingerMaxMs).unref();
