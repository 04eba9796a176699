/**
 * Entry point of a tree's daemon, started by its supervisor (src/supervisor/daemon-process.ts): descriptors inherited,
 * everything else over the channel; the log on standard error. Ends with 0 once the tree was taken away.
 */
import { ebbError, toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { NativeProcess } from './native/native-process.ts';
import { SupervisorLink, takeInherited } from './native/supervisor-link.ts';

const lingerMaxMs = 2_000;
const refusedCodes = new Set(['EBUSY', 'EEXIST']);

function exitCodeOf(error: EbbError): 1 | 2 | 3 {
  if (error.code === 'EINVAL') return 2;
  return refusedCodes.has(error.code) ? 3 : 1;
}

async function main(): Promise<void> {
  const link = new SupervisorLink();
  const starting = new AbortController();
  let daemon: NativeProcess | undefined;
  const stop = (): void => {
    starting.abort(ebbError('EINTR', 'stopped by a signal while starting'));
    daemon?.stop(true).catch((error: unknown) => {
      process.stderr.write(`cannot take the tree away: ${toEbbError(error).message}\n`);
    });
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop);
  process.on('SIGHUP', () => undefined);
  void link.ended.then(() => starting.abort(ebbError('EINTR', 'the tree was taken away')));
  void link.lost.then(() => starting.abort(ebbError('ESHUTDOWN', 'the supervisor is gone')));
  try {
    const start = await link.started;
    daemon = await NativeProcess.start(start, takeInherited(), { link, signal: starting.signal });
  } catch (thrown) {
    const error = toEbbError(thrown);
    link.failed({ error: error.message, code: error.code, exitCode: exitCodeOf(error) });
    process.stderr.write(`${error.stack ?? error.message}\n`);
    process.exitCode = exitCodeOf(error);
    link.release();
    return;
  }
  link.ready(daemon.ready);
  await daemon.ended;
  link.release();
}

// A log that nobody reads any more (a closed pipe, a full disk) is no reason to end.
process.stderr.on('error', () => undefined);

// A bug must not leave readers hanging: the supervisor denies what this process had taken, and starts another one.
process.on('uncaughtException', (error) => {
  process.stderr.write(
    `${new Date().toISOString()} error uncaught: ${error.stack ?? error.message}\n`,
  );
  process.kill(process.pid, 'SIGKILL');
});

await main();
// All is closed: what still keeps the event loop alive is forgotten work, and must not keep the process.
setTimeout(() => process.exit(), lingerMaxMs).unref();
