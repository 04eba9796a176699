/** That the remote still has what is about to be freed here (invariant I6). */
import { isTransferVersion } from '../recall/namespace/reconcile.ts';
import type { Remote } from '../remote/remote.ts';
import type { ContentFile } from '../tree/content.ts';
import type { RemoteProof } from '../tree/release.ts';

/** Fresh facts of the remote's object. Where the remote shows no version, that it is there has to do. */
export async function proveContent(
  remote: Remote,
  content: Pick<ContentFile, 'key' | 'version' | 'sizeBytes'>,
  signal: AbortSignal,
): Promise<RemoteProof> {
  const object = await remote.stat(content.key, { signal });
  const unprovable = isTransferVersion(content.version) && object.version === undefined;
  if (unprovable) return { version: content.version, sizeBytes: content.sizeBytes };
  return { version: object.version ?? '', sizeBytes: object.sizeBytes ?? -1 };
}
