/** What becomes of a release, for people: the tree's result in a sentence and an errno. */
import type { ReleaseRefusal, ReleaseResult } from '../tree/release.ts';
import type { ReleaseOutcome } from './space-keeper.ts';

/** Refusals that pass when somebody closes the file. */
const openings: ReadonlySet<ReleaseRefusal> = new Set(['open', 'opened meanwhile']);

/** Refused because somebody has it open. */
export function isOpenRefusal(result: ReleaseResult): boolean {
  return !result.released && openings.has(result.refusal);
}

const codes: Readonly<Record<string, string>> = {
  pinned: 'EPERM',
  busy: 'EBUSY',
  open: 'EBUSY',
  'opened meanwhile': 'EBUSY',
  'not proven': 'ESTALE',
  'no leases': 'EOPNOTSUPP',
};

export function outcomeOf(result: ReleaseResult): ReleaseOutcome {
  if (result.released) return { releasedBytes: result.freedBytes };
  return { refused: result.message, code: result.error?.code ?? codes[result.refusal] ?? 'EIO' };
}
