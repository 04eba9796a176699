/**
 * The composition root of a tree's daemon: builds catalog, stubs, remote, recall, front end and control API in the
 * order in which they depend on each other; `teardown` takes them down in the reverse order.
 *
 * It answers events as early as possible: after a restart readers wait for it. Nothing before that asks the remote.
 */
import { StubChange } from '../../base/stub-facts.ts';
import { existsSync } from 'node:fs';
import { Populator } from '../../attach/populate.ts';
import { keepRemoteRoot, readRemoteRoot } from '../../attach/remote-root.ts';
import { beginEpoch, requireSameEpoch } from '../../attach/tree-epoch.ts';
import { readSecret, requireCatalog, stubCatalogPath } from '../../attach/tree-layout.ts';
import type { TreePlaces } from '../../attach/tree-layout.ts';
import { BoundedMap } from '../../base/bounded-map.ts';
import { systemClock } from '../../base/clock.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { runFiles } from '../../base/run-directory.ts';
import type { StubCatalog } from '../../catalog/stub-catalog.ts';
import { openSqliteStubCatalog } from '../../catalog/stubs-sqlite/catalog.ts';
import { consumedStepBytes } from '../../native/consumption.ts';
import type { NativePolicy } from '../../native/options.ts';
import { defaultNativePolicy } from '../../native/policy.ts';
import type { SiblingsOf } from '../../native/siblings.ts';
import type { ToMain } from '../../native/messages.ts';
import { NativeServer } from '../../native/server.ts';
import { sharedWord } from '../../native/shared-words.ts';
import { NativeThread } from '../../native/thread.ts';
import type { PreparedThread } from '../../base/prepared-thread.ts';
import { RecallEngine } from '../../recall/engine.ts';
import { Reachability } from '../../recall/namespace/reachability.ts';
import type { HideResult } from '../../supervisor/messages.ts';
import { aliveEveryMs } from '../../supervisor/watchdog.ts';
import { OpenFlag, openFd } from '../../sys/fd.ts';
import { NativeStubStore } from '../../tree/stubs/store.ts';
import type { DetachRequest, DetachResult, StopResult } from '../api.ts';
import type { AttachConfiguration } from '../attach-options.ts';
import type { Action } from '../control/handlers.ts';
import { RecallViews } from '../control/recall-views.ts';
import { startControlServer } from '../control/server.ts';
import { logFileWriter } from '../log-file.ts';
import { Logbook } from '../logbook.ts';
import { treeRecallLimits } from '../recall-limits.ts';
import { remoteIdentity } from '../options.ts';
import { openOrWait } from '../open-or-wait.ts';
import { remoteOptions } from '../remote-options.ts';
import { SpaceKeeper } from '../space-keeper.ts';
import type { Teardown } from '../teardown.ts';
import { packageVersion } from '../version.ts';
import { AccessTimes } from './access-times.ts';
import { detachTree } from './detach.ts';
import { bringNames, nothingNew } from './first-names.ts';
import type { AttachFacts } from './first-names.ts';
import { Handover } from './handover.ts';
import { Pulse } from './pulse.ts';
import { TreeRehearsal } from './rehearsal.ts';
import { treeHandlers } from './handlers/tree-handlers.ts';
import { StubReservoir, undecidedStubs } from './stubs.ts';
import type { InheritedDescriptors, Start, SupervisorLink } from './supervisor-link.ts';
import { TreeFiles } from './tree-files.ts';
import type { TreeParts } from './tree-parts.ts';
import { TreeWork } from './tree-work.ts';
import { openTreeTokens } from './tree-tokens.ts';
import { TreeReleaser } from './tree-releaser.ts';

/** Failed reads remembered for `ebb explain`. */
const readFailuresMax = 1_000;
/** Directories of the remote that are listed at a time. */
const parallelListings = 8;
/** What closing may take once the tree was taken away; then the supervisor kills this process, which harms nothing. */
export const endMaxMs = 30_000;

export interface Given {
  readonly start: Start;
  readonly configuration: AttachConfiguration;
  /** What src/daemon/native-prepare.ts said. */
  readonly prepared: TreePlaces;
  readonly inherited: InheritedDescriptors;
}

export interface Surroundings {
  readonly teardown: Teardown;
  readonly link: SupervisorLink;
  readonly thread: PreparedThread;
  readonly signal: AbortSignal;
  /** `dissolve` becomes false as soon as there are stubs. */
  readonly undo: { dissolve: boolean };
  readonly stop: (lazy: boolean) => Promise<StopResult>;
  /** The tree was taken away at our own wish: all is to end. */
  readonly takenAway: () => void;
}

