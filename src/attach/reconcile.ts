/**
 * What a complete listing of one remote directory means for the local one. Pure: both sides and what is known of the
 * keys in, a plan out; populate.ts carries it out.
 *
 * Three rules, in this order. What users made or changed here is never touched: not their files, not their deletions,
 * not their renames. Content that may be the last copy stays. All else follows the remote: a file that changed there
 * gets a new stub (another inode, so that no reader sees two versions), a name that went there goes here.
 *
 * How it is known what users did: files that came from the remote have records, found by the inode and by the remote
 * key; symlinks, further names of hard links and deleted files are `KnownKey`s; directories were listed. In a directory
 * that was never completed what is missing was not deleted: an attempt was interrupted.
 */
import { StubChange } from '../base/stub-facts.ts';
import type { KnownKey, StubRecord } from '../catalog/stub-catalog.ts';
import { joinKey } from '../remote/key.ts';
import type { ListedObject, SkippedName } from '../remote/remote.ts';

/** One entry of the local directory. */
export type LocalEntry =
  | { readonly kind: 'directory' }
  | { readonly kind: 'symlink'; readonly target: string }
  /** `record`: of its inode, when it is one of ours. */
  | { readonly kind: 'file'; readonly record: StubRecord | undefined }
  | { readonly kind: 'other' };

/** A listed file whose size and version are exact. */
export interface ExactFile extends ListedObject {
  readonly sizeBytes: number;
  readonly version: string;
}

/** Why something is not as the remote has it. */
export type ReportKind =
  /** A user's own file, directory or link has the name. */
  | 'kept'
  /** It was changed both here and there. */
  | 'conflict'
  /** The remote has it no longer; what is here may be the last copy. */
  | 'lost'
  /** It cannot be brought in. */
  | 'skipped';

export interface Report {
  readonly kind: ReportKind;
  readonly key: string;
  readonly message: string;
}

export interface DirectoryPlan {
  /** Stubs to make; `replaces`: the clean file of another version that has the name now. */
  readonly files: readonly {
    readonly object: ExactFile;
    readonly replaces: StubRecord | undefined;
  }[];
  /** Directories to go into; `isNew`: to be made first. */
  readonly directories: readonly {
    readonly object: ListedObject;
    readonly isNew: boolean;
  }[];
  /** Symlinks to make; `replaces`: the target that the link of this name has now. */
  readonly symlinks: readonly {
    readonly object: ListedObject;
    readonly target: string;
    readonly replaces: string | undefined;
  }[];
  /** Symlinks that are here as they came, without being known. */
  readonly knownLinks: readonly { readonly name: string; readonly target: string }[];
  /** Names of hard links that are here, of which a catalog that lost its last moments may know nothing. */
  readonly knownNames: readonly { readonly object: ExactFile; readonly record: StubRecord }[];
  /** Names that went at the remote: of files without content, and of symlinks. */
  readonly removed: readonly (
    | { readonly name: string; readonly record: StubRecord }
    | { readonly name: string; readonly target: string }
  )[];
  /**
   * Names of ours that are of another kind at the remote now, and go here: when they have gone, their new objects are
   * planned (`isAgain`).
   */
  readonly changedKinds: readonly string[];
  /** Directories that went at the remote: all below them went, too; each goes when it is empty then. */
  readonly goneDirectories: readonly string[];
  /** Records to be set `lost`, and those that the remote has again. */
  readonly lostIds: readonly number[];
  readonly foundIds: readonly number[];
  readonly reports: readonly Report[];
}

export interface ReconcileInput {
  readonly key: string;
  /** The complete listing; names unique. Files that are no `ExactFile` cannot be brought in. */
  readonly listed: readonly ListedObject[];
  readonly skipped: readonly SkippedName[];
  readonly local: ReadonlyMap<string, LocalEntry>;
  /** This directory was never completed before. */
  readonly isFirst: boolean;
  /** Only what was of another kind: what is still there stays. Default false. */
  readonly isAgain?: boolean;
  /** As `StubCatalog` has them. */
  readonly recordOf: (key: string) => StubRecord | undefined;
  readonly knownOf: (key: string) => KnownKey | undefined;
  readonly wasListed: (key: string) => boolean;
}

