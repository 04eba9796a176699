/** `-o` of `ebb image`: where the file system is, and what to make of its journal. */
import type { ImageRequest } from '../../daemon/helper-api.ts';
import { parseCount, parseSize } from '../units.ts';
import { UsageError } from '../verb.ts';

export type PlaceOptions = Pick<ImageRequest, 'selection' | 'journal'>;

const partitionMax = 256;

/** Throws UsageError for what is not known. */
export function parsePlaceOptions(lists: readonly string[]): PlaceOptions {
  let offsetBytes: number | undefined;
  let partition: number | undefined;
  let journal: ImageRequest['journal'] = 'replay';
  for (const word of lists.flatMap((list) => list.split(',')).filter((each) => each !== '')) {
    const at = word.indexOf('=');
    const name = at < 0 ? word : word.slice(0, at);
    const value = at < 0 ? '' : word.slice(at + 1);
    if (name === 'offset') offsetBytes = parseSize(value, 'offset');
    else if (name === 'partition') partition = parseCount(value, 'partition', 1, partitionMax);
    else if (word === 'noload') journal = 'ignore';
    else if (word === 'nofastcommit') journal = 'full-commits';
    else if (word !== 'ro') throw new UsageError(`there is no option -o ${name}`);
  }
  if (offsetBytes !== undefined && partition !== undefined) {
    throw new UsageError('-o wants either offset= or partition=');
  }
  return { selection: { offsetBytes, partition }, journal };
}
