/**
 * Brings a remote's namespace into a tree, and brings it up to date: walks the remote's directories, several at a
 * time, and makes what reconcile.ts says. A directory whose listing fails stays as it is, with all below it, and is
 * named in the result; the others are done. What was interrupted goes on where it was: complete directories are known.
 */
import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { performance } from 'node:perf_hooks';
import { decodeName } from '../base/name.ts';
import { toEbbError } from '../base/errors.ts';
import { Semaphore } from '../base/semaphore.ts';
import type { StubCatalog } from '../catalog/stub-catalog.ts';
import { baseName, joinKey } from '../remote/key.ts';
import type { ObjectAttributes, Remote } from '../remote/remote.ts';
import type { StubMaker } from '../tree/stubs/stub-maker.ts';
import type { StubStore } from '../tree/stubs/stub-store.ts';
import { CommitQueue } from './commit-queue.ts';
import {
  applyDirectoryFacts,
  decodeDirectoryFacts,
  encodeDirectoryFacts,
} from './directory-facts.ts';
import type { AttributeDefaults } from './directory-facts.ts';
import { DirectoryWork } from './directory-work.ts';
import type { Workshop } from './directory-work.ts';
import { listExactly } from './listing.ts';
import type { Listing } from './listing.ts';
import { openDirectory, readEntries, readLocal } from './local-directory.ts';
import { removeIfEmpty } from './place.ts';
import { Planner } from './reconcile.ts';
import type { DirectoryPlan, LocalEntry, Report, ReportKind } from './reconcile.ts';
import { sweepStaging } from './staging.ts';
import { Turns } from './turns.ts';

export interface PopulateParts {
  readonly remote: Remote;
  readonly store: StubStore;
  readonly catalog: StubCatalog;
  readonly defaults: AttributeDefaults;
  /** Directories under way at a time. 1 .. */
  readonly parallel: number;
  /** For `listedAtMs`, ms since 1970. */
  readonly nowMs: () => number;
  /** Stubs of a run from which on a thread of its own makes them. Default 1,000; none where there is one processor. */
  readonly makerFromStubs?: number;
  /**
   * What users did to this stub before the call is in its record; the result tells whether it is still as it was then.
   * Default: nobody serves the tree.
   */
  readonly usersRecorded?: (id: number) => Promise<() => boolean>;
  /** As for `CommitQueue`. Default: nobody serves the tree. */
  readonly changesTakenIn?: () => Promise<void>;
}

export interface PopulateRequest {
  /** Keys of directories; all below them is done, too. Default: the root. */
  readonly keys?: readonly string[];
  /** `resume`: only what was never complete. `refresh`: everything, asking the remote again. */
  readonly mode: 'resume' | 'refresh';
  /** Users can see the tree. */
  readonly isExposed: boolean;
  readonly signal: AbortSignal;
  /** At most ten times a second, and after the last directory. */
  readonly onProgress?: (progress: PopulateProgress) => void;
}

export interface PopulateProgress {
  readonly directories: number;
  readonly stubs: number;
  readonly bytes: number;
  /** The directory done last. */
  readonly key: string;
}

export interface PopulateResult {
  readonly directories: number;
  /** Directories that were not there. */
  readonly made: number;
  /** With those that replace a file. */
  readonly stubs: number;
  /** Further names of hard links. */
  readonly links: number;
  /** With those that replace one of another target. */
  readonly symlinks: number;
  /** Of `stubs` and `symlinks`. */
  readonly replaced: number;
  readonly removed: number;
  /** Sum of the new stubs' sizes. */
  readonly bytes: number;
  readonly reported: Readonly<Record<ReportKind, number>>;
  /** The first `reportsMax` of them. */
  readonly reports: readonly Report[];
  readonly failed: number;
  /** The first `reportsMax` of the directories that could not be listed. */
  readonly failures: readonly { readonly key: string; readonly message: string }[];
}

/** Reports and failures that a result holds; more are counted. */
export const reportsMax = 100;
/** Starting a thread costs as much as making some hundred stubs. */
const makerFromDefault = 1_000;
/** Ids reserved at once; what is left of them at the end is never used. */
const idsPerReservation = 1_024;
/** `ListedDirectory.attributes` of a directory that went at the remote, and here. */
const gone = '/gone';
/** No remote says this: they are set by the next run. */
const unknownFacts = encodeDirectoryFacts({ kind: 'directory' });
const progressIntervalMs = 100;
/** Runs that wait for the one under way. */
const waitingRunsMax = 64;