/** Throws as `NativeProcess.start`; `teardown` then ends what was built. */
export async function buildTree(
  { start, configuration, prepared, inherited }: Given,
  { teardown, link, thread: preparedThread, signal, undo, stop, takenAway }: Surroundings,
): Promise<{ parts: TreeParts; facts: AttachFacts }> {
  const clock = systemClock;
  const { tree } = configuration;
  teardown.add('ending the thread that was prepared', () => preparedThread.end());
  const { stateDirectory } = prepared;
  const logbook = new Logbook(clock, configuration.logLevel, logFileWriter(runFiles(tree).log));
  const url = configuration.remote ?? prepared.remote;
  // A supervisor that goes on after another one did not ask whoever prepared the tree.
  if (remoteIdentity(url) !== prepared.remote) {
    throw ebbError('EEXIST', `the tree has another remote: ${prepared.remote}`);
  }
  const mayHaveMoved = configuration.remoteMoved && start.restarts === 0;
  const expectedRoot = mayHaveMoved ? undefined : readRemoteRoot(stateDirectory);
  const howToOpen = {
    ...remoteOptions({ ...configuration, remote: url }, logbook),
    expectedRoot,
    // No record of a tree that is not new: an older Ebb made it, or its state directory is an old copy.
    hadNames: expectedRoot === undefined && !prepared.isNew && !mayHaveMoved,
    onRoot: (root: string) => keepRemoteRoot(stateDirectory, root),
    otherRootHint: `If it has moved for good: ebb umount ${tree}, then ebb attach --remote-moved ${tree}.`,
  };
  let lateWhy: string | undefined;
  const remote = await openOrWait(howToOpen, {
    mustOpen: undo.dissolve || mayHaveMoved,
    displayName: prepared.remote,
    logbook,
    onLate: (why) => (lateWhy = why),
  });
  teardown.add('closing the remote', () => remote.close());
  requireCatalog(stateDirectory, tree);
  const catalogPath = stubCatalogPath(stateDirectory);
  const catalog = openSqliteStubCatalog(catalogPath);
  teardown.add('closing the catalog', () => catalog[Symbol.dispose]());
  using privateRoot = openFd(
    '.',
    OpenFlag.rdonly | OpenFlag.directory,
    0,
    inherited.privateMount.fd,
  );
  const ebbDirectory = `/proc/self/fd/${inherited.privateMount.fd}`;
  requireSameEpoch(catalog, ebbDirectory, tree);
  const nextEpoch = (): void => {
    try {
      // Nothing is there any more when it has become an ordinary directory.
      if (existsSync(catalogPath)) beginEpoch(catalog, ebbDirectory);
    } catch (error) {
      const { message } = toEbbError(error);
      logbook.log('warn', `copies of the catalog cannot be told apart: ${message}`);
    }
  };
  if (start.restarts === 0) nextEpoch();
  teardown.add('telling copies of the catalog apart', nextEpoch);
  const seal = { treeId: prepared.treeId, secret: readSecret(stateDirectory) };
  const store = new NativeStubStore({
    privateFd: privateRoot.fd,
    seal,
    records: catalog,
    whileLeased: () => server.turn.lease(),
    onProblem: ({ message, cause }) =>
      logbook.trouble(
        `trouble with files, ${cause?.code ?? 'changed past Ebb'}`,
        cause === undefined ? message : `${message} (${cause.message})`,
      ),
  });
  teardown.add('closing the stubs', () => store[Symbol.asyncDispose]());

  const accessTimes = new AccessTimes(catalog, (error) =>
    logbook.trouble('times of access', `times of access: ${toEbbError(error).message}`),
  );
  teardown.add('writing times of access', () => accessTimes[Symbol.dispose]());
  const readFailures = new BoundedMap<number, string>(readFailuresMax);
  const reachability = new Reachability(clock);
  const isBusy = (id: number): boolean => recall.isBusy(id);
  const space = new SpaceKeeper({
    limits: configuration,
    reservoir: new StubReservoir(store, catalog),
    logbook,
    isBusy: (id) => isBusy(id) || server.isBusy(id),
    monotonicMs: () => clock.monotonicMs(),
  });
  const recall: RecallEngine = new RecallEngine({
    remote,
    clock,
    limits: treeRecallLimits(configuration, remote),
    reserve: (...asked) => space.reserve(...asked),
    onStale: (file) => {
      // What users are changing refuses recalls, too, and that says nothing of the remote.
      if (store.get(file.id)?.change !== StubChange.clean) return;
      catalog.setLost(file.id, true);
      logbook.trouble(
        'files that went at the remote',
        `the remote has no longer what ${file.key} is here; ebb refresh looks again`,
      );
    },
    onEvent: ({ kind, flight, error }) => {
      if (kind === 'started') recallViews.began(flight.requester);
      if (kind === 'finished') reachability.answered(flight.contentId);
      if (kind !== 'failed' || error === undefined) return;
      if (error.retryable) reachability.failed(flight.contentId, error);
      const { key, offsetBytes, lengthBytes } = flight;
      logbook.trouble(
        `failed recalls, ${error.code}`,
        `recall of ${key} failed: ${error.message}`,
        {
          offsetBytes,
          lengthBytes,
        },
      );
    },
  });
  const recallViews = new RecallViews(recall, clock);

  const groups = {
    access: inherited.access.fd,
    open: inherited.open.fd,
    changes: inherited.changes.fd,
    changeJournal: inherited.changeJournal.fd,
  };
  const policy = policyOf(configuration);
  const server: NativeServer = new NativeServer({
    groups,
    post: (message) => thread.post(message),
    store,
    recall,
    policy,
    onAccesses: (accesses) => accessTimes.add(accesses),
    onStep: () => pulse.step(),
    onRescan: () => void settleChanges(parts),
    onProblem: ({ message, cause }) => {
      const error = cause === undefined ? undefined : toEbbError(cause);
      logbook.trouble(
        `trouble with requests, ${error?.code ?? 'without a cause'}`,
        error === undefined ? message : `${message} ${error.message}`,
      );
    },
    onReadEnded: (id, error) => {
      if (error === undefined) readFailures.delete(id);
      else readFailures.set(id, error.message);
    },
    expectRead: ({ key, version }) => remote.expect?.(key, version),
    siblingsOf: siblingsFinder(catalog, configuration),
    clock,
  });
  const threadSteps = sharedWord(server.pending, 'steps');
  const pulse: Pulse = new Pulse({
    everyMs: aliveEveryMs,
    threadSteps: () => Atomics.load(threadSteps, 0),
    wakeThread: () => thread.wake(),
    alive: () => link.alive(),
  });
  const rehearsal = new TreeRehearsal({
    remoteKind: remote.kind,
    privateFd: privateRoot.fd,
    ebbDirectory: prepared.ebbDirectory,
    groups,
    seal,
    pending: server.pending,
    post: (message) => thread.post(message),
    directory: runFiles(tree).scratch,
    logbook,
  });
  const threadOptions = {
    groups,
    treeId: prepared.treeId,
    catalogPath,
    pending: server.pending,
    consumedStepBytes: consumedStepBytes(configuration.readAheadMaxBytes),
    policy,
    hasPoison: store.hasPoison,
    onMessage: (message: ToMain) => void (rehearsal.takes(message) || server.take(message)),
  };
  const thread = await NativeThread.start(threadOptions, preparedThread);
  // The tree is out of reach by then, and nobody would find out later what users did to it last.
  teardown.add('recording what users changed', () => server.changesSettled());
  teardown.add('stopping the event thread', () => thread.stop());
  teardown.add('ending recalls', () => recall.close());
  // First: whoever waits is denied before anything that could serve him is gone.
  teardown.add('closing the front end', () => server.close());
  teardown.add('closing the space keeper', () => space.close());
  void thread.ended.catch((error: unknown) => {
    // Nobody answers any more: the supervisor denies what waits, and starts another one.
    logbook.log('error', `the event thread died: ${toEbbError(error).message}`);
    process.kill(process.pid, 'SIGKILL');
  });

  const releaser = new TreeReleaser({ store, server, remote, isBusy });
  space.start(releaser);
  const populator = new Populator({
    remote,
    store,
    catalog,
    defaults: {
      fileMode: configuration.fileMode,
      directoryMode: configuration.directoryMode,
      uid: configuration.uid,
      gid: configuration.gid,
    },
    parallel: Math.min(parallelListings, configuration.connections),
    nowMs: () => clock.nowMs(),
    usersRecorded: (id) => server.recorded(id),
    changesTakenIn: () => server.changesTakenIn(),
  });
  const parts: TreeParts = {
    version: packageVersion(),
    clock,
    start,
    configuration,
    stateDirectory,
    logbook,
    remote,
    catalog,
    store,
    recall,
    recallViews,
    server,
    releaser,
    space,
    populator,
    files: new TreeFiles(store.rootFd, catalog),
    work: new TreeWork(),
    facts: {
      residentBytes: (record) =>
        store.loaded(record.id)?.residency.residentBytes ?? record.residentBytes,
      isRecalling: (id) => recall.isBusy(id),
    },
    readFailures,
    remoteReachable: () => reachability.isReachable(),
    tokens: openTreeTokens({ stateDirectory, treeId: prepared.treeId, catalog, logbook }),
  };
  let facts: AttachFacts = nothingNew;
  if (start.restarts === 0) {
    // Nobody can see the tree yet. Later somebody may be waiting already.
    const rehearsed = rehearsal.play();
    try {
      facts = await bringNames({ populator, catalog, link, signal, remoteProblem: lateWhy });
    } finally {
      await rehearsed;
      // What came in stays, whatever else went wrong: the next attaching goes on with it.
      if (catalog.totals().stubs > 0) undo.dissolve = false;
    }
  }
  signal.throwIfAborted();
  const takeAway = (lazy: boolean, maxMs: number | undefined): Promise<HideResult> =>
    link.stop(lazy, maxMs);
  const handover = new Handover({ server, store, link });
  const control = await startControlServer(
    start.socketPath,
    treeHandlers(parts, {
      stop,
      restart: async () => {
        parts.work.requireOpen();
        await handover.run();
      },
      detach: (request, requestSignal) =>
        detach(parts, { request, takeAway, takenAway, signal: requestSignal }),
    }),
  );
  teardown.add('closing the control socket', () => control.close());
  teardown.add('saying that it lives', pulse.start());
  undo.dissolve = false;
  void settleChanges(parts);
  return { parts, facts };
}

