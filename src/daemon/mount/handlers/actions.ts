/** The verbs of the control API that act on files: get, release, pin, unpin, verify, refresh. */
import { toEbbError } from '../../../base/errors.ts';
import { NodeKind, ROOT_NODE_ID } from '../../../catalog/catalog.ts';
import type { Node } from '../../../catalog/catalog.ts';
import type { Prepared } from '../../../recall/namespace/prepare.ts';
import type { PathsRequest, RefreshChanges } from '../../api.ts';
import { daemonRequester, getConcurrencyMax, getContent } from '../../control/get.ts';
import type { Action } from '../../control/handlers.ts';
import type { DaemonParts } from '../parts.ts';
import type { Listing, Located } from '../paths.ts';
import { Refusal, runAction } from '../../control/action-runner.ts';
import type { FileWork, Missing } from '../../control/action-runner.ts';
import { factsOf } from './facts.ts';
import { verifyContent } from '../../control/verify.ts';

const releaseConcurrencyMax = 4;
const refreshConcurrencyMax = 8;
const none: RefreshChanges = Object.freeze({
  new: 0,
  updated: 0,
  gone: 0,
  kept: 0,
  leftOut: 0,
  unsure: 0,
});

interface NamedNode extends Located {
  readonly sizeBytes: number;
}

/** With a size that can be added up: 0 while it is not known. */
function sized({ path, node }: Located): NamedNode {
  return { path, node, sizeBytes: Math.max(0, node.sizeBytes) };
}

type Work = FileWork<NamedNode>;

export class Actions {
  readonly #parts: DaemonParts;

  constructor(parts: DaemonParts) {
    this.#parts = parts;
  }

  async *get(request: PathsRequest, signal: AbortSignal): Action {
    const { files, missing } = await this.#files(request, signal);
    const result = yield* runAction(files, {
      concurrencyMax: getConcurrencyMax,
      signal,
      missing,
      work: (file) => this.#get(file, request.dryRun === true, signal),
    });
    // Who asked for it counts on it from now on: also after a power cut.
    await this.#parts.settle();
    return result;
  }

  async *release(request: PathsRequest, signal: AbortSignal): Action {
    const { files, missing } = await this.#files(request, signal);
    const held = files.filter(({ node }) => this.#hasContent(node));
    return yield* runAction(held, {
      concurrencyMax: releaseConcurrencyMax,
      signal,
      missing,
      work: (file) => this.#release(file, request.dryRun === true, signal),
    });
  }

  pin(request: PathsRequest, signal: AbortSignal): Action {
    return this.#setPinned(request, true, signal);
  }

  unpin(request: PathsRequest, signal: AbortSignal): Action {
    return this.#setPinned(request, false, signal);
  }

  async *verify(request: PathsRequest, signal: AbortSignal): Action {
    const { files, missing } = await this.#files(request, signal);
    const held = files.filter(({ node }) => this.#hasContent(node));
    return yield* runAction(held, {
      concurrencyMax: releaseConcurrencyMax,
      signal,
      missing,
      work: (file) => this.#verify(file, request.dryRun === true, signal),
    });
  }

  /** Asks the remote now: about files, and for the listings of directories (their own, not what is below them). */
  async *refresh(request: PathsRequest, signal: AbortSignal): Action {
    const dryRun = request.dryRun === true;
    const { found, missing } = await this.#entries(request, dryRun ? 'never' : 'due', signal);
    const result = yield* runAction(found, {
      concurrencyMax: refreshConcurrencyMax,
      signal,
      missing,
      work: async (work) => {
        if (!dryRun) work.changes = await this.#refresh(work.node, signal);
        return undefined;
      },
    });
    await this.#parts.namesTold();
    return result;
  }

  async #refresh(node: Node, signal: AbortSignal): Promise<RefreshChanges> {
    const { namespace } = this.#parts;
    try {
      if (node.kind === NodeKind.file) await namespace.revalidate(node.id, signal, true);
      else {
        const id = node.kind === NodeKind.directory ? node.id : node.parentId;
        return { ...(await namespace.list(id, signal, true)), kept: 0, leftOut: 0 };
      }
    } catch (error) {
      // A new version, or gone: that is what a refresh is for.
      const { code } = toEbbError(error);
      if (node.id === ROOT_NODE_ID || (code !== 'ESTALE' && code !== 'ENOENT')) throw error;
      const isGone = code === 'ENOENT' || this.#isGone(node);
      return { ...none, ...(isGone ? { gone: 1 } : { updated: 1 }) };
    }
    return none;
  }

  /** Nothing has its name any more. */
  #isGone({ parentId, name }: Node): boolean {
    return this.#parts.catalog.child(parentId, name) === undefined;
  }

