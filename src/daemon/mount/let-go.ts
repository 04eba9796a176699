/** The end of a FUSE thread whose daemon ends because it cannot serve. */
import { endedWithin } from '../../base/deadline.ts';
import type { FuseThreads } from '../../fuse/thread.ts';

/** What it has in hand takes microseconds; where it takes longer, that may be why the daemon cannot serve. */
const waitMaxMs = 1_000;

/**
 * Waits until the thread has ended what it is doing. Without that a request that it has in hand would be charged for
 * the death of a daemon that knows what it dies of (request-journal.ts), and be given up after three such starts. One
 * that keeps it for longer is charged, and so is one that the thread died of. Never rejects.
 */
export async function letGo(threads: FuseThreads | undefined): Promise<void> {
  if (threads === undefined) return;
  await endedWithin(
    threads.stop().catch(() => undefined),
    waitMaxMs,
  );
}
