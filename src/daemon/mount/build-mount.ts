/**
 * The composition root of a mount's daemon: builds cache, catalog, remote, recall, front end and control API in the
 * order in which they depend on each other. No decisions of its own.
 */
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { BoundedMap } from '../../base/bounded-map.ts';
import { systemClock } from '../../base/clock.ts';
import { ensureRunDirectory, processStartTicks, runFiles } from '../../base/run-directory.ts';
import type { RunRecord } from '../../base/run-directory.ts';
import type { Connection } from '../../fuse/connection.ts';
import { FuseThreads } from '../../fuse/thread.ts';
import type { PreparedThread } from '../../base/prepared-thread.ts';
import type { ThreadSettings, ToMain } from '../../mount/messages.ts';
import { Namespace } from '../../recall/namespace/namespace.ts';
import { Capability, hasCapability, raiseOpenFilesLimit } from '../../sys/process.ts';
import type { HandleSecret } from '../../tree/handle-secret.ts';
import type { StopResult } from '../api.ts';
import { checkMountPoint, connectionOptions, mountIt, tuneReadAhead } from './attach.ts';
import { Contents } from './contents.ts';
import { startControlServer } from '../control/server.ts';
import { TokenDesk } from '../handles/token-desk.ts';
import { TokenSeal } from '../handles/token.ts';
import { controlHandlers } from './handlers/control-handlers.ts';
import { KernelNotices } from './kernel-notices.ts';
import { firstListing } from './first-listing.ts';
import { openOrWait } from '../open-or-wait.ts';
import { remoteOptions } from '../remote-options.ts';
import { Leftovers } from './leftovers.ts';
import { logFileWriter } from '../log-file.ts';
import { Logbook } from '../logbook.ts';
import type { Configuration } from '../options.ts';
import { remoteIdentity } from '../options.ts';
import type { DaemonParts } from './parts.ts';
import type { Start, SupervisorLink } from './supervisor-link.ts';
import { Paths } from './paths.ts';
import { threadModule } from './prepare-thread.ts';
import { rehearse } from './rehearsal.ts';
import { Releaser } from './releaser.ts';
import { makeServing } from './serving.ts';
import { sayAlive } from '../say-alive.ts';
import { SpaceKeeper } from '../space-keeper.ts';
import type { Teardown } from '../teardown.ts';
import { packageVersion } from '../version.ts';

const descriptorsWanted = 65_536;
/** Failed reads remembered for `ebb explain`. */
const readFailuresMax = 1_000;
/** Accesses of the FUSE thread are written to the catalog this often. */
const accessReportMs = 2_000;
/** A name cannot be told of while somebody waits for another one of its directory. */
const namesStallMaxMs = 5_000;

export interface Stack {
  readonly parts: DaemonParts;
  readonly connection: Connection;
  readonly threads: FuseThreads;
}

export interface Surroundings {
  readonly link: SupervisorLink;
  readonly start: Start;
  /** Made by `prepareThread`. */
  readonly thread: PreparedThread;
  /** Ends a start. */
  readonly signal: AbortSignal;
  /** Ends the process as a crash does. */
  readonly die: () => void;
}

export interface Ends {
  readonly teardown: Teardown;
  readonly stop: (lazy: boolean) => Promise<StopResult>;
  /** Once they take requests. */
  threads?: FuseThreads;
}

/**
 * Throws as `MountProcess.start`; `teardown` then ends what was built. What it does, in reverse: stops what asks, then
 * what works, then what remembers. The connection goes last: its descriptor's number must not mean something else
 * while answers are still written to it.
 */
