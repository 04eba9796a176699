/** The life of a mount's daemon, from the supervisor's word to start until the file system is unmounted. */
import { writeSync } from 'node:fs';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { startExitCode } from '../../base/service-process.ts';
import type { PreparedThread } from '../../base/prepared-thread.ts';
import { parseOptions } from '../options.ts';
import { MountProcess } from './mount-process.ts';
import type { Start, SupervisorLink } from './supervisor-link.ts';

export interface ServeOptions {
  /** Made by `prepareThread`. */
  readonly thread: PreparedThread;
  /** Ends the process as a crash does: what the kernel waits for is delivered to the next daemon. */
  readonly die: () => void;
}

/** Resolves when the file system is unmounted and all is closed, or could not be served: the exit code is set then. */
export async function serve(
  link: SupervisorLink,
  start: Start,
  { thread, die }: ServeOptions,
): Promise<void> {
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
    link.failed({ error: error.message, code: error.code, exitCode: startExitCode(error) });
    writeSync(2, `${error.stack ?? error.message}\n`);
    if (start.established !== undefined) die();
    process.exitCode = startExitCode(error);
    link.release();
    return;
  }
  if (starting.signal.aborted) stop();
  link.ready({ run: daemon.run, ...(start.restarts === 0 ? daemon.counts() : {}) });
  await daemon.ended;
  link.release();
}
