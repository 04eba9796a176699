/** Carries out a plan in one directory: makes, replaces and removes names. */
import { StubChange } from '../base/stub-facts.ts';
import { EbbError, toEbbError } from '../base/errors.ts';
import { encodeName } from '../base/name.ts';
import type { KnownKey, StubCatalog, StubRecord } from '../catalog/stub-catalog.ts';
import { joinKey } from '../remote/key.ts';
import type { ListedObject } from '../remote/remote.ts';
import { linkFile, makeDirectory, makeSymlink, readSymlink } from '../sys/entries.ts';
import { removeFile, removeFileIfThere, setOwner } from '../sys/entries.ts';
import { OpenFlag } from '../sys/fd.ts';
import { decodeHandle, openByHandle } from '../sys/handle.ts';
import { fileStatusAt, setFileTimesAt } from '../sys/stat.ts';
import type { NewStub, StubFile, StubStore } from '../tree/stubs/stub-store.ts';
import type { MadeStub, StubMaker } from '../tree/stubs/stub-maker.ts';
import type { CommitQueue } from './commit-queue.ts';
import type { AttributeDefaults } from './directory-facts.ts';
import { recordOf } from './local-directory.ts';
import { NameFaults } from './name-faults.ts';
import { placeNew, placeOver, takeAway } from './place.ts';
import type { Place } from './place.ts';
import { makeElsewhere } from './make-elsewhere.ts';
import { symlinkVersion } from './reconcile.ts';
import { symlinkName } from './staging.ts';
import { isAsItCame } from './untouched.ts';
import type { DirectoryPlan, ExactFile, ReportKind } from './reconcile.ts';
import type { Turns } from './turns.ts';

/** What all directories of one run share. */
export interface Workshop {
  readonly store: StubStore;
  readonly catalog: StubCatalog;
  readonly queue: CommitQueue;
  readonly turns: Turns;
  readonly defaults: AttributeDefaults;
  readonly signal: AbortSignal;
  nextId(): number;
  /** A name in the staging directory that nobody else uses. */
  nextName(): string;
  count(
    what: 'made' | 'stubs' | 'links' | 'symlinks' | 'replaced' | 'removed',
    bytes: number,
  ): void;
  report(kind: ReportKind, key: string, message: string): void;
  /** A thread that makes stubs, when so many more are worth one. */
  maker(moreStubs: number): StubMaker | undefined;
  /** As in `PopulateParts`. */
  readonly usersRecorded: (id: number) => Promise<() => boolean>;
}

/** Stubs made in the staging directory before they are made durable and put into place. */
const stagedMax = 1_024;
/** A key no remote has: the files that stand for a hard link's identity at the remote. */
const linkKey = (link: string): string => `/link/${link}`;

type FileStep = DirectoryPlan['files'][number];
type Made = { readonly record: StubRecord; readonly isNew: boolean };

interface Staged extends Made {
  readonly step: FileStep;
  readonly name: string;
}

export class DirectoryWork {
  readonly #shop: Workshop;
  readonly #fd: number;
  readonly #key: string;
  /** Nobody sees this directory, and it was never complete: new files are made where they belong. */
  readonly #isDirect: boolean;
  readonly #faults: NameFaults;

  constructor(shop: Workshop, fd: number, key: string, isDirect: boolean) {
    this.#shop = shop;
    this.#fd = fd;
    this.#key = key;
    this.#isDirect = isDirect;
    this.#faults = new NameFaults((name, why) => shop.report('skipped', this.#keyOf(name), why));
  }