export async function buildMount(
  configuration: Configuration,
  { link, start, thread, signal }: Surroundings,
  ends: Ends,
): Promise<Stack> {
  const { established } = start;
  const { teardown, stop } = ends;
  const clock = systemClock;
  const startedAtMs = clock.nowMs();
  const files = runFiles(configuration.mountPoint, ensureRunDirectory());
  const logbook = new Logbook(clock, configuration.logLevel, logFileWriter(files.log));
  // Who looked at a mount of his own would wait for himself.
  if (established === undefined) checkMountPoint(configuration.mountPoint);
  raiseOpenFilesLimit(descriptorsWanted);

  const mounted: { connection?: Connection; hasStarted: boolean } = { hasStarted: false };
  teardown.add('closing the connection', () => mounted.connection?.close());
  teardown.add('ending the thread', () => thread.end());
  let remoteRoot: string | undefined;
  const howToOpen = {
    ...remoteOptions(configuration, logbook),
    expectedRoot: established?.remoteRoot,
    onRoot: (root: string) => (remoteRoot = root),
    otherRootHint: 'If it has moved for good: ebb umount, then ebb mount.',
  };
  const remote = await openOrWait(howToOpen, {
    mustOpen: established === undefined,
    displayName: remoteIdentity(configuration.remote),
    logbook,
  });
  teardown.add('closing the remote', () => remote.close());
  const contents = await Contents.open(
    configuration.cacheDirectory,
    remoteIdentity(configuration.remote),
    ({ kind, message }) => logbook.trouble(`trouble with the cache, ${kind}`, message),
  );
  teardown.add('closing the cache', () => contents.close());
  const { catalog } = contents;
  const handleSecret = contents.handleSecret(configuration.newHandles && established === undefined);

  const readFailures = new BoundedMap<number, string>(readFailuresMax);
  const notices = new KernelNotices();
  const namespace = new Namespace({
    catalog,
    remote,
    clock,
    ttlMs: configuration.ttlMs,
    deadlineMs: configuration.deadlineMs,
    onChange: (change) => notices.changed(change),
    onProblem: (message, error) =>
      logbook.trouble(`trouble with listings, ${error.code}`, `${message}: ${error.message}`),
  });
  teardown.add('closing the namespace', () => namespace.close());
  if (established === undefined) {
    // The first listing is the proof that the remote is what the user said, before anything is mounted.
    // While the remote is far the rehearsal costs nothing.
    const rehearsal =
      remote.kind === 'http'
        ? rehearse({ thread, moduleUrl: threadModule, directory: files.scratch, logbook })
        : Promise.resolve();
    try {
      await firstListing(namespace, catalog, logbook, signal);
    } finally {
      await rehearsal;
    }
  }
  signal.throwIfAborted();

  const spoolDirectory = emptySpool(configuration.cacheDirectory);
  const inherited = established === undefined ? undefined : link.inherited(established);
  const connection =
    inherited?.connection ??
    (await mountIt(
      configuration,
      !configuration.unprivileged && hasCapability(Capability.sysAdmin),
    ));
  const privileged = connection.isPrivileged;
  mounted.connection = connection;
  teardown.add('unmounting', async () => {
    // Only after a failed start: what is mounted there once ours is over belongs to somebody else.
    if (!mounted.hasStarted) await connection.unmount({ lazy: true });
  });
  signal.throwIfAborted();
  const passthrough = configuration.passthrough && privileged;
  const settings = threadSettings(configuration, {
    link,
    start,
    contents,
    handleSecret,
    passthrough,
  });
  const { preparer, recall, server, isBusy, recallViews } = makeServing({
    configuration,
    clock,
    remote,
    contents,
    namespace,
    spoolDirectory,
    settings,
    deviceFileDescriptor: connection.fileDescriptor,
    threads: () => threads,
    reserve: (...asked) => space.reserve(...asked),
    onReadEnded: (nodeId, error) => {
      if (error === undefined) readFailures.delete(nodeId);
      else readFailures.set(nodeId, error.message);
    },
    logbook,
    teardown,
  });
  const space = new SpaceKeeper({
    limits: configuration,
    reservoir: contents,
    logbook,
    isBusy,
    monotonicMs: () => clock.monotonicMs(),
  });
  link.takingOver();
  const threads: FuseThreads = await FuseThreads.start({
    deviceFileDescriptor: connection.fileDescriptor,
    moduleUrl: threadModule,
    preparedThread: thread,
    ...(inherited === undefined ? {} : { established: inherited.info }),
    workerData: settings,
    options: connectionOptions(passthrough),
    onMessage: (message) => server.take(message as ToMain),
    onProblem: (problem) => logbook.log('error', `FUSE ${problem.operation}: ${problem.message}`),
  });
  ends.threads = threads;
  teardown.add('stopping the FUSE thread', () => threads.stop());
  teardown.add('closing the space keeper', () => space.close());
  // Before the space keeper: it may be waiting for the thread.
  teardown.add('closing the front end', () => {
    notices.disconnect();
    server.close();
  });
  notices.connect(connection.fileDescriptor, (message, wake) =>
    wake ? server.tell(message) : server.tellQuietly(message),
  );
  const info = await threads.connected;
  signal.throwIfAborted();
  if (inherited === undefined) {
    link.mounted(connection, info, remoteRoot);
    if (privileged) tuneReadAhead(connection, logbook);
  }

  const releaser = new Releaser({
    contents,
    catalog,
    server,
    isBusy,
    remote,
    onReleased: (id) => notices.released(id),
  });
  space.start(releaser);
  const accessTimer = setInterval(() => server.tell({ kind: 'reportAccesses' }), accessReportMs);
  accessTimer.unref();
  teardown.add('stopping the timer', () => clearInterval(accessTimer));
  const leftovers = new Leftovers({ contents, logbook, startedAtMs });
  teardown.add('ending the search for leftovers', () => leftovers.close());

  const run: RunRecord = {
    pid: start.supervisorPid,
    startTicks: processStartTicks(start.supervisorPid) ?? 0,
    mountPoint: configuration.mountPoint,
    remote: remote.displayName,
    cacheDirectory: configuration.cacheDirectory,
    socketPath: files.socket,
  };
  const parts: DaemonParts = {
    version: packageVersion(),
    startedAtMs: start.startedAtMs,
    restarts: start.restarts,
    clock,
    configuration,
    run,
    logbook,
    remote,
    catalog,
    namespace,
    preparer,
    recall,
    releaser,
    server,
    paths: new Paths(catalog, namespace),
    facts: { catalog, recall, loadedContent: (id) => contents.get(id), defaults: settings },
    mount: {
      passthrough,
      privileged,
      openFiles: () => Atomics.load(new Int32Array(settings.openCount), 0),
      handlesRefused: () => Atomics.load(new Int32Array(settings.staleHandles), 0),
    },
    tokens: new TokenDesk(
      new TokenSeal(contents.store.identity.treeId, handleSecret.tokenKey),
      catalog,
    ),
    settle: () => contents.flush(),
    namesTold: () => notices.told(namesStallMaxMs),
    storedContent: (nodeId) => contents.get(nodeId),
    readFailures,
    recallViews,
  };
  const restart = async (): Promise<void> => {
    await contents.flush();
    // After the answer.
    setImmediate(() => link.restart());
  };
  const control = await startControlServer(run.socketPath, controlHandlers(parts, stop, restart));
  teardown.add('closing the control socket', () => control.close());
  const { mountPoint } = run;
  if (inherited !== undefined) {
    const openFiles = parts.mount.openFiles();
    logbook.log('info', `took over ${mountPoint}`, { openFiles, restarts: start.restarts });
  } else logbook.log('info', `mounted ${run.remote} on ${mountPoint}`, { passthrough, privileged });
  mounted.hasStarted = true;
  const saying = sayAlive(
    () => server.turn(),
    () => link.alive(),
  );
  teardown.add('saying that it lives', saying);
  return { parts, connection, threads };
}

