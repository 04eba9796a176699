/**
 * The remote's names, as the catalog knows them, and how fresh that is.
 *
 * `list` fills or refreshes a directory, `resolve` makes a file's facts exact, `revalidate` asks whether a file is
 * still the version we know. All of them go to the remote at most once at a time per directory or file. When the
 * remote's version of a file moved, the name gets a new node and the old node id answers ESTALE: the kernel then
 * looks the name up again (path_openat() retries with LOOKUP_REVAL on ESTALE).
 *
 * A remote that cannot be reached is not an answer: known names and versions stay usable (docs/semantics.md).
 */
import { EbbError, ebbError, toEbbError } from '../../base/errors.ts';
import { encodeName } from '../../base/name.ts';
import { NodeKind, ROOT_NODE_ID } from '../../catalog/catalog.ts';
import type { Node } from '../../catalog/catalog.ts';
import type { ListedObject, ObjectAttributes } from '../../remote/remote.ts';
import { isVague, ListingEntry, listedNamesMax, noChanges, partNames } from './listing-entry.ts';
import type { Listed, ListingChanges, ListingOutcome } from './listing-entry.ts';
import { ListingRequest } from './listing-request.ts';
import { Ahead, looksLikeFile } from './ahead.ts';
import type { LookedFor } from './ahead.ts';
import { CatalogChanges } from './catalog-changes.ts';
import { KnownNodes } from './known-nodes.ts';
import { newNode, refreshed, staysTheSame, wasJustFetched } from './reconcile.ts';
import type { NamespaceOptions } from './namespace-options.ts';
import { isUnreachable, Reachability } from './reachability.ts';
import { SingleFlight } from './single-flight.ts';

/** What came of asking: the node, and why it is only what was known before. */
interface Asked {
  readonly node: Node;
  readonly failure?: EbbError;
}

export class Namespace {
  readonly #options: NamespaceOptions;
  /** With what kept it from being done, when the known names or facts are served instead. */
  readonly #listings = new SingleFlight<number, Listed>();
  readonly #ahead: Ahead;
  readonly #stats = new SingleFlight<number, Asked>();
  readonly #closing = new AbortController();
  /** Every change of nodes goes through this class, which has forgotten what it changes. */
  readonly #nodes: KnownNodes;
  readonly #reachability: Reachability;
  readonly #changes: CatalogChanges;
  /** The last listing with files told too little of them. Until there was one: web servers do. */
  #isListingVague: boolean;

  constructor(options: NamespaceOptions) {
    this.#options = options;
    this.#nodes = new KnownNodes(options.catalog);
    this.#ahead = new Ahead(options.ttlMs);
    this.#reachability = new Reachability(options.clock);
    this.#changes = new CatalogChanges(options, () => this.#nodes.forgetNames());
    this.#isListingVague = options.remote.kind === 'http';
  }

  get remoteReachable(): boolean {
    return this.#reachability.isReachable();
  }

  /** See `KnownNodes.keyOf`. */
  keyOf(nodeId: number): string {
    return this.#nodes.keyOf(nodeId);
  }

  isFresh(checkedAtMs: number): boolean {
    const { clock, ttlMs } = this.#options;
    const ageMs = clock.nowMs() - checkedAtMs;
    // Ahead of now: the clock was set back since, and how long ago that was is not known.
    return checkedAtMs > 0 && ageMs >= 0 && ageMs < ttlMs;
  }

