/** The verbs of the control API that act on files: get, release, pin, unpin, verify, refresh. */
import { toEbbError } from '../../base/errors.ts';
import { NodeKind } from '../../catalog/catalog.ts';
import type { Node } from '../../catalog/catalog.ts';
import type { Prepared } from '../../recall/namespace/prepare.ts';
import type { Requester } from '../../recall/recall.ts';
import type { ActionResult, PathsRequest } from '../api.ts';
import type { Action } from '../control/handlers.ts';
import type { DaemonParts } from '../parts.ts';
import type { Located } from '../paths.ts';
import { Refusal, runAction } from './action-runner.ts';
import type { FileWork } from './action-runner.ts';
import { factsOf } from './facts.ts';
import { verifyContent } from './verify.ts';

const getConcurrencyMax = 8;
const releaseConcurrencyMax = 4;
/** `get` asks for this much of a file at a time, so that progress is seen and other readers get their turn. */
const getStepBytes = 32 * 1024 * 1024;

export class Actions {
  readonly #parts: DaemonParts;

  constructor(parts: DaemonParts) {
    this.#parts = parts;
  }

  async *get(request: PathsRequest, signal: AbortSignal): Action {
    const files = await this.#files(request, signal);
    return yield* runAction(files, {
      concurrencyMax: getConcurrencyMax,
      signal,
      work: (file) => this.#get(file, request.dryRun === true, signal),
    });
  }

  async *release(request: PathsRequest, signal: AbortSignal): Action {
    const files = (await this.#files(request, signal)).filter(({ node }) => this.#hasContent(node));
    return yield* runAction(files, {
      concurrencyMax: releaseConcurrencyMax,
      signal,
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
    const files = (await this.#files(request, signal)).filter(({ node }) => this.#hasContent(node));
    return yield* runAction(files, {
      concurrencyMax: releaseConcurrencyMax,
      signal,
      work: (file) => this.#verify(file, request.dryRun === true, signal),
    });
  }

  async refresh(request: PathsRequest, signal: AbortSignal): Promise<ActionResult> {
    const { paths, namespace } = this.#parts;
    let ok = 0;
    let failed = 0;
    for (const path of request.paths) {
      try {
        const node = await paths.find(path, signal);
        if (node.kind === NodeKind.directory) await namespace.list(node.id, signal, true);
        else if (node.kind === NodeKind.file) await this.#recheck(node, signal);
        ok += 1;
      } catch (error) {
        signal.throwIfAborted();
        this.#parts.logbook.log('warn', `refresh of ${path}: ${toEbbError(error).message}`);
        failed += 1;
      }
    }
    return { ok, failed, refused: 0, bytes: 0 };
  }

  async #recheck(node: Node, signal: AbortSignal): Promise<void> {
    try {
      await this.#parts.namespace.revalidate(node.id, signal, true);
    } catch (error) {
      // A new version, or gone: that is what a refresh is for.
      const { code } = toEbbError(error);
      if (code !== 'ESTALE' && code !== 'ENOENT') throw error;
    }
  }

  async #files(request: PathsRequest, signal: AbortSignal): Promise<Located[]> {
    const found: Located[] = [];
    for await (const located of this.#parts.paths.files(request, signal)) found.push(located);
    return found;
  }

  #hasContent(node: Node): boolean {
    return factsOf(node, this.#parts.facts).residentBytes > 0;
  }

  async #get(file: FileWork, dryRun: boolean, signal: AbortSignal): Promise<Refusal | undefined> {
    const { recall } = this.#parts;
    if (dryRun) {
      file.doneBytes = file.sizeBytes - factsOf(file.node, this.#parts.facts).residentBytes;
      return undefined;
    }
    const { file: content } = await this.#prepare(file, signal);
    for (let offset = 0; offset < content.sizeBytes; offset += getStepBytes) {
      const length = Math.min(getStepBytes, content.sizeBytes - offset);
      await recall.ensure(content, offset, length, {
        intent: 'get',
        requester: thisProcess(),
        signal,
      });
      file.doneBytes = offset + length;
    }
    return undefined;
  }

  /** What the path means now: the version may have moved since the request's list was made. */
  async #prepare(file: FileWork, signal: AbortSignal): Promise<Prepared> {
    const { preparer, paths } = this.#parts;
    try {
      return await preparer.open(file.node.id, signal, thisProcess());
    } catch (error) {
      if (toEbbError(error).code !== 'ESTALE') throw error;
      const { id } = await paths.find(file.path, signal);
      return await preparer.open(id, signal, thisProcess());
    }
  }

  async #release(
    file: FileWork,
    dryRun: boolean,
    signal: AbortSignal,
  ): Promise<Refusal | undefined> {
    const outcome = await this.#parts.releaser.release(file.node.id, { dryRun, signal });
    if ('refused' in outcome) return new Refusal(outcome.code, outcome.refused);
    file.doneBytes = outcome.releasedBytes;
    return undefined;
  }

  async #verify(
    file: FileWork,
    dryRun: boolean,
    signal: AbortSignal,
  ): Promise<Refusal | undefined> {
    if (dryRun) return undefined;
    const content = this.#parts.storedContent(file.node.id);
    if (content === undefined) return undefined;
    await verifyContent(content, this.#parts.remote, file, signal);
    return undefined;
  }

  async *#setPinned(request: PathsRequest, pinned: boolean, signal: AbortSignal): Action {
    const files = await this.#files(request, signal);
    return yield* runAction(files, {
      concurrencyMax: releaseConcurrencyMax,
      signal,
      work: async (file) => {
        if (request.dryRun === true) return undefined;
        const { node } = await this.#prepare(file, signal);
        this.#parts.releaser.setPinned(node.id, pinned);
        return undefined;
      },
    });
  }
}

function thisProcess(): Requester {
  return { pid: process.pid, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
}
