/** Attaching, in the order that leaves no window: lock, prepare, guard, daemon, and only then what users see. */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import path from 'node:path';
import { json } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { errnoCode } from '../base/errno.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import {
  ensureRunDirectory,
  processStartTicks,
  readRunRecords,
  isRunning,
  removeRunRecord,
  runFiles,
  writeRunRecord,
} from '../base/run-directory.ts';
import type { RunRecord } from '../base/run-directory.ts';
import { OpenFlag, OwnedFd, openFd } from '../sys/fd.ts';
import { tryLock } from '../sys/lease.ts';
import { createMemoryFile } from '../sys/memory-file.ts';
import { unmount, UnmountFlag } from '../sys/mount.ts';
import { Capability, hasCapability, setOpenFilesLimitTo } from '../sys/process.ts';
import { fileStatus } from '../sys/stat.ts';
import { Denier } from './denier.ts';
import { DescriptorStore } from './descriptor-store.ts';
import type { Keeping } from './descriptor-store.ts';
import { treeMountAt } from './exposure.ts';
import { FactsFile } from './facts-file.ts';
import type { TreeFacts } from './facts-file.ts';
import { letGo } from './farewell.ts';
import { Guard } from './guard.ts';
import { Keeper } from './keeper.ts';
import { changeJournalName, descriptorsToKeep, resumeKept, takeKept } from './kept-tree.ts';
import type { KeptTree } from './kept-tree.ts';
import type { Opaque } from './messages.ts';
import { makePledge } from './pledge.ts';
import type { Pledge } from './pledge.ts';
import type { Callbacks, Service } from './service.ts';
import { takeTenure } from './tenure.ts';
import { TreeSupervisor } from './tree-supervisor.ts';
import type { SupervisorOptions } from './tree-supervisor.ts';
import { bringUnguarded } from './unguarded.ts';

/** Of supervisor and daemon: each question that waits keeps one descriptor of the daemon. Bounds the sweep, too. */
const descriptorsMax = 65_536;
/**
 * Daemons whose supervisor and keeper were killed end by themselves, and hold the lock until then; where the keeper
 * lives, another supervisor is about to be there.
 */
const endingMaxMs = 15_000;
const endingEveryMs = 50;

/** `line`: what `ebb attach` sent. Throws EbbError with a sentence for the user; nothing is left then. */
export async function attach(line: string, callbacks: Callbacks): Promise<Service> {
  const { options, forSupervisor } = parse(line);
  if (!hasCapability(Capability.sysAdmin)) {
    throw ebbError('EPERM', 'attaching a tree needs root (CAP_SYS_ADMIN)');
  }
  setOpenFilesLimitTo(descriptorsMax);
  ensureRunDirectory();
  // Only a service of its own is started again by its manager: in the background it may be anybody's.
  const isService = options['foreground'] === true;
  const kept = takeKept();
  const store = isService
    ? DescriptorStore.ofService(callbacks.log)
    : Keeper.of(line, kept, callbacks.log);
  const task = { options, forSupervisor, callbacks, store };
  const resumed = kept.size === 0 ? undefined : await resume(kept, task);
  if (resumed !== undefined) return resumed;
  if (forSupervisor.refused !== undefined) throw ebbError('ECANCELED', forSupervisor.refused);
  return await attachAfresh(task);
}

interface Task {
  readonly options: Opaque & { readonly tree: string };
  readonly forSupervisor: ForSupervisor;
  readonly callbacks: Callbacks;
  readonly store: Keeping | undefined;
}

async function attachAfresh(task: Task): Promise<Service> {
  const { tree } = task.options;
  const { signal } = task.callbacks;
  const startedAtMs = Date.now();
  const { lock, replaced } = await onceFree(tree, () => lockTree(tree));
  using _lock = lock;
  signal.throwIfAborted();
  const prepared = await prepare(JSON.stringify(task.options), signal);
  const guard = await onceFree(tree, () => Guard.set(prepared.ebbDirectory));
  const factsFile = new FactsFile();
  const pledge = task.store?.pledge() ?? makePledge();
  // Nobody else can have it.
  const tenure = await takeTenure(factsFile.fd, () => true);
  const changeJournal = createMemoryFile(changeJournalName);
  const parts = { guard, factsFile, changeJournal, tenure, pledge, prepared, startedAtMs };
  let supervisor: TreeSupervisor | undefined;
  const isByKeeper = task.store instanceof Keeper;
  try {
    if (isByKeeper) await keep(task, parts);
    const options = supervisorOptions(task, parts);
    const started = await TreeSupervisor.start(options, signal);
    const { ready } = started;
    ({ supervisor } = started);
    const { remote, stateDirectory, facts: said } = ready;
    const { shown } = supervisor;
    // A daemon that was here before is not to be dissolved again.
    const later = { ...prepared, isNew: false };
    if (shown !== undefined) {
      const known = { remote, stateDirectory, facts: said };
      const { treeId } = prepared;
      const { namedRemote } = task.forSupervisor;
      const facts = { prepared: later, startedAtMs, ready: known, namedRemote };
      factsFile.write({ tree, treeId, shown, ...facts });
    }
    if (!isByKeeper) await keep(task, parts);
    const service = await serve(supervisor, ready, { ...task, ...parts });
    if (replaced !== undefined) void bringUnguarded(replaced, task.callbacks.log);
    return service;
  } catch (error) {
    // Users may see the tree already: without the guard they would be let through.
    if (supervisor !== undefined && !(await takeAway(supervisor))) await supervisor.ended;
    await letGoOf(task, parts);
    throw error;
  }
}

