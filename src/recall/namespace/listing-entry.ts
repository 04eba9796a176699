/**
 * Enters one listing into the catalog: a short one in one transaction, a long one in parts as it comes, so that a
 * directory of a million names takes neither the memory for all of them nor the main thread for seconds.
 *
 * A part adds and replaces names, each of which the remote has just told. What the remote did not tell is removed, and
 * the directory counts as listed, only when the listing is complete. So a listing that breaks off takes no name away.
 *
 * A short listing counts as of when it was asked for. One in parts counts as of when it was complete: it may take
 * longer than the time to live, and would be old before anybody could use it.
 */
import { addCounts } from '../../base/counts.ts';
import type { EbbError } from '../../base/errors.ts';
import { decodeName, encodeName } from '../../base/name.ts';
import { NodeKind } from '../../catalog/catalog.ts';
import type { Catalog, DirectoryChange, Node } from '../../catalog/catalog.ts';
import type { ListedObject } from '../../remote/remote.ts';
import { reconcile } from './reconcile.ts';
import { ToldIds } from './told-ids.ts';

/** Names that are entered together. */
export const partNames = 4_096;
/** One directory may not grow without bound. */
export const listedNamesMax = 10_000_000;

export interface ListingOutcome {
  /** Nodes that no longer have their name. */
  readonly gone: readonly Node[];
  /** Names that came; empty for a directory that was not listed before: nobody remembers their absence. */
  readonly appeared: readonly Uint8Array[];
  readonly namesChanged: boolean;
  /** Somebody may remember a node that changed. */
  readonly mayBeRemembered: boolean;
}

/** What a listing has changed, in names. */
export interface ListingChanges {
  readonly new: number;
  /** Of another version, kind or target. */
  readonly updated: number;
  readonly gone: number;
  /** Files that may have changed: the listing only tells that their times are others, and they are asked about next. */
  readonly unsure: number;
}

export const noChanges: ListingChanges = Object.freeze({ new: 0, updated: 0, gone: 0, unsure: 0 });

/** What came of a listing; `unwanted`: it is long, and nobody has asked for it. */
export type Listed =
  | { readonly changes: ListingChanges }
  | { readonly failure: EbbError | 'unwanted' };

export class ListingEntry {
  readonly #catalog: Catalog;
  readonly #directory: Node;
  readonly #nowMs: () => number;
  /** When the remote was asked. */
  readonly #startedAtMs: number;
  /** What is told from now on is no older. */
  #partStartedAtMs: number;
  /** Ids of names that the parts so far have told. */
  #told: ToldIds | undefined;
  #parts = 0;
  /** Whether the directory had no names before the first part: then there is nothing to look for or to remove. */
  #wasEmpty = false;
  #changes = noChanges;

  constructor(catalog: Catalog, directory: Node, startedAtMs: number, nowMs: () => number) {
    this.#catalog = catalog;
    this.#directory = directory;
    this.#nowMs = nowMs;
    this.#startedAtMs = startedAtMs;
    this.#partStartedAtMs = startedAtMs;
  }

  /**
   * Takes in some of the names. What came of it, nothing for a directory that was not listed before: there is nothing
   * to forget, and its names are told of when they are all there. Throws as `Catalog.applyListing`.
   */
  part(listed: readonly ListedObject[]): ListingOutcome[] {
    const outcome = this.#takePart(listed);
    return this.#directory.listedAtMs === 0 ? [] : [outcome];
  }