  /**
   * All but the directories below, which are made here and filled by others. Resolves to the names of those that cannot
   * be.
   */
  async perform(plan: DirectoryPlan): Promise<ReadonlySet<string>> {
    const { catalog, queue, turns } = this.#shop;
    const unmade = new Set<string>();
    for (const { object, isNew } of plan.directories) {
      await turns.pause();
      if (isNew && !this.#makeDirectory(object.name)) unmade.add(object.name);
    }
    await this.#files(plan.files);
    for (const step of plan.symlinks) {
      await turns.pause();
      this.#symlink(step);
    }
    for (const { name, target } of plan.knownLinks) {
      queue.addKnown({ key: this.#keyOf(name), version: symlinkVersion(target), id: 0 });
    }
    for (const { object, record } of plan.knownNames) this.#knowName(object, record);
    for (const step of plan.removed) {
      await turns.pause();
      if ('record' in step) await this.#removeStub(step.name, step.record);
      else this.#removeSymlink(step.name, step.target);
    }
    for (const id of plan.lostIds) catalog.setLost(id, true);
    for (const id of plan.foundIds) catalog.setLost(id, false);
    for (const { kind, key, message } of plan.reports) this.#shop.report(kind, key, message);
    return unmade;
  }

  #keyOf(name: string): string {
    return joinKey(this.#key, name);
  }

  #kept(name: string): void {
    this.#shop.report('kept', this.#keyOf(name), 'somebody took the name meanwhile');
  }

  /** Closed to users until it is filled and gets its own mode. False: it cannot be. */
  #makeDirectory(name: string): boolean {
    const isThere = this.#faults.unlessRefused(name, () => {
      try {
        makeDirectory(this.#fd, name, 0o700);
        this.#shop.count('made', 0);
      } catch (error) {
        if (toEbbError(error).code !== 'EEXIST') throw error;
      }
      return true;
    });
    return isThere === true;
  }