/** `KnownKey.version` of a symlink that came from the remote. No remote's version begins so. */
export function symlinkVersion(target: string): string {
  return `/symlink:${target}`;
}

/** The tree keeps its own things in this directory of its root (docs/native.md). */
export const ownName = '.ebb';

type Mutable<T> = {
  -readonly [Key in keyof T]: T[Key] extends readonly (infer Item)[] ? Item[] : T[Key];
};

/** All of it at once. */
export function reconcile(input: ReconcileInput): DirectoryPlan {
  const planner = new Planner(input);
  for (const _step of planner.steps()) continue;
  return planner.plan;
}

/** The same step by step, for directories so large that other work must get its turn. */
export class Planner {
  readonly #input: ReconcileInput;
  readonly plan: Mutable<DirectoryPlan> = {
    files: [],
    directories: [],
    symlinks: [],
    knownLinks: [],
    knownNames: [],
    removed: [],
    changedKinds: [],
    goneDirectories: [],
    lostIds: [],
    foundIds: [],
    reports: [],
  };

  constructor(input: ReconcileInput) {
    this.#input = input;
  }

  /** To be run to its end before `plan` is believed. */
  *steps(): Generator<void, void, void> {
    const { listed, local, skipped } = this.#input;
    const names = new Set<string>();
    for (const object of listed) {
      names.add(object.name);
      this.#takeListed(object);
      yield;
    }
    for (const [name, entry] of local) {
      if (!names.has(name)) this.#takeGone(name, entry);
      yield;
    }
    for (const { raw, why } of skipped) this.#report('skipped', raw, why);
  }

  #report(kind: ReportKind, name: string, message: string): void {
    this.plan.reports.push({ kind, key: joinKey(this.#input.key, name), message });
  }

  #takeListed(object: ListedObject): void {
    const { name, kind } = object;
    if (this.#input.key === '' && name === ownName) {
      return this.#report('skipped', name, 'Ebb keeps its own files under this name');
    }
    const local = this.#input.local.get(name);
    // What is missing in a directory that was never completed is made, whatever is known.
    const known =
      local === undefined && this.#input.isFirst
        ? undefined
        : this.#input.knownOf(joinKey(this.#input.key, name));
    if (kind === 'other')
      return this.#report('skipped', name, 'it is no file, directory or symlink');
    if (local !== undefined && local.kind !== kind && this.#goesFirst(name, local)) return;
    if (kind === 'directory') return this.#takeDirectory(object, local);
    if (kind === 'symlink') return this.#takeSymlink(object, local, known);
    if (!isExact(object)) {
      return this.#report('skipped', name, 'the remote does not tell its exact size and version');
    }
    return this.#takeFile(object, local, known);
  }

  /** The remote has something of another kind under this name: true when what is here is on its way. */
  #goesFirst(name: string, local: LocalEntry): boolean {
    const { plan } = this;
    if (this.#input.isAgain === true) return false;
    const before = plan.removed.length + plan.goneDirectories.length;
    this.#takeGone(name, local);
    if (plan.removed.length + plan.goneDirectories.length === before) return false;
    plan.changedKinds.push(name);
    return true;
  }

  #takeDirectory(object: ListedObject, local: LocalEntry | undefined): void {
    const { key, isFirst, wasListed } = this.#input;
    if (local === undefined && !isFirst && wasListed(joinKey(key, object.name))) return; // deleted or renamed here
    if (local !== undefined && local.kind !== 'directory') return this.#keep(object, local);
    this.plan.directories.push({ object, isNew: local === undefined });
  }

  #takeSymlink(
    object: ListedObject,
    local: LocalEntry | undefined,
    known: KnownKey | undefined,
  ): void {
    const { target } = object;
    if (target === undefined || target === '') {
      return this.#report('skipped', object.name, 'the remote does not tell where the link leads');
    }
    if (local === undefined) {
      if (known?.version === symlinkVersion(target)) return; // deleted or renamed here
      this.plan.symlinks.push({ object, target, replaces: undefined });
    } else if (local.kind !== 'symlink') {
      this.#keep(object, local);
    } else if (local.target !== target) {
      const isAsItCame = known?.version === symlinkVersion(local.target);
      if (isAsItCame) this.plan.symlinks.push({ object, target, replaces: local.target });
      else this.#report('kept', object.name, 'the link leads elsewhere here than at the remote');
    } else if (known?.version !== symlinkVersion(target)) {
      this.plan.knownLinks.push({ name: object.name, target });
    }
  }