  #takePart(listed: readonly ListedObject[]): ListingOutcome {
    if (this.#parts === 0) {
      this.#wasEmpty = this.#catalog.children(this.#directory.id, 0, 1).length === 0;
    }
    this.#parts += 1;
    const existing = this.#wasEmpty ? [] : this.#namedIn(listed);
    const change = reconcile(this.#directory.id, existing, listed, this.#partStartedAtMs);
    this.#partStartedAtMs = this.#nowMs();
    // The directory is not listed (anew) before all of it is there.
    const inserted = this.#apply({ ...change, listedAtMs: this.#directory.listedAtMs });
    if (!this.#wasEmpty) {
      const told = (this.#told ??= new ToldIds(listedNamesMax + partNames));
      const removed = new Set(change.removedIds);
      for (const { id } of existing) if (!removed.has(id)) told.add(id);
      for (const { id } of inserted) told.add(id);
    }
    return this.#outcome(existing, change);
  }

  /** The rest, after which the listing is complete: what it did not tell is removed. Throws as `part`. */
  *finish(listed: readonly ListedObject[]): Generator<ListingOutcome> {
    if (this.#parts === 0) {
      const existing = this.#catalog.children(this.#directory.id, 0, listedNamesMax);
      const change = reconcile(this.#directory.id, existing, listed, this.#startedAtMs);
      this.#apply(change);
      yield this.#outcome(existing, change);
      return;
    }
    yield this.#takePart(listed);
    const completeAtMs = this.#nowMs();
    if (this.#wasEmpty) {
      const nothing = {
        directoryId: this.#directory.id,
        inserted: [],
        updated: [],
        removedIds: [],
      };
      this.#apply({ ...nothing, listedAtMs: completeAtMs });
      return;
    }
    const told = this.#told?.sorted() ?? new Float64Array(0);
    const empty = { directoryId: this.#directory.id, inserted: [], updated: [] };
    let at = 0;
    for (let afterId = 0; ;) {
      // Without their names: nearly all of them stay.
      const page = this.#catalog.childChecks(this.#directory.id, afterId, partNames);
      const removedIds: number[] = [];
      for (const [id, checkedAtMs] of page) {
        while (at < told.length && (told[at] ?? 0) < id) at += 1;
        // What was asked about by itself meanwhile is there, though it may have another id by now. (A time ahead of now
        // is from before the clock was set back.)
        const isAsked = checkedAtMs >= this.#startedAtMs && checkedAtMs <= completeAtMs;
        if (told[at] !== id && !isAsked) removedIds.push(id);
      }
      const isLast = page.length < partNames;
      if (isLast || removedIds.length > 0) {
        const gone = removedIds
          .map((id) => this.#catalog.node(id))
          .filter((node) => node !== undefined);
        const listedAtMs = isLast ? completeAtMs : this.#directory.listedAtMs;
        const change = { ...empty, listedAtMs, removedIds };
        this.#apply(change);
        yield this.#outcome(gone, change);
      }
      if (isLast) return;
      afterId = page.at(-1)?.[0] ?? 0;
    }
  }

  /** Of all that was taken in. */
  get changes(): ListingChanges {
    return this.#changes;
  }

  #apply(change: DirectoryChange): Node[] {
    return this.#catalog.applyListing(change);
  }

  #namedIn(listed: readonly ListedObject[]): Node[] {
    const { id } = this.#directory;
    const found = listed.map(({ name }) => this.#catalog.child(id, encodeName(name)));
    return found.filter((node) => node !== undefined);
  }

  #outcome(existing: readonly Node[], change: DirectoryChange): ListingOutcome {
    const removed = new Set(change.removedIds);
    const gone = existing.filter(({ id }) => removed.has(id));
    const wasListed = this.#directory.listedAtMs > 0;
    this.#changes = addCounts(this.#changes, changesOf(gone, change));
    return {
      gone,
      appeared: wasListed ? change.inserted.map(({ name }) => name) : [],
      namesChanged: gone.length + change.inserted.length > 0,
      mayBeRemembered: wasListed || existing.length > 0,
    };
  }
}

function changesOf(gone: readonly Node[], { inserted, updated }: DirectoryChange): ListingChanges {
  const names = new Set(gone.map(({ name }) => decodeName(name)));
  const replaced =
    names.size === 0 ? 0 : inserted.filter(({ name }) => names.has(decodeName(name))).length;
  return {
    new: inserted.length - replaced,
    updated: replaced,
    gone: gone.length - replaced,
    // As `reconcile` marks them.
    unsure: updated.filter(({ kind, checkedAtMs }) => kind === NodeKind.file && checkedAtMs === 0)
      .length,
  };
}

/** Whether a listing's files lack facts, going by the first one; undefined without any file. */
export function isVague(listed: readonly ListedObject[]): boolean | undefined {
  const file = listed.find(({ kind }) => kind === 'file');
  return file && (file.sizeBytes === undefined || file.mtime === undefined);
}
