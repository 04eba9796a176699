/**
 * The composition root of a mount: builds tree, catalog, remote, recall, front end and control API, in the order in
 * which they depend on each other, and takes them down in the reverse order. No decisions of its own.
 */
import { mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { systemClock } from '../base/clock.ts';
import { Errno } from '../base/errno.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { findMountHolders } from '../base/mount-holders.ts';
import {
  ensureRunDirectory,
  processStartTicks,
  removeRunRecord,
  runFiles,
  writeRunRecord,
} from '../base/run-directory.ts';
import type { RunRecord } from '../base/run-directory.ts';
import { ROOT_NODE_ID } from '../catalog/catalog.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { mountPrivileged, mountUnprivileged } from '../fuse/connection.ts';
import type { Connection } from '../fuse/connection.ts';
import { deviceTransport } from '../fuse/device.ts';
import { Replier } from '../fuse/replier.ts';
import { FuseThreads } from '../fuse/thread.ts';
import type { ThreadSettings, ToMain } from '../mount/messages.ts';
import { MountServer } from '../mount/server.ts';
import { RecallEngine } from '../recall/engine.ts';
import { Namespace } from '../recall/namespace/namespace.ts';
import { Preparer } from '../recall/namespace/prepare.ts';
import { WholeFetch } from '../recall/namespace/whole-fetch.ts';
import { openRemote } from '../remote/open-remote.ts';
import { Capability, hasCapability, raiseOpenFilesLimit } from '../sys/process.ts';
import type { StopResult } from './api.ts';
import { Contents } from './contents.ts';
import { startControlServer } from './control/server.ts';
import type { ControlServer } from './control/server.ts';
import { controlHandlers } from './handlers/control-handlers.ts';
import { KernelNotices } from './kernel-notices.ts';
import { Logbook } from './logbook.ts';
import type { Configuration } from './options.ts';
import { remoteIdentity } from './options.ts';
import type { DaemonParts } from './parts.ts';
import { Paths } from './paths.ts';
import { Prefetcher } from './prefetcher.ts';
import { Releaser } from './releaser.ts';
import { SpaceKeeper } from './space-keeper.ts';

const descriptorsWanted = 65_536;
/** READs and kernel read-ahead: sequential readers come in steps of this. */
const kernelReadAheadBytes = 4 * 1024 * 1024;
const requestBytesMax = 1024 * 1024;
/** Failed reads remembered for `ebb explain`. */
const readFailuresMax = 1_000;
/** Accesses of the FUSE thread are written to the catalog this often. */
const accessReportMs = 2_000;

interface Stack {
  readonly parts: DaemonParts;
  readonly connection: Connection;
  readonly threads: FuseThreads;
  readonly control: ControlServer;
  readonly close: () => Promise<void>;
}

export class MountProcess {
  readonly run: RunRecord;
  /** Resolves when the file system is unmounted and everything is closed. */
  readonly ended: Promise<void>;
  readonly #stack: Stack;
  #stopping: Promise<StopResult> | undefined;

  private constructor(stack: Stack) {
    this.#stack = stack;
    this.run = stack.parts.run;
    this.ended = this.#live();
  }

  /** Throws EbbError with a sentence for the user; leaves nothing mounted, locked or running then. */
  static async start(configuration: Configuration): Promise<MountProcess> {
    const undo: (() => void | Promise<void>)[] = [];
    const self: { process?: MountProcess } = {};
    const stop = async (lazy: boolean): Promise<StopResult> => {
      if (self.process === undefined) throw ebbError('EAGAIN', 'the mount is still starting');
      return await self.process.stop(lazy);
    };
    try {
      self.process = new MountProcess(await build(configuration, undo, stop));
      return self.process;
    } catch (error) {
      for (const step of undo.reverse()) await Promise.resolve(step()).catch(() => undefined);
      throw error;
    }
  }

  counts(): { files: number; directories: number } {
    const { files, directories } = this.#stack.parts.catalog.totals(ROOT_NODE_ID);
    return { files, directories };
  }

  /** Unmounts. Busy and not lazy: nothing happens, and the holders are named. */
  async stop(lazy: boolean): Promise<StopResult> {
    this.#stopping ??= this.#unmount(lazy).finally(() => {
      this.#stopping = undefined;
    });
    return await this.#stopping;
  }

  async #unmount(lazy: boolean): Promise<StopResult> {
    const { connection, parts } = this.#stack;
    try {
      await connection.unmount({ lazy });
      return { stopped: true, holders: [] };
    } catch (thrown) {
      const error = toEbbError(thrown);
      // Somebody else unmounted it already.
      if (error.code === 'EINVAL') return { stopped: true, holders: [] };
      if (error.code !== 'EBUSY') throw error;
      const holders = await findMountHolders(parts.run.mountPoint);
      return { stopped: false, holders };
    }
  }

  async #live(): Promise<void> {
    const { threads, parts } = this.#stack;
    try {
      const end = await threads.ended;
      parts.logbook.log('info', `the FUSE connection ended: ${JSON.stringify(end)}`);
    } catch (error) {
      parts.logbook.log('error', `the FUSE thread died: ${toEbbError(error).message}`);
    }
    await this.#stack.close();
  }
}