  async #files(steps: readonly FileStep[]): Promise<void> {
    const { queue, turns, signal } = this.#shop;
    let staged: Staged[] = [];
    const maker = this.#isDirect ? this.#shop.maker(steps.length) : undefined;
    if (maker !== undefined) {
      await makeElsewhere(this.#shop, {
        maker,
        directoryFd: this.#fd,
        objects: steps.filter(isSimple).map(({ object }) => object),
        newStub: (object) => this.#newStub(object),
        take: (object, made) => this.#takeMade(object, () => newlyMade(made)),
      });
    }
    for (const step of steps) {
      if (maker !== undefined && isSimple(step)) continue;
      await turns.pause();
      signal.throwIfAborted();
      if (this.#isDirect && step.replaces === undefined) {
        this.#makeInPlace(step.object);
        await queue.relieve();
        continue;
      }
      const one = this.#stage(step);
      if (one !== undefined) staged.push(one);
      if (staged.length < stagedMax) continue;
      await this.#placeAll(staged);
      staged = [];
    }
    await this.#placeAll(staged);
  }

  #makeInPlace(object: ExactFile): void {
    this.#takeMade(object, () =>
      this.#make({ fd: this.#fd, name: encodeName(object.name) }, object),
    );
  }

  /** What `make` makes, or throws, in this directory. */
  #takeMade(object: ExactFile, make: () => Made): void {
    const made = this.#faults.unlessRefused(object.name, () => {
      try {
        return make();
      } catch (error) {
        if (toEbbError(error).code !== 'EEXIST') throw error;
        this.#kept(object.name);
        return undefined;
      }
    });
    if (made === undefined) return;
    this.#remember(object, made);
    this.#count(made);
  }

  #stage(step: FileStep): Staged | undefined {
    const name = this.#shop.nextName();
    const { object } = step;
    const made = this.#faults.unlessOwn(object.name, () =>
      this.#make({ fd: this.#shop.store.stagingFd, name: encodeName(name) }, object),
    );
    return made === undefined ? undefined : { ...made, step, name };
  }

  /** A further name of a hard link, where the remote says that it is one and the first is here; else a stub. */
  #make(place: { fd: number; name: Uint8Array }, object: ExactFile): Made {
    const first = this.#firstOf(object);
    if (first !== undefined && this.#link(first, place)) return { record: first, isNew: false };
    const { store } = this.#shop;
    return {
      record: recordOf(store.create(place.fd, place.name, this.#newStub(object))),
      isNew: true,
    };
  }

  #firstOf({ link, version }: ExactFile): StubRecord | undefined {
    if (link === undefined) return undefined;
    const { queue, catalog } = this.#shop;
    const waiting = queue.link(linkKey(link));
    if (waiting !== undefined) return waiting.version === version ? waiting : undefined;
    const known = catalog.known(linkKey(link));
    const record = known?.version === version ? catalog.get(known.id) : undefined;
    // A file that was changed here is no longer what the remote's other names mean.
    return record?.change === StubChange.clean ? record : undefined;
  }

  #link(first: StubRecord, place: Place): boolean {
    try {
      using file = openByHandle(this.#shop.store.rootFd, decodeHandle(first.handle), OpenFlag.path);
      linkFile(file.fd, place.fd, place.name);
      return true;
    } catch (error) {
      // Its last name was deleted here; it has as many as the file system allows; nobody may change it.
      if (['ESTALE', 'ENOENT', 'EMLINK', 'EPERM'].includes(toEbbError(error).code)) return false;
      throw error;
    }
  }

  #newStub(object: ExactFile): NewStub {
    const { defaults } = this.#shop;
    return {
      id: this.#shop.nextId(),
      key: this.#keyOf(object.name),
      version: object.version,
      sizeBytes: object.sizeBytes,
      mtime: object.mtime ?? object.roundedMtime ?? { seconds: 0, nanoseconds: 0 },
      mode: object.mode ?? defaults.fileMode,
      uid: object.uid ?? defaults.uid,
      gid: object.gid ?? defaults.gid,
      xattrs: object.xattrs,
    };
  }

  /** What the catalog is to know of a name that is made. */
  #remember(object: ExactFile, { record, isNew }: Made): void {
    const { queue } = this.#shop;
    const { version, link } = object;
    if (isNew) {
      queue.addRecord(record);
      if (link !== undefined) queue.addLink({ key: linkKey(link), version, id: record.id }, record);
    } else {
      queue.addKnown({ key: this.#keyOf(object.name), version, id: record.id });
    }
  }

  #count({ record, isNew }: Made): void {
    if (isNew) this.#shop.count('stubs', record.sizeBytes);
    else this.#shop.count('links', 0);
  }

  #knowName({ name, version, link = '' }: ExactFile, record: StubRecord): void {
    const { queue, catalog } = this.#shop;
    const { id } = record;
    const anchor = linkKey(link);
    if (queue.link(anchor) === undefined && catalog.known(anchor)?.version !== version) {
      queue.addLink({ key: anchor, version, id }, record);
    }
    const key = this.#keyOf(name);
    if (record.key !== key && catalog.known(key)?.id !== id) queue.addKnown({ key, version, id });
  }

  /** Records first, names then: a stub that users can see can be recalled. */
  async #placeAll(staged: readonly Staged[]): Promise<void> {
    if (staged.length === 0) return;
    for (const { step, ...made } of staged) this.#remember(step.object, made);
    await this.#shop.queue.settled();
    for (const one of staged) {
      await this.#shop.turns.pause();
      await this.#place(one);
    }
  }

  async #place({ step, name, record, isNew }: Staged): Promise<void> {
    const { store } = this.#shop;
    const at = { fd: store.stagingFd, name };
    const target = { fd: this.#fd, name: step.object.name };
    const { replaces } = step;
    const file = replaces && (await this.#cleanFile(replaces));
    // Nothing can come in between but what users do, and that is looked at after the exchange.
    const isPlaced = this.#faults.unlessRefused(step.object.name, () => {
      if (replaces === undefined) return placeNew(at, target);
      return file !== undefined && placeOver(at, target, () => isAsItCame(store, at, file));
    });
    if (isPlaced === true) {
      this.#count({ record, isNew });
      if (replaces !== undefined) await this.#forgetReplaced(at, replaces, record);
      return;
    }
    if (isPlaced === false) {
      if (replaces === undefined) this.#kept(step.object.name);
      else
        this.#shop.report(
          'conflict',
          this.#keyOf(step.object.name),
          'it was changed here meanwhile',
        );
    }
    // Not there: users have it. In a race it may have stayed where they could take it.
    if (!removeFileIfThere(at.fd, at.name)) return;
    if (isNew) await this.#forget(record);
    else this.#shop.catalog.setKnown([unknownKey(this.#keyOf(step.object.name))]);
  }

  /** Undefined: a user's by now, or gone. */
  async #cleanFile({ id }: StubRecord): Promise<StubFile | undefined> {
    const { store, usersRecorded } = this.#shop;
    // Then our own descriptor can be closed.
    await store.settled(id);
    // Last: whom nobody has recorded when this resolves comes after what follows at once.
    const isStill = await usersRecorded(id);
    const file = store.get(id);
    if (file?.change !== StubChange.clean) return undefined;
    // Writers of what is not all here are recorded first. Renaming the file moves what this goes by.
    return file.residency.complete && !isStill() ? undefined : file;
  }

  async #forgetReplaced(at: Place, replaced: StubRecord, successor: StubRecord): Promise<void> {
    const { store, catalog } = this.#shop;
    const isLastName = fileStatusAt(at.fd, at.name).nlink === 1;
    const { pinned = false } = catalog.get(replaced.id) ?? {};
    removeFile(at.fd, at.name);
    if (isLastName) await this.#forget(replaced);
    const file = pinned ? store.get(successor.id) : undefined;
    if (file !== undefined) store.setPinned(file, true);
    this.#shop.count('replaced', 0);
  }

  /** Not as one that a user deleted: it may come back. */
  async #forget(record: StubRecord): Promise<void> {
    await this.#shop.store.forget([record.id]);
    this.#shop.catalog.setKnown([unknownKey(record.key)]);
  }

  async #removeStub(name: string, record: StubRecord): Promise<void> {
    const { store, catalog } = this.#shop;
    const file = await this.#cleanFile(record);
    // The record may be behind: what was recalled just now may be the last copy.
    if (file === undefined || file.residency.residentBytes > 0) return;
    const aside = { fd: store.stagingFd, name: this.#shop.nextName() };
    const isExpected = (): boolean => isAsItCame(store, aside, file);
    if (!this.#takenAway(name, aside, isExpected)) return;
    const isLastName = fileStatusAt(aside.fd, aside.name).nlink === 1;
    removeFile(aside.fd, aside.name);
    if (isLastName) await this.#forget(record);
    else catalog.setKnown([unknownKey(this.#keyOf(name))]);
    this.#shop.count('removed', 0);
  }

  #takenAway(name: string, aside: Place, isExpected: () => boolean): boolean {
    const take = (): boolean => takeAway({ fd: this.#fd, name }, aside, isExpected);
    return this.#faults.unlessRefused(name, take) === true;
  }

  #symlink({ object, target, replaces }: DirectoryPlan['symlinks'][number]): void {
    const { name } = object;
    // Never made where it belongs: one that was there without its time would be taken for a user's after a crash.
    const targets = replaces === undefined ? [target] : [target, replaces];
    const at = {
      fd: this.#shop.store.stagingFd,
      name: symlinkName(this.#shop.nextName(), targets),
    };
    const isPlaced = this.#faults.unlessRefused(name, () => {
      this.#makeSymlink(at, target, object);
      return this.#placeSymlink(at, name, replaces);
    });
    if (isPlaced === false) this.#kept(name);
    if (isPlaced !== true) {
      removeFileIfThere(at.fd, at.name);
      return;
    }
    this.#shop.queue.addKnown({ key: this.#keyOf(name), version: symlinkVersion(target), id: 0 });
    this.#shop.count('symlinks', 0);
    if (replaces !== undefined) this.#shop.count('replaced', 0);
  }

  #makeSymlink(at: Place, target: string, { uid, gid, mtime }: ListedObject): void {
    const { defaults } = this.#shop;
    makeSymlink(at.fd, at.name, target);
    setOwner(at.fd, at.name, uid ?? defaults.uid ?? 0, gid ?? defaults.gid ?? 0);
    if (mtime !== undefined) setFileTimesAt(at.fd, at.name, undefined, mtime);
  }

  #placeSymlink(at: Place, name: string, replaces: string | undefined): boolean {
    const target = { fd: this.#fd, name };
    if (replaces === undefined) return placeNew(at, target);
    if (!placeOver(at, target, () => isSymlink(at, replaces))) return false;
    removeFile(at.fd, at.name);
    return true;
  }

  #removeSymlink(name: string, target: string): void {
    const staged = symlinkName(this.#shop.nextName(), [target]);
    const aside = { fd: this.#shop.store.stagingFd, name: staged };
    if (!this.#takenAway(name, aside, () => isSymlink(aside, target))) return;
    removeFile(aside.fd, aside.name);
    this.#shop.catalog.setKnown([unknownKey(this.#keyOf(name))]);
    this.#shop.count('removed', 0);
  }
}

function newlyMade(made: MadeStub): Made {
  if (made instanceof EbbError) throw made;
  return { record: recordOf(made), isNew: true };
}

/** A stub of its own under a free name: whatever becomes of others, it can be made. */
function isSimple({ object, replaces }: FileStep): boolean {
  return replaces === undefined && object.link === undefined;
}

/** Nothing is known of the key: as if it had never been. */
function unknownKey(key: string): KnownKey {
  return { key, version: '', id: 0 };
}

function isSymlink(at: Place, target: string): boolean {
  try {
    return Buffer.compare(readSymlink(at.fd, at.name), encodeName(target)) === 0;
  } catch (error) {
    if (toEbbError(error).code === 'EINVAL') return false;
    throw error;
  }
}
