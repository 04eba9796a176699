/** Of `ebb explain` what a mount and a tree say alike. */
import { deadline } from '../../base/deadline.ts';
import { formatSize } from '../../base/format.ts';
import type { FileState } from '../api.ts';
import type { ReleaseOutcome } from '../space-keeper.ts';

/** `explain` does not wait longer for the remote to say whether a file could be released. */
const proofMaxMs = 3_000;

/** Tries without doing it. */
export async function releaseText(
  releaser: {
    release(
      id: number,
      options: { readonly dryRun: true; readonly signal: AbortSignal },
    ): Promise<ReleaseOutcome>;
  },
  id: number,
  signal: AbortSignal,
): Promise<string> {
  using limit = deadline(proofMaxMs, signal, 'the remote did not answer in time');
  const outcome = await releaser.release(id, { dryRun: true, signal: limit.signal });
  return 'refused' in outcome ? `refused now: ${outcome.refused}` : 'possible now';
}

/** What the state of a file of the remote means, in a sentence. Pure. */
export function stateSummary(
  state: FileState,
  failure: string | undefined,
  sizeBytes: number,
): string {
  if (failure !== undefined)
    return `The last read failed: ${failure.replace(/\.$/, '')}. It is tried again at the next read.`;
  switch (state) {
    case 'DUL':
      return 'All of it is here; the kernel serves it without Ebb.';
    case 'PAR':
      return 'Some of it is here; the rest is recalled when it is read, or at once with ebb get.';
    case 'UNM':
      return 'It is being recalled now.';
    default:
      return (
        'Nothing of it is here; a read recalls what it needs ' +
        `(${formatSize(Math.max(0, sizeBytes))} in all).`
      );
  }
}
