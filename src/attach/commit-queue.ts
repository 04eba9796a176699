/**
 * Makes what was created durable, in groups and in this order: the files (one syncfs(2) for all), then their records,
 * then what is known of keys, last that directories are complete. So a record never stands for a file that a crash
 * took away, and a directory never counts as complete that is not. The catalog is flushed once for all of a group: a
 * stub that gets its name afterwards has its record also after a power cut, and who reads it gets its content.
 */
import { toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import type {
  KnownKey,
  ListedDirectory,
  StubCatalog,
  StubRecord,
} from '../catalog/stub-catalog.ts';
import type { StubStore } from '../tree/stubs/stub-store.ts';
import type { Turns } from './turns.ts';

/** Rows of one transaction: a few milliseconds. */
const rowsPerTransaction = 256;
/** Without anybody waiting, a group is written when it has so many rows. */
const groupRows = 8_192;
/** More rows than this wait in memory for nobody: who adds waits. */
const waitingRowsMax = 4 * groupRows;

interface Group {
  readonly records: StubRecord[];
  readonly known: KnownKey[];
  readonly listed: ListedDirectory[];
}

export interface CommitQueueParts {
  readonly store: StubStore;
  readonly catalog: StubCatalog;
  readonly turns: Turns;
  /**
   * All changes that happened before the call have been told to whoever records them. The kernel tells of a stub that
   * is made on ext4 as of one that was cut: as long as it has no record, that means nothing.
   */
  readonly changesTakenIn: () => Promise<void>;
}

export class CommitQueue {
  readonly #store: StubStore;
  readonly #catalog: StubCatalog;
  readonly #turns: Turns;
  readonly #changesTakenIn: () => Promise<void>;
  #group: Group = { records: [], known: [], listed: [] };
  /** First names of hard links that the catalog does not know yet. */
  readonly #links = new Map<string, StubRecord>();
  #writing: Promise<void> = Promise.resolve();
  #writingRows = 0;
  #failure: EbbError | undefined;

  constructor({ store, catalog, turns, changesTakenIn }: CommitQueueParts) {
    this.#store = store;
    this.#catalog = catalog;
    this.#turns = turns;
    this.#changesTakenIn = changesTakenIn;
  }

  addRecord(record: StubRecord): void {
    this.#group.records.push(record);
  }

  addKnown(known: KnownKey): void {
    this.#group.known.push(known);
  }

  /** The first name of a hard link: found by `link` at once, by the catalog's `known` later. */
  addLink(known: KnownKey, record: StubRecord): void {
    this.#links.set(known.key, record);
    this.#group.known.push(known);
  }

  link(key: string): StubRecord | undefined {
    return this.#links.get(key);
  }

  addListed(listed: ListedDirectory): void {
    this.#group.listed.push(listed);
  }

  /** To be called after adding: writes in the background, or makes the caller wait while there is too much. */
  relieve(): Promise<void> | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    const rows = rowsOf(this.#group);
    if (rows < groupRows) return undefined;
    if (this.#writingRows === 0) void this.settled().catch(() => undefined);
    return rows + this.#writingRows > waitingRowsMax ? this.#writing : undefined;
  }

  /** Resolves when all that was added before is durable, in the tree and in the catalog. */
  async settled(): Promise<void> {
    // Who comes while a group is written shares the next one with all others who do.
    const before = this.#writing;
    await before.catch(() => undefined);
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#writing === before && rowsOf(this.#group) > 0) this.#writing = this.#write();
    await this.#writing;
  }

  async #write(): Promise<void> {
    const group = this.#group;
    this.#group = { records: [], known: [], listed: [] };
    this.#writingRows = rowsOf(group);
    try {
      await this.#store.syncTree();
      await this.#changesTakenIn();
      await this.#inTurns(group.records, (rows) => this.#catalog.insert(rows));
      await this.#inTurns(group.known, (rows) => this.#catalog.setKnown(rows));
      for (const { key, id } of group.known) {
        if (this.#links.get(key)?.id === id) this.#links.delete(key);
      }
      await this.#inTurns(group.listed, (rows) => this.#catalog.setListed(rows));
      this.#catalog.flush();
    } catch (error) {
      this.#failure = toEbbError(error);
      throw this.#failure;
    } finally {
      this.#writingRows = 0;
    }
  }

  async #inTurns<Row>(rows: readonly Row[], write: (rows: Row[]) => void): Promise<void> {
    for (let index = 0; index < rows.length; index += rowsPerTransaction) {
      await this.#turns.pause();
      write(rows.slice(index, index + rowsPerTransaction));
    }
  }
}

function rowsOf({ records, known, listed }: Group): number {
  return records.length + known.length + listed.length;
}
