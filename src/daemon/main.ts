/**
 * Entry point of a mount's daemon, started by its supervisor (src/supervisor/mount-supervisor.ts): descriptors
 * inherited, everything else over the channel; the log on standard error. Waits until it is told to serve, with all of
 * its code loaded. Ends with 0 when the file system is unmounted.
 *
 * Readers may wait for it to be loaded (docs/decisions/0022-a-mount-outlives-its-daemon.md): both threads load at the
 * same time, and keep what V8 made of the code for the next start (NODE_COMPILE_CACHE).
 */
import { writeSync } from 'node:fs';
import { toEbbError } from '../base/errors.ts';
import { keepHeapSmall } from '../base/heap-keeper.ts';
import { endSoon, settleSoon, outliveTheLog } from '../base/service-process.ts';
import { requestInHand } from '../mount/in-hand.ts';
import { dieWithParent, outliveParent } from '../sys/execute.ts';
import { prepareThread } from './mount/prepare-thread.ts';
import type { SupervisorLink } from './mount/supervisor-link.ts';

/**
 * Ends at once, as a crash does: what the kernel waits for is delivered to the next daemon. By a signal that leaves no
 * core and is not SIGKILL: the supervisor can tell it from what somebody else does.
 */
function die(): void {
  process.kill(process.pid, 'SIGUSR2');
}

outliveTheLog();
process.on('SIGHUP', () => undefined);

// A bug must not leave readers hanging: the process ends, and the supervisor starts another one.
const self: { link?: SupervisorLink } = {};
process.on('uncaughtException', (error) => {
  try {
    const unique = requestInHand();
    if (unique !== undefined) self.link?.diesOf(unique);
    writeSync(2, `${new Date().toISOString()} error uncaught: ${error.stack ?? error.message}\n`);
  } finally {
    die();
  }
});

// Who waits and cannot notice (stopped, stuck while loading) would hold the mount with nobody to serve it.
dieWithParent();
const thread = prepareThread();
const { serve } = await import('./mount/serve.ts');
const { SupervisorLink: Link } = await import('./mount/supervisor-link.ts');
const link = new Link();
self.link = link;
link.warm();
settleSoon();
const start = await link.started.catch((error: unknown) => {
  writeSync(2, `${toEbbError(error).message}\n`);
  process.exit(1);
});
keepHeapSmall();
outliveParent();
await serve(link, start, { thread, die });
endSoon();
