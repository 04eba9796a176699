/** The FUSE thread of a mount, started before it has anything to do. Imports as little as it can: see ../main.ts. */
import type { PreparedThread } from '../../base/prepared-thread.ts';
import { prepareFuseThread } from '../../fuse/thread.ts';

export const threadModule = new URL('../../mount/thread.ts', import.meta.url);

/** The FUSE thread, which begins to load its code. */
export function prepareThread(): PreparedThread {
  return prepareFuseThread(threadModule);
}
