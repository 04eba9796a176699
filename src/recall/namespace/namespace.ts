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
import type { Clock } from '../../base/clock.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import { decodeName } from '../../base/name.ts';
import { NodeKind, ROOT_NODE_ID } from '../../catalog/catalog.ts';
import type { Catalog, Node } from '../../catalog/catalog.ts';
import type { ListedObject, ObjectAttributes, Remote } from '../../remote/remote.ts';
import { isVague, ListingEntry, listedNamesMax, partNames } from './listing-entry.ts';
import type { ListingOutcome } from './listing-entry.ts';
import { isTransferVersion, judgeFile, newNode, refreshed } from './reconcile.ts';
import { Patience } from './patience.ts';
import { Reachability } from './reachability.ts';
import { SingleFlight } from './single-flight.ts';
import { TurnBatch } from './turn-batch.ts';

/** Keys of directories kept in memory. */
const directoryKeysMax = 4_096;
const rememberedNodesMax = 4_096;
/** How long a whole fetch of a file without a version counts as current, whatever the time to live says. */
const transferRestMs = 1_000;
/** The kernel's own limit of a path (PATH_MAX); deeper names cannot be opened, and end symlink cycles of servers. */
const keyMaxBytes = 4_096;

export type NamespaceChange =
  /** A directory was listed again, or a name of it changed. `gone`: nodes that no longer have their name. */
  | {
      readonly kind: 'directory';
      readonly directoryId: number;
      readonly gone: readonly Node[];
      /** Names that the directory did not have when it was listed before: somebody may remember their absence. */
      readonly appeared: readonly Uint8Array[];
      /** False: the same names mean the same nodes, only facts (and their freshness) changed. */
      readonly namesChanged: boolean;
    }
  /** Facts of one node were refreshed in place. */
  | { readonly kind: 'facts'; readonly nodeId: number };

export interface NamespaceOptions {
  readonly catalog: Catalog;
  readonly remote: Remote;
  readonly clock: Clock;
  /** How long a listing or a version is trusted; 0 = ask every time. */
  readonly ttlMs: number;
  /** How long a listing, stat or revalidation may take in all. */
  readonly deadlineMs: number;
  readonly onChange: (change: NamespaceChange) => void;
  readonly onProblem: (message: string, error: EbbError) => void;
}

/** What came of asking: the node, and why it is only what was known before. */
interface Asked {
  readonly node: Node;
  readonly failure?: EbbError;
}

/** A name with an extension. */
function looksLikeFile(name: Uint8Array): boolean {
  return /[^.]\.[A-Za-z0-9]{1,8}$/.test(decodeName(name));
}

/** True when the error says nothing about the object, only that nobody could be asked. */
export function isUnreachable(error: EbbError): boolean {
  return error.retryable || error.code === 'EHOSTUNREACH' || error.code === 'ETIMEDOUT';
}

export class Namespace {
  readonly #options: NamespaceOptions;
  /** With what kept it from being done, when the known names or facts are served instead. */
  readonly #listings = new SingleFlight<number, EbbError | undefined>();
  readonly #stats = new SingleFlight<number, Asked>();
  readonly #closing = new AbortController();
  /** Forgotten whenever a name goes away: directories never move, they only vanish. */
  readonly #directoryKeys = new Map<number, string>();
  /** Rows as last read; every change of nodes goes through this class, which forgets what it changes. */
  readonly #nodes = new Map<number, Node>();
  readonly #reachability = new Reachability();
  /** The last listing with files told too little of them. Until there was one: web servers do. */
  #isListingVague: boolean;
  /** Answers that came in one turn of the event loop are one transaction. */
  readonly #batch = new TurnBatch((runAll) => this.#together(runAll));
  /** Changes that are not in the catalog yet: nobody may hear of them before. */
  #unheard: NamespaceChange[] | undefined;

  constructor(options: NamespaceOptions) {
    this.#options = options;
    this.#isListingVague = options.remote.kind === 'http';
  }

  get remoteReachable(): boolean {
    return this.#reachability.isReachable(this.#nowMs());
  }