/** One per tree: its runs follow each other. */
export class Populator {
  readonly #parts: PopulateParts;
  readonly #one = new Semaphore({ permits: 1, waitersMax: waitingRunsMax });
  #isSwept = false;

  constructor(parts: PopulateParts) {
    this.#parts = parts;
  }

  /**
   * Rejects with the reason of `signal`, and with ENOSPC, EDQUOT, EIO when the tree or the catalog fails; what was
   * done until then stays. What the remote fails at is in the result.
   */
  async run(request: PopulateRequest): Promise<PopulateResult> {
    using _permit = await this.#one.acquire({ signal: request.signal });
    if (!this.#isSwept) await sweepStaging(this.#parts);
    // What a run that fails has made and recorded would count as deleted by users.
    this.#isSwept = false;
    const result = await new Run(this.#parts, request).perform();
    this.#isSwept = true;
    return result;
  }

  /** Resolves when no run is under way, and what was left of one is swept; until it is disposed none begins. */
  async pause(signal: AbortSignal): Promise<Disposable> {
    using stack = new DisposableStack();
    stack.use(await this.#one.acquire({ signal, priority: 1 }));
    await sweepStaging(this.#parts);
    return stack.move();
  }
}

type NameSet = ReadonlySet<string>;

interface Task {
  readonly key: string;
  /** As the remote's parent directory shows it; undefined: to be asked for, and not for the root. */
  readonly attributes: ObjectAttributes | undefined;
  /** Made a moment ago: nothing can be in it. */
  readonly isEmpty: boolean;
}

class Run {
  readonly #parts: PopulateParts;
  readonly #request: PopulateRequest;
  readonly #turns = new Turns();
  readonly #queue: CommitQueue;
  readonly #shop: Workshop;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  /** The last one first: a deep tree is finished branch by branch, and few directories wait. */
  readonly #tasks: Task[] = [];
  readonly #counts = {
    directories: 0,
    made: 0,
    stubs: 0,
    links: 0,
    symlinks: 0,
    replaced: 0,
    removed: 0,
  };
  readonly #reported: Record<ReportKind, number> = { kept: 0, conflict: 0, lost: 0, skipped: 0 };
  readonly #reports: Report[] = [];
  #maker: StubMaker | undefined;
  #planned = 0;
  readonly #failures: { key: string; message: string }[] = [];
  #failed = 0;
  #bytes = 0;
  #lastKey = '';
  #shownAtMs = -Infinity;

  constructor(parts: PopulateParts, request: PopulateRequest) {
    this.#parts = parts;
    this.#request = request;
    this.#signal = AbortSignal.any([request.signal, this.#stop.signal]);
    const { store, catalog, defaults } = parts;
    const changesTakenIn = parts.changesTakenIn ?? (() => Promise.resolve());
    this.#queue = new CommitQueue({ store, catalog, turns: this.#turns, changesTakenIn });
    this.#shop = {
      store,
      catalog,
      defaults,
      queue: this.#queue,
      turns: this.#turns,
      signal: this.#signal,
      nextId: idsOf(catalog),
      nextName: namesOf(),
      count: (what, bytes) => {
        this.#counts[what] += 1;
        this.#bytes += bytes;
        this.#show(this.#lastKey, false);
      },
      report: (kind, key, message) => {
        this.#reported[kind] += 1;
        if (this.#reports.length < reportsMax) this.#reports.push({ kind, key, message });
      },
      maker: (moreStubs) => this.#makerFor(moreStubs),
      usersRecorded: parts.usersRecorded ?? (() => Promise.resolve(() => true)),
    };
  }

  async perform(): Promise<PopulateResult> {
    const { keys = [''] } = this.#request;
    for (const key of keys) this.#tasks.push({ key, attributes: undefined, isEmpty: false });
    try {
      await this.#workAll();
    } catch (error) {
      // Also of an interrupted run: what it completed need not be done again. Why it ended says `error`.
      await this.#finish().catch(() => undefined);
      throw error;
    }
    await this.#finish();
    this.#parts.catalog.flush();
    this.#show(this.#lastKey, true);
    return {
      ...this.#counts,
      bytes: this.#bytes,
      reported: this.#reported,
      reports: this.#reports,
      failed: this.#failed,
      failures: this.#failures,
    };
  }

  async #finish(): Promise<void> {
    try {
      await this.#maker?.[Symbol.asyncDispose]();
    } finally {
      await this.#queue.settled();
    }
  }

  #makerFor(moreStubs: number): StubMaker | undefined {
    const { store, makerFromStubs = availableParallelism() > 1 ? makerFromDefault : Infinity } =
      this.#parts;
    this.#planned += moreStubs;
    if (this.#planned >= makerFromStubs) this.#maker ??= store.startMaker();
    return this.#maker;
  }

  /** Runs tasks until there are none. The first that throws stops the others; rejects with what it threw. */
  async #workAll(): Promise<void> {
    const active = new Set<Promise<void>>();
    let failure: { readonly error: unknown } | undefined;
    while (failure === undefined && (this.#tasks.length > 0 || active.size > 0)) {
      const task = active.size < this.#parts.parallel ? this.#tasks.pop() : undefined;
      if (task === undefined) {
        await Promise.race(active);
        continue;
      }
      const work: Promise<void> = this.#directory(task)
        .catch((error: unknown) => {
          failure ??= { error };
          this.#stop.abort(error);
        })
        .finally(() => active.delete(work));
      active.add(work);
    }
    await Promise.all(active);
    if (failure !== undefined) throw failure.error;
  }

  async #directory(task: Task): Promise<void> {
    const { key } = task;
    this.#signal.throwIfAborted();
    const before = this.#listed(key);
    const isFirst = before === undefined || before.listedAtMs === 0;
    if (this.#request.mode === 'resume' && !isFirst) return await this.#descend(key);
    const found = await this.#ask(task);
    if (found === undefined) return;
    await this.#turns.pause();
    using directory = openDirectory(this.#parts.store.rootFd, key);
    if (directory === undefined) return; // users took it away meanwhile
    const { isEmpty } = task;
    const plan = await this.#follow(directory.fd, key, found.listing, { isFirst, isEmpty });
    const only = new Set(plan.changedKinds);
    // What they were has gone, as far as it may.
    const more =
      only.size === 0
        ? []
        : (await this.#follow(directory.fd, key, found.listing, { isFirst, only })).directories;
    const told = encodeDirectoryFacts(found.attributes);
    // The root stays as its owner made it: it is the directory that was attached.
    const isToFollow = key !== '' && (isFirst || told !== before.attributes);
    const isRefused =
      isToFollow && !applyDirectoryFacts(directory.fd, found.attributes, this.#parts.defaults);
    if (isRefused) this.#shop.report('skipped', key, 'nobody may change its mode, owner and time');
    const attributes = isRefused ? unknownFacts : told;
    this.#queue.addListed({ key, listedAtMs: this.#parts.nowMs(), attributes });
    await this.#queue.relieve();
    for (const { object, isNew } of [...plan.directories, ...more]) {
      this.#tasks.push({
        key: joinKey(key, object.name),
        attributes: object,
        isEmpty: isNew && !this.#request.isExposed,
      });
    }
    this.#counts.directories += 1;
    this.#show(key, false);
  }

  /** Undefined when the remote fails: nothing is concluded from that. */
  async #ask(
    task: Task,
  ): Promise<{ readonly listing: Listing; readonly attributes: ObjectAttributes } | undefined> {
    const { remote, catalog } = this.#parts;
    const { key } = task;
    try {
      const attributes: ObjectAttributes =
        task.attributes ??
        (key === '' ? { kind: 'directory' } : await remote.stat(key, { signal: this.#signal }));
      const recordOf = (of: string) => catalog.byKey(of);
      const listing = await listExactly(remote, key, recordOf, this.#signal);
      return { listing, attributes };
    } catch (error) {
      this.#signal.throwIfAborted();
      this.#failed += 1;
      const { message } = toEbbError(error);
      if (this.#failures.length < reportsMax) this.#failures.push({ key, message });
      return undefined;
    }
  }

  /** Has the directory be what the listing says. `only`: what of it was of another kind. */
  async #follow(
    fd: number,
    key: string,
    { objects, skipped }: Listing,
    how: { readonly isFirst: boolean; readonly isEmpty?: boolean; readonly only?: NameSet },
  ): Promise<DirectoryPlan> {
    const { catalog } = this.#parts;
    const { isFirst, isEmpty = false, only } = how;
    const local = isEmpty
      ? new Map<string, LocalEntry>()
      : await readLocal(fd, { ...this.#parts, turns: this.#turns });
    const planner = new Planner({
      key,
      listed: only === undefined ? objects : objects.filter(({ name }) => only.has(name)),
      skipped: only === undefined ? skipped : [],
      local: only === undefined ? local : new Map([...local].filter(([name]) => only.has(name))),
      isFirst,
      isAgain: only !== undefined,
      recordOf: (of) => catalog.byKey(of),
      knownOf: (of) => catalog.known(of),
      wasListed: (of) => this.#listed(of) !== undefined,
    });
    for (const _step of planner.steps()) await this.#turns.pause();
    await this.#perform(fd, key, planner.plan, isFirst);
    return planner.plan;
  }

  async #perform(fd: number, key: string, plan: DirectoryPlan, isFirst: boolean): Promise<void> {
    const isDirect = isFirst && !this.#request.isExposed;
    const unmade = await new DirectoryWork(this.#shop, fd, key, isDirect).perform(plan);
    for (const { object } of plan.directories) {
      const child = joinKey(key, object.name);
      // What was known and is not there is taken for deleted by a user.
      if (this.#listed(child) !== undefined || unmade.has(object.name)) continue;
      // Known from now on, so that an interrupted run finds it; complete when it has a time.
      this.#queue.addListed({
        key: child,
        listedAtMs: 0,
        attributes: encodeDirectoryFacts(object),
      });
    }
    for (const name of plan.goneDirectories) await this.#removeGone(fd, joinKey(key, name));
  }

  /** The remote has no such directory any more: what is in it goes as far as it may, and it, too, when it is empty. */
  async #removeGone(parentFd: number, key: string): Promise<void> {
    const { store, catalog } = this.#parts;
    this.#signal.throwIfAborted();
    await this.#turns.pause();
    using directory = openDirectory(store.rootFd, key);
    if (directory === undefined) return;
    await this.#follow(directory.fd, key, { objects: [], skipped: [] }, { isFirst: false });
    if (removeIfEmpty(parentFd, baseName(key))) {
      catalog.setListed([{ key, listedAtMs: 0, attributes: gone }]);
      this.#counts.removed += 1;
    }
  }

  /** A complete directory: only its children may not be. */
  async #descend(key: string): Promise<void> {
    using directory = openDirectory(this.#parts.store.rootFd, key);
    if (directory === undefined) return;
    for await (const entry of readEntries(directory.fd)) {
      if (entry.kind !== 'directory') continue;
      const child = joinKey(key, decodeName(entry.name));
      const before = this.#listed(child);
      if (before === undefined) continue; // a user's own
      const attributes = decodeDirectoryFacts(before.attributes);
      this.#tasks.push({ key: child, attributes, isEmpty: false });
    }
  }

  #listed(key: string) {
    const found = this.#parts.catalog.listed(key);
    return found?.attributes === gone ? undefined : found;
  }

  #show(key: string, isLast: boolean): void {
    this.#lastKey = key;
    const { onProgress } = this.#request;
    const nowMs = performance.now();
    if (onProgress === undefined) return;
    if (!isLast && nowMs - this.#shownAtMs < progressIntervalMs) return;
    this.#shownAtMs = nowMs;
    const { directories, stubs } = this.#counts;
    onProgress({ directories, stubs, bytes: this.#bytes, key });
  }
}

function idsOf(catalog: StubCatalog): () => number {
  let next = 0;
  let end = 0;
  return () => {
    if (next === end) {
      next = catalog.reserveIds(idsPerReservation);
      end = next + idsPerReservation;
    }
    next += 1;
    return next - 1;
  };
}

function namesOf(): () => string {
  const own = randomBytes(8).toString('hex');
  let last = 0;
  return () => {
    last += 1;
    return `${own}-${last}`;
  };
}
