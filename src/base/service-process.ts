/** What the processes that serve have in common: how a start in vain ends, and what a bug or forgotten work does. */
import { flushCompileCache } from 'node:module';
import type { EbbError } from './errors.ts';
import { boundHeapGrowth } from './heap-keeper.ts';

const refusedCodes: ReadonlySet<string> = new Set(['EBUSY', 'EEXIST']);
const lingerMaxMs = 2_000;
const settleAfterMs = 500;

/** 2: wrong options; 3: refused, because somebody else is there; 1: it failed. */
export function startExitCode({ code }: EbbError): 1 | 2 | 3 {
  if (code === 'EINVAL') return 2;
  return refusedCodes.has(code) ? 3 : 1;
}

/** A log that nobody reads any more (a closed pipe, a full disk) is no reason to end. */
export function outliveTheLog(): void {
  process.stderr.on('error', () => undefined);
}

/** A bug must not leave readers hanging: the process dies at once, and whoever holds its mount or groups sees it. */
export function dieOfBugs(): void {
  process.on('uncaughtException', (error) => {
    process.stderr.write(
      `${new Date().toISOString()} error uncaught: ${error.stack ?? error.message}\n`,
    );
    process.kill(process.pid, 'SIGKILL');
  });
}

/**
 * What a process that serves does when it is loaded, but not at once: readers may wait for this start. It keeps what V8
 * made of the code for the next one (NODE_COMPILE_CACHE): Node does that when a process ends in order, which this one
 * may never do. Then its heap may not grow as V8 likes any more (compiled code is good for the same switches only).
 */
export function settleSoon(): void {
  setTimeout(() => {
    flushCompileCache();
    boundHeapGrowth();
  }, settleAfterMs).unref();
}

/** All is closed: what still keeps the event loop alive is forgotten work, and must not keep the process. */
export function endSoon(): void {
  setTimeout(() => process.exit(), lingerMaxMs).unref();
}