type Undo = (() => void | Promise<void>)[];
type Stop = (lazy: boolean) => Promise<StopResult>;

async function build(configuration: Configuration, undo: Undo, stop: Stop): Promise<Stack> {
  const clock = systemClock;
  const startedAtMs = clock.nowMs();
  const logbook = new Logbook(clock, configuration.logLevel, (line) => process.stderr.write(line));
  checkMountPoint(configuration.mountPoint);
  raiseOpenFilesLimit(descriptorsWanted);

  const remote = await openRemote(remoteOptions(configuration, logbook));
  undo.push(() => remote.close());
  const contents = await Contents.open(
    configuration.cacheDirectory,
    remoteIdentity(configuration.remote),
    (problem) => logbook.log('warn', problem.message),
  );
  undo.push(() => contents.close());
  const { catalog } = contents;

  const readFailures = new BoundedMap<number, string>(readFailuresMax);
  const notices = new KernelNotices();
  const namespace = new Namespace({
    catalog,
    remote,
    clock,
    ttlMs: configuration.ttlMs,
    deadlineMs: configuration.deadlineMs,
    onChange: (change) => notices.changed(change),
    onProblem: (message, error) => logbook.log('warn', `${message}: ${error.message}`),
  });
  undo.push(() => namespace.close());
  // The first listing is the proof that the remote is what the user said, before anything is mounted.
  await firstListing(namespace, catalog, logbook);

  const counters = { wholeFetchedBytes: 0 };
  const spoolDirectory = path.join(configuration.cacheDirectory, 'spool');
  rmSync(spoolDirectory, { recursive: true, force: true });
  mkdirSync(spoolDirectory, { mode: 0o700 });
  const wholeFetch = new WholeFetch({
    namespace,
    remote,
    clock,
    spoolDirectory,
    deadlineMs: configuration.deadlineMs,
    contentOf: (node, key) => contents.contentOf(node, key),
    onFetched: (bytes) => {
      counters.wholeFetchedBytes += bytes;
    },
  });
  undo.push(() => wholeFetch.settled());
  const preparer = new Preparer(namespace, wholeFetch, contents);

  const space = new SpaceKeeper({
    limits: configuration,
    catalog,
    contents,
    logbook,
    isBusy: (id) => recall.isBusy(id),
    nowMs: () => clock.nowMs(),
  });
  const recall: RecallEngine = new RecallEngine({
    remote,
    clock,
    limits: {
      deadlineMs: configuration.deadlineMs,
      parallelRequestsMax: configuration.connections,
      readAheadMaxBytes: configuration.readAheadMaxBytes,
    },
    reserve: (bytes) => space.reserve(bytes),
    onStale: (file) => void namespace.revalidate(file.id, undefined, true).catch(() => undefined),
    onEvent: (event) => {
      if (event.kind !== 'failed') return;
      const { key, offsetBytes, lengthBytes } = event.flight;
      logbook.log('warn', `recall of ${key} failed: ${event.error?.message ?? 'unknown'}`, {
        offsetBytes,
        lengthBytes,
      });
    },
  });
  undo.push(() => recall.close());

  const privileged = !configuration.unprivileged && hasCapability(Capability.sysAdmin);
  const connection = await mountIt(configuration, privileged);
  undo.push(() => connection.close());
  undo.push(() => connection.unmount({ lazy: true }).catch(() => undefined));
  const transport = deviceTransport(connection.fileDescriptor);
  const replier = new Replier(transport, requestBytesMax);

  const prefetcher = new Prefetcher({ namespace, preparer, wholeFetch, recall, catalog });
  const server: MountServer = new MountServer({
    post: (message) => threads.post(message),
    namespace,
    preparer,
    recall,
    contentOf: (nodeId) => contents.get(nodeId),
    openLocal: ({ node, file }) => contents.openLocal(node, file.key),
    answers: {
      error: (call, errno) => replier.error(call, errno),
      dataFromContent: (call, { id }, offset, sizeBytes) => {
        const content = contents.get(id);
        if (content === undefined) return replier.error(call, Errno.ESTALE);
        using use = content.useDescriptor();
        return replier.dataFromFile(call, use.fd, offset, sizeBytes, sizeBytes);
      },
    },
    onAccesses: (accesses) => catalog.touch(new Map(accesses)),
    onPrefetch: (message) => prefetcher.take(message),
    onReadFailed: (nodeId, error) => readFailures.set(nodeId, error.message),
  });
  const passthrough = configuration.passthrough && privileged;
  const settings: ThreadSettings = {
    catalogPath: contents.catalogPath,
    cacheDirectory: configuration.cacheDirectory,
    ttlMs: configuration.ttlMs,
    fileMode: configuration.fileMode,
    directoryMode: configuration.directoryMode,
    uid: configuration.uid ?? process.getuid?.() ?? 0,
    gid: configuration.gid ?? process.getgid?.() ?? 0,
    passthrough,
    startedAtSeconds: Math.floor(startedAtMs / 1_000),
  };
  const threads = await FuseThreads.start({
    deviceFileDescriptor: connection.fileDescriptor,
    moduleUrl: new URL('../mount/thread.ts', import.meta.url),
    workerData: settings,
    options: {
      passthrough,
      dataInvalidation: 'explicit',
      cacheSymlinks: true,
      maxWriteBytes: requestBytesMax,
      maxReadaheadBytes: kernelReadAheadBytes,
    },
    onMessage: (message) => server.take(message as ToMain),
    onProblem: (problem) => logbook.log('error', `FUSE ${problem.operation}: ${problem.message}`),
  });
  undo.push(() => threads.stop().then(() => undefined));
  await threads.connected;
  notices.connect(connection.fileDescriptor, (message) => server.tell(message));
  if (privileged) tuneReadAhead(connection, logbook);

  const releaser = new Releaser({ contents, catalog, server, recall, remote });
  space.start(releaser);
  const accessTimer = setInterval(() => server.tell({ kind: 'reportAccesses' }), accessReportMs);
  accessTimer.unref();
  undo.push(() => clearInterval(accessTimer));

  const files = runFiles(configuration.mountPoint, ensureRunDirectory());
  const run: RunRecord = {
    pid: process.pid,
    startTicks: processStartTicks(process.pid) ?? 0,
    mountPoint: configuration.mountPoint,
    remote: remote.displayName,
    cacheDirectory: configuration.cacheDirectory,
    socketPath: files.socket,
  };
  const facts = {
    catalog,
    recall,
    loadedContent: (id: number) => contents.get(id),
    defaults: settings,
  };
  const parts: DaemonParts = {
    version: packageVersion(),
    startedAtMs,
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
    facts,
    mount: { passthrough, privileged, openFiles: () => 0 },
    storedContent: (nodeId) => contents.get(nodeId),
    readFailures,
    wholeFetchedBytes: () => counters.wholeFetchedBytes,
  };
  const control = await startControlServer(run.socketPath, controlHandlers(parts, stop));
  writeRunRecord(run);
  logbook.log('info', `mounted ${run.remote} on ${run.mountPoint}`, { passthrough, privileged });

  /** After the connection ended: stop what asks, then what works, then what remembers. */
  const close = async (): Promise<void> => {
    clearInterval(accessTimer);
    removeRunRecord(run.mountPoint);
    await control.close();
    server.close();
    await space.close();
    await prefetcher.close();
    await recall.close();
    await namespace.close();
    await wholeFetch.settled();
    await contents.close();
    await remote.close();
    connection.close();
  };
  return { parts, connection, threads, control, close };
}