/** Resolves when nobody can reach the tree any more; with false when it could not be taken away yet. */
async function takeAway(supervisor: TreeSupervisor): Promise<boolean> {
  const { stopped } = await supervisor.stop(true);
  if (stopped) await supervisor.finish();
  return stopped;
}

/**
 * With what a supervisor that has died left behind. Undefined: it is nothing. Whatever fails, the service is started
 * again: nobody may be told that it is in vain while descriptors are kept.
 */
async function resume(kept: ReturnType<typeof takeKept>, task: Task): Promise<Service | undefined> {
  const { options, forSupervisor, callbacks, store } = task;
  const { log, signal, onProgress } = callbacks;
  try {
    const found = await resumeKept(kept, {
      tree: options.tree,
      namedRemote: forSupervisor.namedRemote,
      refused: () =>
        forSupervisor.refused ?? (signal.aborted ? 'the service is being stopped' : undefined),
      isWanted: () =>
        forSupervisor.startedBy === undefined || process.ppid === forSupervisor.startedBy,
      store,
      log,
      // Who started this waits as long as it says something.
      onWaiting: () => onProgress({}),
    });
    return found === undefined ? undefined : await goOn(found, task);
  } catch (thrown) {
    const error = toEbbError(thrown);
    if (error.code === 'ECANCELED') throw error;
    throw ebbError('EAGAIN', error.message, { cause: error });
  }
}

async function goOn(found: KeptTree, task: Task): Promise<Service> {
  const { exposure, restarts, former, facts, ...kept } = found;
  const { prepared, startedAtMs } = facts;
  const pledge = task.store?.pledge() ?? makePledge();
  const parts = { ...kept, pledge, prepared, startedAtMs };
  // Before there is a daemon: from then on a successor waits for the end of this one's.
  await keep(task, parts, former);
  const supervisor = TreeSupervisor.resume(supervisorOptions(task, parts), exposure, restarts);
  return await serve(supervisor, facts.ready, { ...task, ...parts });
}

/** Pledges in the store, whose processes have died, are `former`. */
async function keep(
  { store }: Task,
  { guard, factsFile, changeJournal, pledge }: Parts,
  former: readonly string[] = [],
): Promise<void> {
  await store?.keep(descriptorsToKeep(guard, factsFile, changeJournal), pledge, former);
  pledge.theirs.close();
}

interface Parts {
  readonly guard: Guard;
  readonly factsFile: FactsFile;
  readonly changeJournal: OwnedFd;
  readonly tenure: OwnedFd;
  readonly pledge: Pledge;
  readonly prepared: Prepared;
  readonly startedAtMs: number;
}

/** Only when nobody can reach the tree any more: the kernel lets everybody through then. */
async function letGoOf({ store, callbacks }: Task, parts: Parts): Promise<void> {
  const { guard, prepared } = parts;
  const groups = [guard.access, guard.open];
  const denier = new Denier(groups, prepared.treeId, (why) => callbacks.log('error', why));
  if (store !== undefined) await letGo(groups, denier, () => store.drop());
  close(parts);
}

function close({ guard, factsFile, changeJournal, pledge, tenure }: Parts): void {
  for (const part of [guard, factsFile, changeJournal, pledge, tenure]) part[Symbol.dispose]();
}

function supervisorOptions(
  { options, callbacks }: Task,
  { guard, factsFile, changeJournal, tenure, pledge, prepared, startedAtMs }: Parts,
): SupervisorOptions {
  const { tree } = options;
  const { ebbDirectory, treeId } = prepared;
  return {
    ...callbacks,
    tree,
    ebbDirectory,
    socketPath: runFiles(tree).socket,
    guard,
    treeId,
    options,
    prepared,
    startedAtMs,
    pledge: pledge.ours,
    tenure,
    changeJournal,
    onDaemon: (restarts) => factsFile.noteRestarts(restarts),
  };
}

async function serve(
  supervisor: TreeSupervisor,
  { remote, stateDirectory, facts }: TreeFacts['ready'],
  work: Task & Parts,
): Promise<Service> {
  const { options, callbacks, store } = work;
  const { tree } = options;
  const keeper = store instanceof Keeper ? store : undefined;
  const record = (): RunRecord => {
    const run: RunRecord = {
      kind: 'tree',
      keeper: keeper?.identity,
      pid: process.pid,
      startTicks: processStartTicks(process.pid) ?? 0,
      mountPoint: tree,
      remote,
      cacheDirectory: stateDirectory,
      socketPath: runFiles(tree).socket,
    };
    writeRunRecord(run);
    return run;
  };
  const run = record();
  if (keeper !== undefined) {
    keeper.onReplaced = () => {
      try {
        record();
      } catch (error) {
        callbacks.log('error', toEbbError(error).message);
      }
    };
  }
  callbacks.log('info', `${remote} is attached to ${tree}`);
  await store?.started();
  return {
    facts: { ...facts, run, supervisorPid: process.pid },
    ended: supervisor.ended.then(async () => {
      await letGoOf(work, work);
      removeRunRecord(tree);
      return true;
    }),
    stop: async () => void (await takeAway(supervisor)),
    revive: () => supervisor.revive(),
  };
}