/** What is in it belonged to requests of a daemon that is gone. */
function emptySpool(cacheDirectory: string): string {
  const spoolDirectory = path.join(cacheDirectory, 'spool');
  rmSync(spoolDirectory, { recursive: true, force: true });
  mkdirSync(spoolDirectory, { mode: 0o700 });
  return spoolDirectory;
}

interface OfThread {
  readonly link: SupervisorLink;
  readonly start: Start;
  readonly contents: Contents;
  readonly handleSecret: HandleSecret;
  readonly passthrough: boolean;
}

/** What the FUSE thread is told when it starts. */
function threadSettings(
  configuration: Configuration,
  { link, start, contents, handleSecret, passthrough }: OfThread,
): ThreadSettings {
  return {
    openCount: new SharedArrayBuffer(4),
    staleHandles: new SharedArrayBuffer(4),
    generationKey: handleSecret.generationKey,
    catalogPath: contents.catalogPath,
    cacheDirectory: configuration.cacheDirectory,
    ttlMs: configuration.ttlMs,
    fileMode: configuration.fileMode,
    directoryMode: configuration.directoryMode,
    uid: configuration.uid ?? process.getuid?.() ?? 0,
    gid: configuration.gid ?? process.getgid?.() ?? 0,
    passthrough,
    handleTable: link.handles.fd,
    scanLog: link.scans.fd,
    requestJournal: link.requests(start)?.fd,
    predecessorFailed: start.predecessorFailed ?? false,
    predecessors: start.restarts,
    startedAtSeconds: Math.floor(start.startedAtMs / 1_000),
  };
}
