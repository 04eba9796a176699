/** The life of a tree's daemon, from the supervisor's word to start until the tree was taken away. */
import { ebbError, toEbbError } from '../../base/errors.ts';
import { startExitCode } from '../../base/service-process.ts';
import type { PreparedThread } from '../../base/prepared-thread.ts';
import { NativeProcess } from './native-process.ts';
import { takeInherited } from './supervisor-link.ts';
import type { Start, SupervisorLink } from './supervisor-link.ts';

/** Resolves when the tree was taken away and all is closed, or could not be served: the exit code is set then. */
export async function serve(
  link: SupervisorLink,
  start: Start,
  thread: PreparedThread,
): Promise<void> {
  const starting = new AbortController();
  let daemon: NativeProcess | undefined;
  const stop = (): void => {
    starting.abort(ebbError('EINTR', 'stopped by a signal while starting'));
    daemon?.stop(true).catch((error: unknown) => {
      process.stderr.write(`cannot take the tree away: ${toEbbError(error).message}\n`);
    });
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop);
  void link.ended.then(() => starting.abort(ebbError('EINTR', 'the tree was taken away')));
  void link.lost.then(() => starting.abort(ebbError('ESHUTDOWN', 'the supervisor is gone')));
  try {
    const surroundings = { link, thread, signal: starting.signal };
    daemon = await NativeProcess.start(start, takeInherited(start), surroundings);
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