/** What `ebb attach` says to the supervisor alone. */
interface ForSupervisor {
  /** Why the tree is not to be attached: what a service manager keeps of it is let go in order. */
  readonly refused: string | undefined;
  /** As it was written, without credentials. */
  readonly namedRemote: string | undefined;
  /** The service's main process: when it dies before the tree is taken over, another one takes it over. */
  readonly startedBy: number | undefined;
}

function parse(line: string): {
  readonly options: Opaque & { readonly tree: string };
  readonly forSupervisor: ForSupervisor;
} {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw ebbError('EINVAL', 'the supervisor was started without its options', { cause: error });
  }
  const { refused, namedRemote, startedBy, ...options } = value as Opaque;
  const tree = options['tree'];
  if (typeof tree !== 'string' || !path.isAbsolute(tree)) {
    throw ebbError('EINVAL', 'option tree: must be an absolute path');
  }
  const text = (said: unknown): string | undefined => (typeof said === 'string' ? said : undefined);
  return {
    options: { ...options, tree },
    forSupervisor: {
      refused: text(refused),
      namedRemote: text(namedRemote),
      startedBy: typeof startedBy === 'number' ? startedBy : undefined,
    },
  };
}

/**
 * One supervisor at a time: the lock is on what TREE is now. While a tree is attached that is its data, whose lock the
 * one that serves it holds; else it is the directory below. A mount that killed processes left behind is removed:
 * `replaced` is its id.
 */
function lockTree(tree: string): { readonly lock: OwnedFd; readonly replaced: number | undefined } {
  let replaced: number | undefined;
  for (;;) {
    using directory = openFd(tree, OpenFlag.rdonly | OpenFlag.directory | OpenFlag.noatime);
    if (!tryLock(directory.fd)) {
      throw ebbError('EBUSY', `${tree} is attached already; see: ebb status ${tree}`);
    }
    const shown = treeMountAt(tree);
    if (shown === undefined) return { lock: new OwnedFd(directory.release()), replaced };
    // The lock is of the directory below it: another one has just shown the tree, and let go of that.
    if (fileStatus(directory.fd).mountId !== shown.mountId) continue;
    unmount(tree, UnmountFlag.detach | UnmountFlag.nofollow);
    replaced = shown.mountId;
  }
}

/** Does what throws EBUSY while somebody has the tree; waits a moment for those that nobody supervises any more. */
async function onceFree<T>(tree: string, work: () => T): Promise<T> {
  for (let waitedMs = 0; ; waitedMs += endingEveryMs) {
    try {
      return work();
    } catch (error) {
      if (toEbbError(error).code !== 'EBUSY') throw error;
      if (wakeSupervisor(tree) || waitedMs >= endingMaxMs) throw error;
    }
    await sleep(endingEveryMs);
  }
}

/**
 * A daemon that could not be started for a while is started now: that is what who attaches again wants. False: there is
 * no supervisor.
 */
function wakeSupervisor(tree: string): boolean {
  const record = readRunRecords().find(
    ({ kind, mountPoint }) => kind === 'tree' && mountPoint === tree,
  );
  if (record === undefined || !isRunning(record)) return false;
  try {
    process.kill(record.pid, 'SIGHUP');
    return true;
  } catch {
    // It has just ended.
    return false;
  }
}

type Prepared = Opaque & { readonly ebbDirectory: string; readonly treeId: string };

/**
 * What needs to know more than a supervisor does is done by a process of its own: the directories of the tree and of
 * its state. It has ended when this returns, and has not seen the tree watched. Rejects when `signal` fires: what it
 * had begun then is found again by the next one.
 */
async function prepare(line: string, signal: AbortSignal): Promise<Prepared> {
  const script = fileURLToPath(new URL('../daemon/native-prepare.ts', import.meta.url));
  const child = spawn(process.execPath, [...process.execArgv, script], {
    cwd: '/',
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.on('error', () => undefined); // it died first: that it did not answer says so
  child.stdin.end(line);
  const stop = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', stop);
  const answer = (await json(child.stdout).catch(() => ({}))) as Opaque;
  signal.removeEventListener('abort', stop);
  signal.throwIfAborted();
  const { ok, ebbDirectory, treeId, code, error } = answer;
  if (ok === true && typeof ebbDirectory === 'string' && typeof treeId === 'string') {
    return { ...answer, ebbDirectory, treeId };
  }
  const known = typeof code === 'string' ? errnoCode(code) : undefined;
  const message = typeof error === 'string' ? error : 'the tree could not be prepared';
  throw ebbError(known ?? 'EIO', message);
}
