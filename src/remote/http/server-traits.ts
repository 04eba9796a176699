/** What experience has shown of a server. One object per remote; every answer may change it. */
import { field } from './attributes.ts';
import type { FinalHead } from './http-client.ts';

export interface ServerTraits {
  /** False: it answered 200 with the right version to a ranged request, or says `Accept-Ranges: none`. */
  supportsRanges: boolean;
  /** False: it answered 412 although the version was the one asked for. */
  honoursIfMatch: boolean;
  /** True: a HEAD told a length above zero, so a zero is one, too. */
  headTellsLength: boolean;
}

export function newServerTraits(): ServerTraits {
  return { supportsRanges: true, honoursIfMatch: true, headTellsLength: false };
}

/** Notes what the header fields of a believed answer say. Answers of other servers say nothing. */
export function learnFrom(traits: ServerTraits, head: FinalHead): void {
  if (head.redirected) return;
  if (field(head.headers, 'accept-ranges')?.toLowerCase() === 'none') traits.supportsRanges = false;
}