  /** What a request names, itself: directories as such, and patterns of any kind. */
  async #entries(
    request: PathsRequest,
    listing: Listing,
    signal: AbortSignal,
  ): Promise<{ found: NamedNode[]; missing: Missing[] }> {
    const { paths } = this.#parts;
    const found = new Map<number, Located>();
    const missing: Missing[] = [];
    const attempt = async (path: string, look: () => Promise<void>): Promise<void> => {
      try {
        await look();
      } catch (thrown) {
        signal.throwIfAborted();
        missing.push({ path, error: toEbbError(thrown) });
      }
    };
    for (const path of request.paths) {
      await attempt(path, async () => {
        const node = await paths.findKnown(path, signal, listing);
        found.set(node.id, { path, node });
      });
    }
    for (const glob of request.globs ?? []) {
      await attempt(glob, async () => {
        for await (const one of paths.matching(glob, signal, listing)) found.set(one.node.id, one);
      });
    }
    return { found: [...found.values()].map(sized), missing };
  }

  async #files(
    request: PathsRequest,
    signal: AbortSignal,
  ): Promise<{ files: NamedNode[]; missing: Missing[] }> {
    const files: NamedNode[] = [];
    const missing: Missing[] = [];
    const miss = (path: string, thrown: unknown): void =>
      void missing.push({ path, error: toEbbError(thrown) });
    for await (const located of this.#parts.paths.files(request, signal, miss)) {
      files.push(sized(located));
    }
    return { files, missing };
  }

  #hasContent(node: Node): boolean {
    return factsOf(node, this.#parts.facts).residentBytes > 0;
  }

  async #get(file: Work, dryRun: boolean, signal: AbortSignal): Promise<Refusal | undefined> {
    const { recall } = this.#parts;
    const { residentBytes } = factsOf(file.node, this.#parts.facts);
    if (dryRun) {
      file.broughtBytes = file.sizeBytes - residentBytes;
      return undefined;
    }
    const { file: content, node } = await this.#prepare(file, signal);
    const hereBytes = node.id === file.node.id ? residentBytes : 0;
    await getContent(recall, content, file, hereBytes, signal);
    return undefined;
  }

  /** What the path means now: the version may have moved since the request's list was made. */
  async #prepare(file: Work, signal: AbortSignal): Promise<Prepared> {
    const { preparer, paths } = this.#parts;
    try {
      return await preparer.open(file.node.id, signal, daemonRequester());
    } catch (error) {
      if (toEbbError(error).code !== 'ESTALE') throw error;
      const { id } = await paths.find(file.path, signal);
      return await preparer.open(id, signal, daemonRequester());
    }
  }

  async #release(file: Work, dryRun: boolean, signal: AbortSignal): Promise<Refusal | undefined> {
    const outcome = await this.#parts.releaser.release(file.node.id, {
      dryRun,
      patient: true,
      signal,
    });
    if ('refused' in outcome) return new Refusal(outcome.code, outcome.refused);
    file.doneBytes = outcome.releasedBytes;
    return undefined;
  }

  async #verify(file: Work, dryRun: boolean, signal: AbortSignal): Promise<Refusal | undefined> {
    if (dryRun) return undefined;
    const content = this.#parts.storedContent(file.node.id);
    if (content === undefined) return undefined;
    await verifyContent(content, this.#parts.remote, file, signal);
    return undefined;
  }

  async *#setPinned(request: PathsRequest, pinned: boolean, signal: AbortSignal): Action {
    const { files, missing } = await this.#files(request, signal);
    return yield* runAction(files, {
      concurrencyMax: releaseConcurrencyMax,
      signal,
      missing,
      work: async (file) => {
        if (request.dryRun === true) return undefined;
        const { node } = await this.#prepare(file, signal);
        this.#parts.releaser.setPinned(node.id, pinned);
        return undefined;
      },
    });
  }
}
