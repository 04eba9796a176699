/**
 * Brings small files of a directory before they are opened, when others of it are (sibling-credit.ts). A guess: it
 * comes after every demand, and its failures are nobody's business. The event thread lets in who opens the file then.
 */
import { StubChange } from '../base/stub-facts.ts';
import { BoundedMap } from '../base/bounded-map.ts';
import { ebbError } from '../base/errors.ts';
import type { RecallEngine } from '../recall/engine.ts';
import type { Requester } from '../recall/recall.ts';
import type { StubFile, StubStore } from '../tree/stubs/stub-store.ts';
import type { KnownFiles } from './known-files.ts';
import { SiblingCredit } from './sibling-credit.ts';
import type { SiblingSearch } from './sibling-credit.ts';

/** Files that are being brought at a time; no more are looked for meanwhile. */
const runningMax = 256;
/** Files brought last: until what they are is in the catalog, they are found again. */
const recentMax = 4_096;

/** Ids of small files with keys in the same directory, of which not all is here: those after `id` first. */
export type SiblingsOf = (
  of: { readonly id: number; readonly key: string },
  limit: number,
) => readonly number[];

export interface SiblingsOptions {
  readonly store: Pick<StubStore, 'get'>;
  readonly recall: Pick<RecallEngine, 'ensure'>;
  readonly known: Pick<KnownFiles, 'tell'>;
  /** Undefined: nothing is brought. */
  readonly siblingsOf: SiblingsOf | undefined;
  /** It came: what was brought last is not what is released first. */
  readonly touched: (fileId: number) => void;
  /** All of the file is here. */
  readonly settle: (fileId: number) => void;
}

export class Siblings {
  readonly #options: SiblingsOptions;
  readonly #credit = new SiblingCredit();
  readonly #recent = new BoundedMap<number, true>(recentMax);
  readonly #closing = new AbortController();
  #running = 0;

  constructor(options: SiblingsOptions) {
    this.#options = options;
  }

  /** A file was opened to be read all of it. `isCold`: it has to be waited for. */
  opened(file: StubFile, isCold: boolean, requester: () => Requester): void {
    if (this.#credit.isBrought(file.id)) this.used(file.id, requester);
    else if (isCold && this.#options.siblingsOf !== undefined) {
      this.#bring(this.#credit.missed(directoryOf(file.key), file.id, Date.now()), file, requester);
    }
  }

  /** A file was opened that may have been brought. */
  used(fileId: number, requester: () => Requester): void {
    const search = this.#credit.used(fileId);
    const file = search && this.#options.store.get(fileId);
    if (file !== undefined) this.#bring(search, file, requester);
  }

  close(): void {
    this.#closing.abort(ebbError('EINTR', 'Ebb is stopping.'));
  }

  #bring(
    search: SiblingSearch | undefined,
    { id, key }: StubFile,
    requester: () => Requester,
  ): void {
    const { siblingsOf } = this.#options;
    if (search === undefined || siblingsOf === undefined || this.#closing.signal.aborted) return;
    if (this.#running + search.count > runningMax) return;
    const found = siblingsOf({ id: search.afterId, key }, search.count);
    const ids = found.filter((one) => one !== id && !this.#recent.has(one));
    this.#credit.brought(directoryOf(key), ids, search, found);
    if (ids.length === 0) return;
    const who = requester();
    for (const one of ids) {
      this.#recent.set(one, true);
      this.#running += 1;
      void this.#fetch(one, who)
        .catch(() => undefined)
        .finally(() => (this.#running -= 1));
    }
  }

  async #fetch(fileId: number, requester: Requester): Promise<void> {
    const { store, recall, known, touched, settle } = this.#options;
    const file = store.get(fileId);
    if (file === undefined || file.change !== StubChange.clean) return;
    const { signal } = this.#closing;
    await recall.ensure(file, 0, file.sizeBytes, { intent: 'prefetch', requester, signal });
    touched(fileId);
    known.tell(file);
    settle(fileId);
  }
}

/** As the remote has it: where users moved a file says less about what is read with it. */
function directoryOf(key: string): string {
  return key.slice(0, key.lastIndexOf('/') + 1);
}
