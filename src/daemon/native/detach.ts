/** `ebb detach`: the tree is taken away and kept, or everything is recalled and it becomes an ordinary directory. */
import { StubChange } from '../../base/stub-facts.ts';
import { dissolveTree, hasOwnName, ownNameProblem } from '../../attach/tree-layout.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import type { StubRecord } from '../../catalog/stub-catalog.ts';
import type { HideResult } from '../../supervisor/messages.ts';
import type { StubFile, StubStore } from '../../tree/stubs/stub-store.ts';
import type { DetachRequest, DetachResult } from '../api.ts';
import type { AttachProblem } from '../start-api.ts';
import { runAction } from '../control/action-runner.ts';
import type { Action } from '../control/handlers.ts';
import { daemonRequester } from '../control/get.ts';
import { adoptStrays } from './stray-stubs.ts';
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
  // Whatever makes stubs or frees their content has ended, and begins again only when the tree stays attached.
  using _idle = await parts.work.close();
  using _paused = await parts.populator.pause(signal);
  using _hold = await parts.space.hold();
  const inTheWay = hasOwnName(`/proc/self/fd/${parts.store.rootFd}`)
    ? [{ path: '.ebb', error: ownNameProblem }]
    : [];
  const { problems: strays } = await adoptStrays(parts);
  const unsolved = [...inTheWay, ...strays];
  if (unsolved.length > 0) {
    const problems = unsolved.slice(0, problemsMax);
    return { outcome: 'incomplete', failed: unsolved.length, problems };
  }
  for (let pass = 0; pass < passesMax; pass += 1) {
    const missing = await missingStubs(parts);
    if (missing.length === 0) break;
    const problems = yield* recallAll(parts, missing, signal);
    if (problems.failed > 0) return { outcome: 'incomplete', ...problems };
  }
  const { stopped, holders } = await takeAway(false, undefined);
  if (!stopped) return { outcome: 'busy', holders };
  try {
    return { outcome: 'ordinary', ...(await dissolve(parts)) };
  } catch (thrown) {
    const { code, message } = toEbbError(thrown);
    const { tree } = parts.configuration;
    const how = `All is kept as it is, hidden; ebb attach ${tree} shows it again`;
    throw ebbError(code, `${message}. ${how}`, { cause: thrown });
  }
}

/** Nobody sees the tree any more. */
async function dissolve(parts: TreeParts): Promise<{ files: number; bytes: number }> {
  const { store, stateDirectory, configuration } = parts;
  const { tree } = configuration;
  const sums = { files: 0, bytes: 0 };
  for (let pass = 0; ; pass += 1) {
    const made = await makeOrdinary(parts);
    sums.files += made.files;
    sums.bytes += made.bytes;
    try {
      await dissolveTree(tree, { treeId: store.seal.treeId, stateDirectory });
      return sums;
    } catch (error) {
      // A user moved a stub that has no record while others were looked at.
      const isStray = toEbbError(error).code === 'EBUSY' && pass === 0;
      if (!isStray || (await adoptStrays(parts)).adopted === 0) throw error;
    }
  }
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

function isUndecided({ change }: Pick<StubRecord, 'change'>): boolean {
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

async function recallWhole(
  parts: Pick<TreeParts, 'recall'>,
  file: StubFile,
  signal?: AbortSignal,
): Promise<void> {
  const requester = daemonRequester();
  await parts.recall.ensure(file, 0, file.sizeBytes, {
    intent: 'get',
    requester,
    ...(signal === undefined ? {} : { signal }),
  });
}

/**
 * Takes all marks off, with what users did in the last moment taken in first. Nobody sees the tree, and nobody is at
 * work in it. Throws what a recall does: the tree is as it was, but for the files that are done.
 */
export async function makeOrdinary(
  parts: Pick<TreeParts, 'catalog' | 'server' | 'recall'> & { readonly store: StubStore },
): Promise<{ files: number; bytes: number }> {
  const { catalog, store, server } = parts;
  const sums = { files: 0, bytes: 0 };
  await server.changesTakenIn();
  for (const page of allStubs(catalog)) {
    for (const { id } of page) {
      const file = store.get(id);
      if (file === undefined) continue;
      try {
        // What is being recorded of it may be that it is a user's.
        if (server.isBusy(id)) await server.recorded(id);
        if (isUndecided(file)) await server.resolve(file);
        if (!file.settled) await recallWhole(parts, file);
        await store.unmark(file);
        sums.files += 1;
        sums.bytes += file.sizeBytes;
      } catch (error) {
        // Deleted by its user? ESTALE says the same of a version that the remote has no more.
        if (store.changedAt(file) !== undefined) throw error;
        await store.forget([id]);
      }
      server.forget(id);
    }
  }
  return sums;
}