  /**
   * Brings the listing of a directory into the catalog; returns at once when it is fresh, unless `force`.
   * Throws ENOENT (the remote says it is gone), EACCES, ENOTDIR, EIO and network errors for a directory that was
   * never listed; one that was keeps its names when the remote cannot be reached (`force` says so by throwing).
   */
  async list(directoryId: number, signal?: AbortSignal, force = false): Promise<ListingChanges> {
    if (this.#trustsNothing(force)) await this.#listings.passed(directoryId, signal);
    const directory = this.#nodes.node(directoryId);
    if (directory === undefined || directory.kind !== NodeKind.directory) {
      throw ebbError('ESTALE', `directory ${directoryId} is gone`);
    }
    if (!force && this.isFresh(directory.listedAtMs)) return noChanges;
    const isKnown = directory.listedAtMs > 0;
    if (!force && isKnown && !this.#reachability.mayAsk(directoryId)) return noChanges;
    for (;;) {
      this.#ahead.wanted(directoryId);
      const listed = await this.#listings.run(directoryId, () => this.#list(directory), signal);
      if ('changes' in listed) return listed.changes;
      if (listed.failure === 'unwanted') continue;
      if (force) throw listed.failure;
      return noChanges;
    }
  }

  /**
   * `list` for somebody who looks for `name`; gives its node as the catalog has it then. In a directory that was never
   * listed, where listings tell too little of a file, and the name looks like one, it is asked about while the listing
   * comes: one round trip less. Throws also what `resolve` of the file throws. A directory is listed next, without
   * anybody waiting for that (ahead.ts).
   */
  async listFor(
    directoryId: number,
    name: Uint8Array,
    signal?: AbortSignal,
  ): Promise<Node | undefined> {
    const looked = this.#ahead.looksFor(directoryId, name);
    try {
      return await this.#listFor(directoryId, name, looked, signal);
    } finally {
      this.#ahead.found(directoryId, looked);
    }
  }

  async #listFor(
    directoryId: number,
    name: Uint8Array,
    looked: LookedFor,
    signal: AbortSignal | undefined,
  ): Promise<Node | undefined> {
    const { catalog, remote } = this.#options;
    const isFirst = this.#nodes.node(directoryId)?.listedAtMs === 0 && !this.isListing(directoryId);
    if (!isFirst || !this.#isListingVague || !looksLikeFile(name)) {
      await this.list(directoryId, signal);
      const child = catalog.child(directoryId, name);
      if (looked.isFollowed !== true) this.#listAhead(child);
      return child;
    }
    const key = this.#nodes.keyIn(directoryId, looked.name);
    // Its failure means nothing yet: it may be a directory, or not be there.
    const asked = remote.stat(key, { signal: this.#signal() }).then(
      (object) => (looked.object = object),
      () => undefined,
    );
    await this.list(directoryId, signal);
    const child = catalog.child(directoryId, name);
    if (child?.kind !== NodeKind.file || child.exact) return child;
    const take = async (): Promise<Asked> => {
      const object = await asked;
      return object === undefined ? this.#stat(child) : { node: this.#take(child, object) };
    };
    return (await this.#stats.run(child.id, take, signal)).node;
  }

  /** Lists a directory that nobody has asked for; `request`: what is under way for that already. */
  #listAhead(directory: Node | undefined, levels?: number, request?: ListingRequest): void {
    const isNew = directory?.kind === NodeKind.directory && directory.listedAtMs === 0;
    const guess =
      isNew && !this.isListing(directory.id) ? this.#ahead.guess(directory.id, levels) : undefined;
    if (!isNew || guess === undefined) {
      request?.giveUp(ebbError('EINTR', 'not the directory that it was taken for'));
      return;
    }
    this.#listings
      .run(directory.id, () => this.#list(directory, request))
      // Whoever needs it asks again and hears the error.
      .catch(() => undefined)
      .finally(() => guess[Symbol.dispose]());
  }

  isListing(directoryId: number): boolean {
    return this.#listings.has(directoryId);
  }

  /** The node with exact size, time and (for files) version; may have another id (see `revalidate`). */
  async resolve(nodeId: number, signal?: AbortSignal): Promise<Node> {
    const node = this.#known(nodeId);
    if (node.exact && (node.kind !== NodeKind.file || node.version !== null)) return node;
    return (await this.#stats.run(nodeId, () => this.#stat(node), signal)).node;
  }

  /**
   * Confirms that a file is still the version we know. Returns its node (the same id), or throws ESTALE when the
   * name has a new node now, ENOENT when the remote says it is gone. Unreachable remote: the known node, or with
   * `force` its error.
   */
  async revalidate(nodeId: number, signal?: AbortSignal, force = false): Promise<Node> {
    if (this.#trustsNothing(force)) await this.#stats.passed(nodeId, signal);
    const node = this.#known(nodeId);
    if (!force && node.version !== null && this.isFresh(node.checkedAtMs)) return node;
    if (!force && node.version !== null && !this.#reachability.mayAsk(nodeId)) return node;
    if (!force && wasJustFetched(node, this.#nowMs())) return node;
    const current = await this.#stats.run(nodeId, () => this.#stat(node), signal);
    if (current.node.id !== nodeId)
      throw ebbError('ESTALE', 'the remote has a new version of this file');
    if (force && current.failure !== undefined) throw current.failure;
    return current.node;
  }

  /** Whether only the remote knows the file's facts, which is known to be no larger than this. */
  isSmallAndVague(nodeId: number, maxBytes: number): boolean {
    const { kind, exact, sizeBytes } = this.#known(nodeId);
    return kind === NodeKind.file && !exact && sizeBytes >= 0 && sizeBytes <= maxBytes;
  }

  /** Runs `work`, which changes the catalog, together with what else is entered in this turn of the event loop. */
  enter<Result>(work: () => Result): Promise<Result> {
    return this.#changes.enter(work);
  }

  /** Takes in facts about a file that came with its content (the head of a GET). Same results as `resolve`. */
  learn(nodeId: number, object: ObjectAttributes): Node {
    return this.#take(this.#known(nodeId), object);
  }

  /** The node counts as checked now. */
  confirm(nodeId: number): Node {
    const { catalog, clock } = this.#options;
    const confirmed = { ...this.#known(nodeId), checkedAtMs: clock.nowMs() };
    catalog.updateNode(confirmed);
    this.#nodes.remember(confirmed);
    this.#changes.tell({ kind: 'facts', nodeId });
    return confirmed;
  }

  async close(): Promise<void> {
    this.#closing.abort(ebbError('EINTR', 'the daemon stops'));
    await Promise.allSettled([this.#listings.settled(), this.#stats.settled()]);
  }

  #known(nodeId: number): Node {
    const node = this.#nodes.node(nodeId);
    if (node === undefined || (node.parentId === 0 && nodeId !== ROOT_NODE_ID)) {
      throw ebbError('ESTALE', `node ${nodeId} is no longer part of the namespace`);
    }
    return node;
  }

  #signal(): AbortSignal {
    return AbortSignal.any([this.#closing.signal, AbortSignal.timeout(this.#options.deadlineMs)]);
  }

  #request(key: string): ListingRequest {
    const { remote, deadlineMs: patienceMs } = this.#options;
    const closing = this.#closing.signal;
    return new ListingRequest(remote, key, { nowMs: this.#nowMs(), patienceMs, closing });
  }

  async #list(
    directory: Node,
    request = this.#request(this.#nodes.directoryKeyOf(directory.id)),
  ): Promise<Listed> {
    using asked = request;
    const { catalog, clock, onProblem } = this.#options;
    const { id } = directory;
    const entry = new ListingEntry(catalog, directory, asked.startedAtMs, () => clock.nowMs());
    let listed: ListedObject[] = [];
    let names = 0;
    const root = id === ROOT_NODE_ID ? this.#askRoot(asked.signal) : undefined;
    try {
      for await (const batch of asked) {
        for (const object of batch.objects) listed.push(object);
        for (const skipped of batch.skipped) {
          const why = ebbError('EILSEQ', skipped.why);
          onProblem(`left out of ${this.#nodes.directoryKeyOf(id)}/: ${skipped.raw}`, why);
        }
        names += batch.objects.length;
        if (names > listedNamesMax) {
          throw ebbError('EOVERFLOW', `more than ${listedNamesMax} names in one directory`);
        }
        if (listed.length < partNames) continue;
        if (this.#ahead.isGuess(id)) return { failure: 'unwanted' };
        const part = listed;
        listed = [];
        await this.enter(() => this.#entered(directory, part, entry.part(part)));
        asked.renew();
      }
    } catch (error) {
      asked.giveUp(toEbbError(error));
      return { failure: this.#listingFailed(directory, toEbbError(error)) };
    }
    this.#reachability.answered(id);
    if (root !== undefined) this.#refreshRoot(await root);
    // The remote is asked for what comes next before this is entered: it takes as long.
    const step = directory.listedAtMs === 0 ? this.#ahead.next(id, listed) : undefined;
    const key = step && this.#nodes.shortKeyIn(id, step.name);
    const next = key === undefined ? undefined : this.#request(key);
    try {
      const child = await this.enter(() => {
        this.#entered(directory, listed, entry.finish(listed));
        this.#takeLookedFor(id);
        return step && this.#nodes.child(id, encodeName(step.name));
      });
      if (next !== undefined) this.#listAhead(child, step?.levels, next);
    } catch (error) {
      next?.giveUp(toEbbError(error));
      throw error;
    }
    return { changes: entry.changes };
  }

  /** What was heard of a file while the listing came that names it. */
  #takeLookedFor(directoryId: number): void {
    const looked = this.#ahead.lookedFor(directoryId);
    if (looked?.object === undefined) return;
    const child = this.#options.catalog.child(directoryId, encodeName(looked.name));
    if (child?.kind !== NodeKind.file || child.exact) return;
    try {
      this.#take(child, looked.object);
    } catch {
      // Who waits for it finds the file as it was, and hears why.
    }
  }

  /** Forgets and tells what a listing, or a part of it, has changed in the catalog. */
  #entered(
    directory: Node,
    listed: readonly ListedObject[],
    outcomes: Iterable<ListingOutcome>,
  ): void {
    this.#isListingVague = isVague(listed) ?? this.#isListingVague;
    const directoryId = directory.id;
    for (const { gone, appeared, namesChanged, mayBeRemembered } of outcomes) {
      // What was never listed has nothing below it that could be remembered.
      if (gone.length > 0) this.#nodes.forgetNames();
      else if (mayBeRemembered || directoryId === ROOT_NODE_ID) this.#nodes.forgetFacts();
      else this.#nodes.forget(directoryId);
      this.#changes.tell({ kind: 'directory', directoryId, gone, appeared, namesChanged });
    }
  }

  /** The root has no name in any listing; its mode, owner and time are asked for where the remote has them. */
  #askRoot(signal: AbortSignal): Promise<ObjectAttributes | EbbError> {
    // With the listing: that saves a round trip, and two connections are there then for who comes first.
    return this.#options.remote.stat('', { signal }).catch(toEbbError);
  }

  #refreshRoot(said: ObjectAttributes | EbbError): void {
    const root = this.#nodes.node(ROOT_NODE_ID);
    if (root === undefined) return;
    // The listing was what counts.
    if (said instanceof EbbError) {
      this.#options.onProblem('the root directory has no attributes of its own', said);
    } else this.#options.catalog.updateNode(refreshed(root, said, this.#nowMs(), true));
    this.#nodes.forgetFacts();
  }

  /** Keeps the known names when nobody could be asked; passes on definite answers. */
  #listingFailed(directory: Node, error: EbbError): EbbError {
    if (error.code === 'ENOENT' && directory.id !== ROOT_NODE_ID) {
      // Until somebody goes in, what its own listing says counts less than the one that names it.
      if (!this.#ahead.isGuess(directory.id)) this.#remove(directory);
      throw error;
    }
    // The failure of a guess is nobody's: the others go on asking.
    if (this.#ahead.isGuess(directory.id)) throw error;
    if (isUnreachable(error)) this.#reachability.failed(directory.id, error);
    if (directory.listedAtMs === 0 || !isUnreachable(error)) throw error;
    this.#options.onProblem(`serving the known names of node ${directory.id}`, error);
    return error;
  }

  /** Nor what was asked for before the call: the remote may have answered before what the caller has to see. */
  #trustsNothing(force: boolean): boolean {
    return force || this.#options.ttlMs === 0;
  }

  #nowMs(): number {
    return this.#options.clock.nowMs();
  }

  async #stat(node: Node): Promise<Asked> {
    const { remote } = this.#options;
    let object: ObjectAttributes;
    try {
      object = await remote.stat(this.keyOf(node.id), { signal: this.#signal() });
      this.#reachability.answered(node.id);
    } catch (thrown) {
      const error = toEbbError(thrown);
      if (error.code === 'ENOENT') this.#remove(this.#known(node.id));
      if (!isUnreachable(error)) throw error;
      this.#reachability.failed(node.id, error);
      if (!node.exact || node.version === null) throw error;
      this.#options.onProblem(`serving the known version of node ${node.id}`, error);
      return { node, failure: error };
    }
    return { node: await this.enter(() => this.#take(this.#known(node.id), object)) };
  }

  /** Compares facts with the node: refreshes it in place, or gives the name a new node. */
  #take(node: Node, object: ObjectAttributes): Node {
    const { catalog, clock } = this.#options;
    const nowMs = clock.nowMs();
    if (object.kind !== 'file' && node.kind === NodeKind.file) {
      this.#remove(node);
      throw ebbError('ESTALE', 'the remote has something else than a file at this name now');
    }
    if (staysTheSame(node, object) && !this.#hasOrphan(node, object)) {
      const facts = refreshed(node, object, nowMs, true);
      catalog.updateNode(facts);
      this.#nodes.remember(facts);
      this.#changes.tell({ kind: 'facts', nodeId: node.id });
      return facts;
    }
    const kind = node.kind;
    const replacement = newNode(node.parentId, node.name, kind, object, nowMs, true);
    this.#nodes.forgetFacts();
    const current = catalog.replaceNode(node.id, replacement);
    this.#nameChanged(node);
    return current;
  }

  /** Content of this very version is still here, under the id it had before its name went away. */
  #hasOrphan(node: Node, object: ObjectAttributes): boolean {
    if (node.version !== null || object.version === undefined) return false;
    return this.#options.catalog.orphanByKey(this.keyOf(node.id), object.version) !== undefined;
  }

  #remove(node: Node): void {
    this.#nodes.forgetNames();
    this.#options.catalog.removeNode(node.id);
    this.#nameChanged(node);
  }

  #nameChanged(node: Node): void {
    this.#changes.tell({
      kind: 'directory',
      directoryId: node.parentId,
      gone: [node],
      appeared: [],
      namesChanged: true,
    });
  }
}
