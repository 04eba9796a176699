/** Collects the entries of one listing: each name once, batches in the order of the page, a limit. */
import { ebbError } from '../../../base/errors.ts';
import { NameSet } from '../../../base/name-set.ts';
import type { ListedObject, ListingBatch, SkippedName } from '../../remote.ts';
import { caddyEntriesMax, partialListing } from './further-pages.ts';

const listingEntriesMax = 4_000_000;
const skippedMax = 10_000;

export class EntrySet {
  readonly #names = new NameSet();
  #objects: ListedObject[] = [];
  #skipped: SkippedName[] = [];
  #skippedCount = 0;

  /** A name that came before is ignored: listings that link icons, too, repeat each entry. */
  add(object: ListedObject): void {
    if (!this.#names.add(object.name)) return;
    if (this.#names.size > listingEntriesMax) {
      throw ebbError('EOVERFLOW', `The listing has more than ${listingEntriesMax} entries.`);
    }
    this.#objects.push(object);
  }

  /** The first 10,000 are reported; more of them help nobody. */
  skip(skipped: SkippedName): void {
    this.#skippedCount += 1;
    if (this.#skippedCount <= skippedMax) this.#skipped.push(skipped);
  }

  /** Throws EIO when these are as many as Caddy shows of a larger directory. `what`: the listing's URL. */
  requireCaddyToHaveAll(what: string): void {
    if (this.#names.size + this.#skippedCount !== caddyEntriesMax) return;
    const why = `it has ${caddyEntriesMax} names, after which Caddy (its file_limit) leaves out all others`;
    throw partialListing(what, why);
  }

  /** What came since the last call. */
  take(): ListingBatch {
    const batch = { objects: this.#objects, skipped: this.#skipped };
    this.#objects = [];
    this.#skipped = [];
    return batch;
  }
}