/** Mount points are checked before the kernel does, for the sentence. */
function checkMountPoint(mountPoint: string): void {
  let isDirectory: boolean;
  try {
    isDirectory = statSync(mountPoint).isDirectory();
  } catch (thrown) {
    const error = toEbbError(thrown);
    if (error.code === 'ENOTCONN') {
      const why = `${mountPoint} is a mount whose daemon is gone: run ebb umount ${mountPoint} first`;
      throw ebbError('EBUSY', why, { cause: thrown, retryable: false });
    }
    throw ebbError(error.code, `the mount point ${mountPoint} cannot be used: ${error.message}`);
  }
  if (!isDirectory) throw ebbError('ENOTDIR', `the mount point ${mountPoint} is not a directory`);
}

function remoteOptions(
  configuration: Configuration,
  logbook: Logbook,
): Parameters<typeof openRemote>[0] {
  const { remote, retries, ...rest } = configuration;
  return {
    ...rest,
    url: remote,
    retries,
    onRetry: (message: string) => logbook.log('info', message),
  };
}

async function firstListing(
  namespace: Namespace,
  catalog: Catalog,
  logbook: Logbook,
): Promise<void> {
  try {
    await namespace.list(ROOT_NODE_ID);
  } catch (thrown) {
    const error: EbbError = toEbbError(thrown);
    const known = catalog.node(ROOT_NODE_ID)?.listedAtMs ?? 0;
    const mayServeKnown = known > 0 && error.retryable;
    if (!mayServeKnown) throw error;
    logbook.log('warn', `the remote cannot be reached, serving what is known: ${error.message}`);
  }
}

async function mountIt(configuration: Configuration, privileged: boolean): Promise<Connection> {
  const options = {
    mountPoint: configuration.mountPoint,
    fsname: remoteIdentity(configuration.remote),
    subtype: 'ebb',
    allowOther: configuration.allowOther ?? privileged,
    defaultPermissions: true,
    readOnly: true,
  };
  return privileged ? mountPrivileged(options) : await mountUnprivileged(options);
}

function tuneReadAhead(connection: Connection, logbook: Logbook): void {
  try {
    connection.setReadAhead(kernelReadAheadBytes);
  } catch (error) {
    logbook.log('warn', `the kernel's read-ahead stays small: ${toEbbError(error).message}`);
  }
}

function packageVersion(): string {
  const file = path.join(import.meta.dirname, '..', '..', 'package.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

/** A Map that forgets its oldest entries. */
class BoundedMap<Key, Value> extends Map<Key, Value> {
  readonly #max: number;

  constructor(max: number) {
    super();
    this.#max = max;
  }

  override set(key: Key, value: Value): this {
    super.delete(key);
    super.set(key, value);
    if (this.size > this.#max) {
      const oldest = this.keys().next();
      if (oldest.done !== true) super.delete(oldest.value);
    }
    return this;
  }
}