  #takeFile(object: ExactFile, local: LocalEntry | undefined, known: KnownKey | undefined): void {
    const { name, version, sizeBytes } = object;
    const key = joinKey(this.#input.key, name);
    if (local === undefined) {
      const elsewhere = this.#input.isFirst ? undefined : this.#input.recordOf(key);
      // Both are asked: what was renamed here may be an older version than what was deleted after it.
      if (elsewhere?.version === version || known?.version === version) return;
      if (elsewhere !== undefined) this.#lose(elsewhere);
      this.plan.files.push({ object, replaces: undefined });
      return;
    }
    if (local.kind !== 'file') return this.#keep(object, local);
    const { record } = local;
    const isSame = record?.version === version && record.sizeBytes === sizeBytes;
    // Names of one file at the remote: equal versions mean that it is this file.
    const isLink = object.link !== undefined && isSame;
    if (record === undefined || !(isLink || belongsTo(record, key, known))) {
      return this.#keep(object, local);
    }
    if (isSame) {
      if (isLink) this.plan.knownNames.push({ object, record });
      if (record.lost) this.plan.foundIds.push(record.id);
    } else if (record.change === StubChange.clean) {
      this.plan.files.push({ object, replaces: record });
    } else {
      this.#report('conflict', name, 'it was changed here; the remote has a new version, too');
      this.#lose(record);
    }
  }

  /** The remote definitely has no such name. */
  #takeGone(name: string, entry: LocalEntry): void {
    const key = joinKey(this.#input.key, name);
    const known = this.#input.knownOf(key);
    if (entry.kind === 'directory') {
      if (this.#input.wasListed(key)) this.plan.goneDirectories.push(name);
    } else if (entry.kind === 'symlink') {
      const { target } = entry;
      if (known?.version === symlinkVersion(target)) this.plan.removed.push({ name, target });
    } else if (entry.kind === 'file' && entry.record !== undefined) {
      this.#takeGoneFile(name, entry.record, belongsTo(entry.record, key, known));
    }
  }

  #takeGoneFile(name: string, record: StubRecord, belongs: boolean): void {
    // What users moved here from another key is looked at where that key is, or never: it stays.
    if (!belongs) return;
    if (record.change !== StubChange.clean) {
      if (!record.lost)
        this.#report('kept', name, 'it was changed here; the remote has it no longer');
      this.#lose(record);
    } else if (record.residentBytes > 0) {
      if (!record.lost) {
        const how = record.complete ? 'all of it' : 'a part of it';
        this.#report(
          'lost',
          name,
          `the remote has it no longer; ${how} is here, maybe the last copy`,
        );
      }
      this.#lose(record);
    } else {
      this.plan.removed.push({ name, record });
    }
  }

  #lose(record: StubRecord): void {
    if (!record.lost) this.plan.lostIds.push(record.id);
  }

  #keep(object: ListedObject, local: LocalEntry): void {
    const isOfRemote = local.kind === 'file' && local.record !== undefined;
    const own = isOfRemote ? 'of which the remote may have no copy' : 'of your own';
    const what = local.kind === 'other' ? 'something else' : `a ${local.kind} ${own}`;
    this.#report(
      'kept',
      object.name,
      `${what} has this name; the remote's ${object.kind} is not shown`,
    );
  }
}

function isExact(object: ListedObject): object is ExactFile {
  return object.sizeBytes !== undefined && object.version !== undefined;
}

/** Whether the file is here under the name that it has at the remote. */
function belongsTo(record: StubRecord, key: string, known: KnownKey | undefined): boolean {
  return record.key === key || known?.id === record.id;
}
