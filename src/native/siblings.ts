/**
 * Brings small files before they are opened, when others of their directory or of their name are (sibling-credit.ts). A
 * guess: it comes after every demand, and its failures are nobody's business. The event thread lets in who opens the
 * file then.
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
/** Files that came last: until what they are is in the catalog, they are found again. */
const recentMax = 4_096;

/** A file that others go with. Its id only says where a search begins. */
type Relative = Pick<StubFile, 'id' | 'key'>;

/** Small files of which not all is here. */
export interface SiblingsOf {
  /** With keys in the same directory: those after `id` first. */
  readonly inDirectory: (of: Relative, limit: number) => readonly number[];
  /** Of the same name: nearest to `id` first. */
  readonly namesakes: (of: Relative, limit: number) => readonly number[];
}

interface Found {
  readonly ids: readonly number[];
  readonly isAll: boolean;
  readonly lastId: number | undefined;
}

/** One way in which files go together. */
interface Kinship {
  readonly credit: SiblingCredit;
  /** The same for all that go together. */
  readonly groupOf: (key: string) => string;
  /** Of files that `isNew`. */
  readonly find: (of: Relative, limit: number, isNew: (id: number) => boolean) => Found;
}

/** Of those that were found so many may be on their way already. */
const knownAlreadyMax = 64;

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
  readonly #kinships: readonly Kinship[];
  readonly #recent = new BoundedMap<number, true>(recentMax);
  readonly #closing = new AbortController();
  #running = 0;

  constructor(options: SiblingsOptions) {
    this.#options = options;
    this.#kinships = options.siblingsOf === undefined ? [] : kinshipsOf(options.siblingsOf);
  }

  /** A file was opened to be read all of it. `isCold`: it has to be waited for. */
  opened(file: StubFile, isCold: boolean, requester: () => Requester): void {
    if (this.#kinships.some(({ credit }) => credit.isBrought(file.id))) {
      this.used(file.id, requester);
      return;
    }
    if (!isCold) return;
    this.#recent.set(file.id, true);
    const nowMs = Date.now();
    for (const kinship of this.#kinships) {
      const search = kinship.credit.missed(kinship.groupOf(file.key), file.id, nowMs);
      this.#bring(kinship, search, file, requester);
    }
  }

  /** A file was opened that may have been brought. */
  used(fileId: number, requester: () => Requester): void {
    for (const kinship of this.#kinships) {
      const search = kinship.credit.used(fileId);
      const file = search && this.#options.store.get(fileId);
      if (file !== undefined) this.#bring(kinship, search, file, requester);
    }
  }

  close(): void {
    this.#closing.abort(ebbError('EINTR', 'Ebb is stopping.'));
  }

  #bring(
    { credit, groupOf, find }: Kinship,
    search: SiblingSearch | undefined,
    { id, key }: StubFile,
    requester: () => Requester,
  ): void {
    if (search === undefined || this.#closing.signal.aborted) return;
    if (this.#running + search.count > runningMax) return;
    const isNew = (one: number): boolean => one !== id && !this.#recent.has(one);
    const found = find({ id: search.afterId, key }, search.count, isNew);
    const { ids } = found;
    credit.brought(groupOf(key), ids, found);
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

/** As the remote has them: where users moved a file says less about what is read with it. */
function kinshipsOf({ inDirectory, namesakes }: SiblingsOf): readonly Kinship[] {
  return [
    {
      credit: new SiblingCredit(),
      groupOf: (key) => key.slice(0, key.lastIndexOf('/') + 1),
      find: (of, limit, isNew) => {
        const found = inDirectory(of, limit);
        const isAll = found.length < limit;
        return { ids: found.filter(isNew), isAll, lastId: isAll ? undefined : found.at(-1) };
      },
    },
    {
      credit: new SiblingCredit(),
      groupOf: (key) => key.slice(key.lastIndexOf('/') + 1),
      find: (of, limit, isNew) => {
        const found = namesakes(of, limit + knownAlreadyMax).filter(isNew);
        return { ids: found.slice(0, limit), isAll: found.length < limit, lastId: undefined };
      },
    },
  ];
}
