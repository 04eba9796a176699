/** The beginning of a mount: what the remote must be able to do before anything is mounted. */
import { toEbbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import { ROOT_NODE_ID } from '../../catalog/catalog.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Namespace } from '../../recall/namespace/namespace.ts';
import type { Logbook } from '../logbook.ts';

/** Proves that the remote is what the user said; one that was listed before may be down. */
export async function firstListing(
  namespace: Namespace,
  catalog: Catalog,
  logbook: Logbook,
  signal: AbortSignal,
): Promise<void> {
  try {
    signal.throwIfAborted();
    await namespace.list(ROOT_NODE_ID, signal);
  } catch (thrown) {
    signal.throwIfAborted();
    const error: EbbError = toEbbError(thrown);
    const known = catalog.node(ROOT_NODE_ID)?.listedAtMs ?? 0;
    const mayServeKnown = known > 0 && error.retryable;
    if (!mayServeKnown) throw error;
    logbook.log('warn', `the remote cannot be reached, serving what is known: ${error.message}`);
  }
}
