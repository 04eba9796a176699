/** `ebb get`: brings all of a content here, in steps. The same for mounts and trees. */
import type { Recall, Requester } from '../../recall/recall.ts';
import type { ContentFile } from '../../tree/content.ts';
import type { FileWork } from './action-runner.ts';

/** Files at a time. */
export const getConcurrencyMax = 8;
/** So much of a file is asked for at a time, so that progress is seen and other readers get their turn. */
const getStepBytes = 32 * 1024 * 1024;

/**
 * Rejects as `Recall.ensure`. `settled`: nothing of it is to be recalled (any more). `hereBytes`: what was here before
 * anybody asked.
 */
export async function getContent(
  recall: Pick<Recall, 'ensure'>,
  content: ContentFile & { readonly settled?: boolean },
  work: FileWork,
  hereBytes: number,
  signal: AbortSignal,
): Promise<void> {
  const { sizeBytes } = content;
  work.broughtBytes = content.settled === true ? 0 : Math.max(0, sizeBytes - hereBytes);
  for (let offset = 0; offset < sizeBytes && content.settled !== true; offset += getStepBytes) {
    const length = Math.min(getStepBytes, sizeBytes - offset);
    await recall.ensure(content, offset, length, {
      intent: 'get',
      requester: daemonRequester(),
      signal,
    });
    work.doneBytes = offset + length;
  }
}

/** Ebb itself, in the accounts. */
export function daemonRequester(): Requester {
  return { pid: process.pid, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
}
