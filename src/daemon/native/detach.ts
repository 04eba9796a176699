/** `ebb detach`: the tree is taken away and kept, or everything is recalled and it becomes an ordinary directory. */
import { StubChange } from '../../base/stub-facts.ts';
import { dissolveTree } from '../../attach/tree-layout.ts';
import { toEbbError } from '../../base/errors.ts';
import type { StubRecord } from '../../catalog/stub-catalog.ts';
import type { HideResult } from '../../supervisor/messages.ts';
import type { StubFile } from '../../tree/stubs/stub-store.ts';
import type { AttachProblem, DetachRequest, DetachResult } from '../api.ts';
import { runAction } from '../control/action-runner.ts';
import type { Action } from '../control/handlers.ts';
import { daemonRequester } from '../control/get.ts';
import { allStubs } from './stubs.ts';
import type { TreeParts } from './tree-parts.ts';

const recallConcurrencyMax = 8;
/** A file that is released or comes in while the others are recalled is recalled in the next pass. */
const passesMax = 4;
const problemsMax = 100;

/** Has the tree taken away; `thenMaxMs`: see SupervisorLink.stop. */
export type TakeAway = (lazy: boolean, thenMaxMs: number | undefined) => Promise<HideResult>;

interface Missing {
  readonly path: string;
  readonly id: number;
  readonly sizeBytes: number;
}

/** When it returns `kept` or `ordinary`, the process is to end. */
export async function* detachTree(
  parts: TreeParts,
  request: DetachRequest,
  takeAway: TakeAway,
  endMaxMs: number,
  signal: AbortSignal,
): Action<DetachResult> {
  if (!request.recall) {
    const { stubs, residentBytes } = parts.catalog.totals();
    const { stopped, holders } = await takeAway(false, endMaxMs);
    return stopped ? { outcome: 'kept', stubs, residentBytes } : { outcome: 'busy', holders };
  }
  using _hold = parts.space.hold();
  for (let pass = 0; pass < passesMax; pass += 1) {
    const missing = await missingStubs(parts);
    if (missing.length === 0) break;
    const problems = yield* recallAll(parts, missing, signal);
    if (problems.failed > 0) return { outcome: 'incomplete', ...problems };
  }
  const { stopped, holders } = await takeAway(false, undefined);
  if (!stopped) return { outcome: 'busy', holders };
  const sums = await makeOrdinary(parts);
  dissolveTree(parts.configuration.tree, parts.stateDirectory);
  return { outcome: 'ordinary', ...sums };
}

async function missingStubs({ catalog, store, server }: TreeParts): Promise<Missing[]> {
  const missing: Missing[] = [];
  await server.changesTakenIn();
  for (const page of allStubs(catalog)) {
    for (const record of page) {
      const file = store.get(record.id);
      if (file === undefined) continue;
      if (isUndecided(record)) await server.resolve(file);
      if (file.settled) continue;
      missing.push({ path: file.key, id: file.id, sizeBytes: file.sizeBytes });
    }
  }
  return missing;
}

function isUndecided({ change }: StubRecord): boolean {
  return change === StubChange.intent || change === StubChange.discarding;
}

async function* recallAll(
  parts: TreeParts,
  missing: readonly Missing[],
  signal: AbortSignal,
): AsyncGenerator<
  Parameters<typeof noteOutcome>[1],
  { readonly failed: number; readonly problems: readonly AttachProblem[] },
  void
> {
  const problems: AttachProblem[] = [];
  const running = runAction(missing, {
    concurrencyMax: recallConcurrencyMax,
    signal,
    work: async (work) => {
      const file = parts.store.get(work.id);
      if (file !== undefined) await recallWhole(parts, file, signal);
      work.doneBytes = work.sizeBytes;
      return undefined;
    },
  });
  for (;;) {
    const step = await running.next();
    if (step.done === true) return { failed: step.value.failed + step.value.refused, problems };
    noteOutcome(problems, step.value);
    yield step.value;
  }
}

function noteOutcome(
  problems: AttachProblem[],
  progress: Awaited<ReturnType<Action['next']>> extends infer Step
    ? Step extends { done?: false; value: infer Value }
      ? Value
      : never
    : never,
): void {
  const { outcome, path } = progress;
  if (outcome === undefined || outcome === 'ok' || problems.length >= problemsMax) return;
  problems.push({ path, error: outcome.error });
}

async function recallWhole(parts: TreeParts, file: StubFile, signal?: AbortSignal): Promise<void> {
  const requester = daemonRequester();
  await parts.recall.ensure(file, 0, file.sizeBytes, {
    intent: 'get',
    requester,
    ...(signal === undefined ? {} : { signal }),
  });
}

/** Nobody sees the tree any more. What users did in the last moment is taken in first. */
async function makeOrdinary(parts: TreeParts): Promise<{ files: number; bytes: number }> {
  const { catalog, store, server } = parts;
  const sums = { files: 0, bytes: 0 };
  await server.changesTakenIn();
  for (const page of allStubs(catalog)) {
    for (const { id, change } of page) {
      const file = store.get(id);
      if (file === undefined) continue;
      try {
        if (change === StubChange.intent || change === StubChange.discarding) {
          await server.resolve(file);
        }
        if (!file.settled) await recallWhole(parts, file);
        await store.unmark(file);
        sums.files += 1;
        sums.bytes += file.sizeBytes;
      } catch (error) {
        // Deleted by its user.
        if (toEbbError(error).code !== 'ESTALE') throw error;
        await store.forget([id]);
      }
      server.forget(id);
    }
  }
  return sums;
}
