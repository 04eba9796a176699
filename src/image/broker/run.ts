/** The life of a broker process: it mounts, says how that went on descriptor 3, and stays until the mount is gone. */
import { closeSync, writeSync } from '../../base/node-fs.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { outliveTheLog, settleSoon } from '../../base/service-process.ts';
import type { Opened } from '../messages.ts';
import { refreshCodeCache, serverScript } from '../sandbox/code-cache.ts';
import { launchServer } from '../sandbox/launch.ts';
import type { Launched } from '../sandbox/launch.ts';
import type { ImageMount, ServerPlace } from './serve.ts';

const resultDescriptor = 3;

/** What was mounted: by FUSE, with somebody who serves it, or natively. */
export type Mounted = ImageMount | { readonly native: Opened };

export function log(message: string): void {
  process.stderr.write(`${new Date().toISOString()} image: ${message}\n`);
}

function report(line: object): void {
  try {
    writeSync(resultDescriptor, `${JSON.stringify(line)}\n`);
    closeSync(resultDescriptor);
  } catch {
    // Whoever started us is gone; the mount goes on without it.
  }
}

/**
 * Mounts by `mount`, and takes it away on SIGTERM and SIGINT; the signal that `mount` gets ends its making. The server
 * of the image is launched at once: it takes longest, and starts while the options come and the rest is loaded. Sets
 * the exit code; never rejects.
 */
export async function runBroker(
  mount: (place: ServerPlace, signal: AbortSignal) => Promise<Mounted>,
): Promise<void> {
  outliveTheLog();
  let mounted: ImageMount | undefined;
  const stopping = new AbortController();
  const stop = (): void => {
    stopping.abort(ebbError('EINTR', 'stopped by a signal while mounting'));
    mounted?.stop();
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop);
  let launched: Launched | undefined;
  try {
    const { source: script } = serverScript;
    launched = launchServer({ script });
    const done = await mount({ script, args: [], launched }, stopping.signal);
    if ('native' in done) {
      report({ ok: true, pid: 0, mode: 'native', ...done.native });
      refreshCodeCache();
      return;
    }
    mounted = done;
    report({ ok: true, pid: process.pid, mode: 'fuse', ...mounted.opened });
  } catch (thrown) {
    launched?.server[Symbol.dispose]();
    const error = toEbbError(thrown);
    const exitCode = error.code === 'EINVAL' ? 2 : 1;
    report({ ok: false, error: error.message, code: error.code, exitCode });
    log(error.stack ?? error.message);
    process.exitCode = exitCode;
    return;
  }
  for (const note of mounted.opened.notes) log(note.replaceAll(/\p{Cc}/gu, ' '));
  if (stopping.signal.aborted) mounted.stop();
  settleSoon();
  refreshCodeCache();
  const why = await mounted.ended;
  log(why === undefined ? 'unmounted' : `ended: ${why}`);
}