  #mayAsk(nodeId: number): boolean {
    return this.#reachability.mayAsk(nodeId, this.#nowMs());
  }

  /** The remote key of a node. ENOENT for orphans, ENAMETOOLONG beyond PATH_MAX. */
  keyOf(nodeId: number): string {
    if (nodeId === ROOT_NODE_ID) return '';
    const node = this.#node(nodeId);
    if (node === undefined || node.parentId === 0) {
      throw ebbError('ENOENT', `node ${nodeId} has no name any more`);
    }
    const directory = this.#directoryKeyOf(node.parentId);
    const name = decodeName(node.name);
    const key = directory === '' ? name : `${directory}/${name}`;
    if (key.length > keyMaxBytes)
      throw ebbError('ENAMETOOLONG', `the path of node ${nodeId} is too long`);
    return key;
  }

  #node(id: number): Node | undefined {
    const remembered = this.#nodes.get(id);
    if (remembered !== undefined) return remembered;
    const node = this.#options.catalog.node(id);
    if (node === undefined) return undefined;
    if (this.#nodes.size >= rememberedNodesMax) this.#nodes.clear();
    this.#nodes.set(id, node);
    return node;
  }

  #directoryKeyOf(directoryId: number): string {
    let key = this.#directoryKeys.get(directoryId);
    if (key === undefined) {
      // The directory above is remembered as a rule: whoever comes here has come through it.
      key = this.keyOf(directoryId);
      if (this.#directoryKeys.size >= directoryKeysMax) this.#directoryKeys.clear();
      this.#directoryKeys.set(directoryId, key);
    }
    return key;
  }

  isFresh(checkedAtMs: number): boolean {
    const { clock, ttlMs } = this.#options;
    return checkedAtMs > 0 && clock.nowMs() - checkedAtMs < ttlMs;
  }

  /**
   * Brings the listing of a directory into the catalog; returns at once when it is fresh, unless `force`.
   * Throws ENOENT (the remote says it is gone), EACCES, ENOTDIR, EIO and network errors for a directory that was
   * never listed; one that was keeps its names when the remote cannot be reached (`force` says so by throwing).
   */
  async list(directoryId: number, signal?: AbortSignal, force = false): Promise<void> {
    const directory = this.#node(directoryId);
    if (directory === undefined || directory.kind !== NodeKind.directory) {
      throw ebbError('ESTALE', `directory ${directoryId} is gone`);
    }
    if (!force && this.isFresh(directory.listedAtMs)) return;
    if (!force && directory.listedAtMs > 0 && !this.#mayAsk(directoryId)) return;
    const failure = await this.#listings.run(directoryId, () => this.#list(directory), signal);
    if (force && failure !== undefined) throw failure;
  }

  /**
   * `list` for somebody who looks for `name` in a directory that was never listed. Where listings tell too little of a
   * file, and the name looks like one, it is asked about while the listing comes: one round trip less. Throws also
   * what `resolve` of the file throws.
   */
  async listFor(directoryId: number, name: Uint8Array, signal?: AbortSignal): Promise<void> {
    const { catalog, remote } = this.#options;
    const isFirst = this.#node(directoryId)?.listedAtMs === 0 && !this.isListing(directoryId);
    if (!isFirst || !this.#isListingVague || !looksLikeFile(name)) {
      await this.list(directoryId, signal);
      return;
    }
    const directory = this.keyOf(directoryId);
    const key = directory === '' ? decodeName(name) : `${directory}/${decodeName(name)}`;
    // Its failure means nothing yet: it may be a directory, or not be there.
    const asked = remote.stat(key, { signal: this.#signal() }).catch(() => undefined);
    await this.list(directoryId, signal);
    const child = catalog.child(directoryId, name);
    if (child?.kind !== NodeKind.file || child.exact) return;
    const take = async (): Promise<Asked> => {
      const object = await asked;
      return object === undefined ? this.#stat(child) : { node: this.#take(child, object) };
    };
    await this.#stats.run(child.id, take, signal);
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
    const node = this.#known(nodeId);
    if (!force && node.version !== null && this.isFresh(node.checkedAtMs)) return node;
    if (!force && node.version !== null && !this.#mayAsk(nodeId)) return node;
    if (!force && this.#wasJustFetched(node)) return node;
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
    return this.#batch.run(work);
  }

  #together(work: () => void): void {
    const changes: NamespaceChange[] = [];
    this.#unheard = changes;
    try {
      this.#options.catalog.together(work);
    } catch (error) {
      // What is remembered may be of what was not entered.
      this.#nodes.clear();
      this.#directoryKeys.clear();
      throw error;
    } finally {
      this.#unheard = undefined;
      // Also after a failure: part of it may be there, and to look again harms nobody.
      for (const change of changes) this.#options.onChange(change);
    }
  }

  #changed(change: NamespaceChange): void {
    if (this.#unheard === undefined) this.#options.onChange(change);
    else this.#unheard.push(change);
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
    this.#nodes.set(nodeId, confirmed);
    this.#changed({ kind: 'facts', nodeId });
    return confirmed;
  }

  async close(): Promise<void> {
    this.#closing.abort(ebbError('EINTR', 'the daemon stops'));
    await Promise.allSettled([this.#listings.settled(), this.#stats.settled()]);
  }

  /**
   * What the remote shows no version for is fetched anew each time it is asked about, under a new id. Without a
   * moment's rest between the lookup that fetches and the open that follows, a ttl of 0 could never open it.
   */
  #wasJustFetched(node: Node): boolean {
    const ageMs = this.#options.clock.nowMs() - node.checkedAtMs;
    return isTransferVersion(node.version) && ageMs >= 0 && ageMs < transferRestMs;
  }

  #known(nodeId: number): Node {
    const node = this.#node(nodeId);
    if (node === undefined || (node.parentId === 0 && nodeId !== ROOT_NODE_ID)) {
      throw ebbError('ESTALE', `node ${nodeId} is no longer part of the namespace`);
    }
    return node;
  }

  #signal(): AbortSignal {
    return AbortSignal.any([this.#closing.signal, AbortSignal.timeout(this.#options.deadlineMs)]);
  }

  async #list(directory: Node): Promise<EbbError | undefined> {
    const { remote, clock } = this.#options;
    const key = this.keyOf(directory.id);
    const entry = new ListingEntry(this.#options.catalog, directory, () => clock.nowMs());
    let listed: ListedObject[] = [];
    let names = 0;
    using patience = new Patience(this.#options.deadlineMs, this.#closing.signal);
    try {
      for await (const batch of remote.list(key, { signal: patience.signal })) {
        for (const object of batch.objects) listed.push(object);
        for (const skipped of batch.skipped) {
          const why = ebbError('EILSEQ', skipped.why);
          this.#options.onProblem(`left out of ${key}/: ${skipped.raw}`, why);
        }
        names += batch.objects.length;
        if (names > listedNamesMax) {
          throw ebbError('EOVERFLOW', `more than ${listedNamesMax} names in one directory`);
        }
        if (listed.length < partNames) continue;
        const part = listed;
        listed = [];
        await this.enter(() => this.#entered(directory, part, entry.part(part)));
        patience.renew();
      }
    } catch (error) {
      return this.#listingFailed(directory, toEbbError(error));
    }
    this.#reachability.answered(directory.id);
    if (directory.id === ROOT_NODE_ID) await this.#refreshRoot();
    await this.enter(() => this.#entered(directory, listed, entry.finish(listed)));
    return undefined;
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
      if (mayBeRemembered || directoryId === ROOT_NODE_ID) this.#nodes.clear();
      else this.#nodes.delete(directoryId);
      if (gone.length > 0) this.#directoryKeys.clear();
      this.#changed({ kind: 'directory', directoryId, gone, appeared, namesChanged });
    }
  }

  /** The root has no name in any listing; its mode, owner and time are asked for where the remote has them. */
  async #refreshRoot(): Promise<void> {
    const { catalog, remote, clock } = this.#options;
    const root = this.#node(ROOT_NODE_ID);
    if (root === undefined) return;
    try {
      const object = await remote.stat('', { signal: this.#signal() });
      catalog.updateNode(refreshed(root, object, clock.nowMs(), true));
    } catch (error) {
      // The listing was what counts.
      this.#options.onProblem('the root directory has no attributes of its own', toEbbError(error));
    }
    this.#nodes.clear();
  }

  /** Keeps the known names when nobody could be asked; passes on definite answers. */
  #listingFailed(directory: Node, error: EbbError): EbbError {
    if (error.code === 'ENOENT' && directory.id !== ROOT_NODE_ID) {
      this.#remove(directory);
      throw error;
    }
    if (isUnreachable(error)) this.#reachability.failed(directory.id, error, this.#nowMs());
    if (directory.listedAtMs === 0 || !isUnreachable(error)) throw error;
    this.#options.onProblem(`serving the known names of node ${directory.id}`, error);
    return error;
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
      this.#reachability.failed(node.id, error, this.#nowMs());
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
    if (this.#staysTheSame(node, object) && !this.#hasOrphan(node, object)) {
      const facts = refreshed(node, object, nowMs, true);
      catalog.updateNode(facts);
      this.#nodes.set(facts.id, facts);
      this.#changed({ kind: 'facts', nodeId: node.id });
      return facts;
    }
    const kind = node.kind;
    const replacement = newNode(node.parentId, node.name, kind, object, nowMs, true);
    this.#nodes.clear();
    const current = catalog.replaceNode(node.id, replacement);
    this.#nameChanged(node);
    return current;
  }

  /**
   * A node whose version nobody has seen has no content yet, so its facts may still be corrected in place; but not
   * a size or time that was shown to the kernel already (it would go on with the old size).
   */
  #staysTheSame(node: Node, object: ObjectAttributes): boolean {
    if (node.kind !== NodeKind.file || (node.version === null && !node.exact)) return true;
    const verdict = judgeFile(node, object);
    return node.version === null ? verdict !== 'changed' : verdict === 'same';
  }

  /** Content of this very version is still here, under the id it had before its name went away. */
  #hasOrphan(node: Node, object: ObjectAttributes): boolean {
    if (node.version !== null || object.version === undefined) return false;
    return this.#options.catalog.orphanByKey(this.keyOf(node.id), object.version) !== undefined;
  }

  #remove(node: Node): void {
    this.#directoryKeys.clear();
    this.#nodes.clear();
    this.#options.catalog.removeNode(node.id);
    this.#nameChanged(node);
  }

  #nameChanged(node: Node): void {
    this.#changed({
      kind: 'directory',
      directoryId: node.parentId,
      gone: [node],
      appeared: [],
      namesChanged: true,
    });
  }
}
