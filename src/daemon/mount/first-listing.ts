/** The beginning of a mount: how the remote is opened, and what it must be able to do before anything is mounted. */
import { toEbbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import { ROOT_NODE_ID } from '../../catalog/catalog.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Namespace } from '../../recall/namespace/namespace.ts';
import type { openRemote } from '../../remote/open-remote.ts';
import type { Logbook } from '../logbook.ts';
import type { Configuration } from '../options.ts';

export function remoteOptions(
  configuration: Configuration,
  logbook: Logbook,
): Parameters<typeof openRemote>[0] {
  const { remote, retries, ...rest } = configuration;
  return {
    ...rest,
    url: remote,
    retries,
    onRetry: (message: string) => logbook.log('info', message),
  };
}

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