async function* detach(
  parts: TreeParts,
  call: {
    readonly request: DetachRequest;
    readonly takeAway: (lazy: boolean, maxMs: number | undefined) => Promise<HideResult>;
    readonly takenAway: () => void;
    readonly signal: AbortSignal;
  },
): Action<DetachResult> {
  let taken = false;
  const takeAway = async (lazy: boolean, maxMs: number | undefined): Promise<HideResult> => {
    const result = await call.takeAway(lazy, maxMs);
    taken = result.stopped;
    return result;
  };
  try {
    return yield* detachTree(parts, call.request, takeAway, endMaxMs, call.signal);
  } finally {
    if (taken) call.takenAway();
  }
}

function policyOf(configuration: AttachConfiguration): NativePolicy {
  const { wholeFileMaxBytes, executableWholeMaxBytes, rules } = configuration;
  return {
    ...defaultNativePolicy,
    deadlineMs: configuration.deadlineMs,
    ...(wholeFileMaxBytes === undefined ? {} : { wholeFileMaxBytes }),
    ...(executableWholeMaxBytes === undefined ? {} : { executableWholeMaxBytes }),
    verdicts: [...rules, ...defaultNativePolicy.verdicts],
  };
}

/** Larger files are not brought before they are asked for: one chunk. */
const siblingMaxBytes = 256 * 1024;

/** Undefined where nothing is to be read ahead, or small files are not to come whole. */
function siblingsFinder(
  catalog: StubCatalog,
  { readAheadMaxBytes, wholeFileMaxBytes = siblingMaxBytes }: AttachConfiguration,
): SiblingsOf | undefined {
  const sizeMaxBytes = Math.min(siblingMaxBytes, wholeFileMaxBytes);
  if (readAheadMaxBytes === 0 || sizeMaxBytes === 0) return undefined;
  return {
    inDirectory: (of, limit) => catalog.siblings({ of, sizeMaxBytes, limit }),
    namesakes: (of, limit) => catalog.namesakes({ of, sizeMaxBytes, limit }),
  };
}

/** Finds out what became of files that somebody was let write to when the last daemon ended. */
async function settleChanges({ catalog, store, server, logbook }: TreeParts): Promise<void> {
  try {
    for (const page of undecidedStubs(catalog)) {
      for (const id of page) {
        const file = store.get(id);
        if (file !== undefined) await server.resolve(file);
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
  } catch (error) {
    logbook.log('warn', `looking at changed files: ${toEbbError(error).message}`);
  }
}
