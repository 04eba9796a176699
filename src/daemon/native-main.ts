/**
 * Entry point of a tree's daemon, started by its supervisor (src/supervisor/daemon-process.ts): descriptors inherited,
 * everything else over the channel; the log on standard error. Ends with 0 once the tree was taken away.
 */
import { ebbError, toEbbError } from '../base/errors.ts';
import {
  dieOfBugs,
  endSoon,
  keepCompiledCode,
  outliveTheLog,
  startExitCode,
} from '../base/service-process.ts';
import { NativeProcess } from './native/native-process.ts';
import { SupervisorLink, takeInherited } from './native/supervisor-link.ts';

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
    link.failed({ error: error.message, code: error.code, exitCode: startExitCode(error) });
    process.stderr.write(`${error.stack ?? error.message}\n`);
    process.exitCode = startExitCode(error);
    link.release();
    return;
  }
  link.ready(daemon.ready);
  await daemon.ended;
  link.release();
}

outliveTheLog();
// The supervisor denies what this process had taken then, and starts another one.
dieOfBugs();
keepCompiledCode();

await main();
endSoon();
