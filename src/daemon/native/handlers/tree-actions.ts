/** The verbs of the control API that act on files of a tree: get, release, pin, unpin, verify, refresh. */
import { ebbError, toEbbError } from '../../../base/errors.ts';
import type { PathsRequest } from '../../api.ts';
import { Refusal } from '../../control/action-runner.ts';
import type { FileWork, Missing } from '../../control/action-runner.ts';
import { getConcurrencyMax, getContent } from '../../control/get.ts';
import type { Action } from '../../control/handlers.ts';
import { verifyContent } from '../../control/verify.ts';
import { releaseBatchMax } from '../../../tree/release.ts';
import { isManaged } from '../tree-facts.ts';
import type { TreeParts } from '../tree-parts.ts';

/** Files that are released together (tree-releaser.ts). */
const releaseConcurrencyMax = releaseBatchMax;
const verifyConcurrencyMax = 4;
const pinConcurrencyMax = 4;

/** A file that came from the remote. No more than this is kept of each of a million files. */
interface NamedStub {
  readonly path: string;
  readonly id: number;
  readonly sizeBytes: number;
}

type Work = FileWork<NamedStub>;

export class TreeActions {
  readonly #parts: TreeParts;

  constructor(parts: TreeParts) {
    this.#parts = parts;
  }

  async *get(request: PathsRequest, signal: AbortSignal): Action {
    const { stubs, missing } = await this.#stubs(request, signal);
    const result = yield* this.#parts.work.act(stubs, {
      concurrencyMax: getConcurrencyMax,
      signal,
      missing,
      work: (file, stop) => this.#get(file, request.dryRun === true, stop),
    });
    // Who asked for it counts on it from now on: also after a power cut.
    await this.#parts.store.flush();
    return result;
  }

  async *release(request: PathsRequest, signal: AbortSignal): Action {
    const { releaser } = this.#parts;
    const { stubs, missing } = await this.#stubs(request, signal, true);
    return yield* this.#parts.work.act(stubs, {
      concurrencyMax: releaseConcurrencyMax,
      signal,
      missing,
      work: async (file, stop) => {
        const dryRun = request.dryRun === true;
        const outcome = await releaser.release(file.id, { dryRun, patient: true, signal: stop });
        if ('refused' in outcome) return new Refusal(outcome.code, outcome.refused);
        file.doneBytes = outcome.releasedBytes;
        return undefined;
      },
    });
  }

  pin(request: PathsRequest, signal: AbortSignal): Action {
    return this.#setPinned(request, true, signal);
  }

  unpin(request: PathsRequest, signal: AbortSignal): Action {
    return this.#setPinned(request, false, signal);
  }

  async *verify(request: PathsRequest, signal: AbortSignal): Action {
    const { store, remote } = this.#parts;
    const { stubs, missing } = await this.#stubs(request, signal, true);
    return yield* this.#parts.work.act(stubs, {
      concurrencyMax: verifyConcurrencyMax,
      signal,
      missing,
      work: async (file, stop) => {
        const stub = store.get(file.id);
        if (request.dryRun !== true && stub !== undefined) {
          await verifyContent(stub, remote, file, stop);
        }
        return undefined;
      },
    });
  }

  async *#setPinned(request: PathsRequest, pinned: boolean, signal: AbortSignal): Action {
    const { store, server } = this.#parts;
    const { stubs, missing } = await this.#stubs(request, signal);
    return yield* this.#parts.work.act(stubs, {
      concurrencyMax: pinConcurrencyMax,
      signal,
      missing,
      work: (file) => {
        const stub = store.get(file.id);
        if (request.dryRun !== true && stub !== undefined) server.setPinned(stub, pinned);
        return Promise.resolve(undefined);
      },
    });
  }

  /** What a request names of what the remote has; the user's own files are nobody's business. */
  async #stubs(
    request: PathsRequest,
    signal: AbortSignal,
    residentOnly = false,
  ): Promise<{ stubs: NamedStub[]; missing: Missing[] }> {
    const { files, facts } = this.#parts;
    const stubs: NamedStub[] = [];
    const missing: Missing[] = [];
    const miss = (path: string, thrown: unknown): void =>
      void missing.push({ path, error: toEbbError(thrown) });
    for await (const { path, record } of files.files(request, signal, miss)) {
      if (!isManaged(record)) continue;
      if (residentOnly && facts.residentBytes(record) === 0) continue;
      stubs.push({ path, id: record.id, sizeBytes: record.sizeBytes });
    }
    return { stubs, missing };
  }

  async #get(file: Work, dryRun: boolean, signal: AbortSignal): Promise<Refusal | undefined> {
    const { recall, store } = this.#parts;
    const stub = store.get(file.id);
    if (stub === undefined) throw ebbError('ENOENT', `${file.path} was deleted`);
    const { residentBytes } = stub.residency;
    if (dryRun) {
      file.broughtBytes = file.sizeBytes - residentBytes;
      return undefined;
    }
    await getContent(recall, stub, file, residentBytes, signal);
    return undefined;
  }
}
