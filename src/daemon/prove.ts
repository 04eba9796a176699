/** That the remote still has what is about to be freed here (invariant I6). */
import { isTransferVersion } from '../recall/namespace/reconcile.ts';
import type { Remote } from '../remote/remote.ts';
import type { ContentFile } from '../tree/content.ts';
import type { RemoteProof } from '../tree/release.ts';

/**
 * Fresh facts of the remote's object. Where the remote shows no version, that a file of that size is there (as far as
 * it tells sizes) has to do; where it tells no size (answers of unknown length), the version.
 */
export async function proveContent(
  remote: Remote,
  content: Pick<ContentFile, 'key' | 'version' | 'sizeBytes'>,
  signal: AbortSignal,
): Promise<RemoteProof> {
  signal.throwIfAborted();
  const { key, version: proven, sizeBytes } = content;
  if (remote.hasNow?.(key, proven, sizeBytes) === true) return { version: proven, sizeBytes };
  const object = await remote.stat(content.key, { signal });
  if (object.kind !== 'file') return { version: '', sizeBytes: -1 };
  const { version = isUnprovable(content) ? content.version : '' } = object;
  return { version, sizeBytes: object.sizeBytes ?? content.sizeBytes };
}

/** Caches of before have contents whose version is their size alone. */
function isUnprovable({ version, sizeBytes }: Pick<ContentFile, 'version' | 'sizeBytes'>): boolean {
  return isTransferVersion(version) || version === `size=${sizeBytes}`;
}
