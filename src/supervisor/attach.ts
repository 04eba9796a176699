/** Attaching, in the order that leaves no window: lock, prepare, guard, daemon, and only then what users see. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { json } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { errnoCode } from '../base/errno.ts';
import { ebbError } from '../base/errors.ts';
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
import { unmount, UnmountFlag } from '../sys/mount.ts';
import { Capability, hasCapability, setOpenFilesLimitTo } from '../sys/process.ts';
import { treeMountAt } from './exposure.ts';
import { Guard } from './guard.ts';
import type { Opaque } from './messages.ts';
import type { Callbacks, Service } from './service.ts';
import { TreeSupervisor } from './tree-supervisor.ts';

/** Of supervisor and daemon: each question that waits keeps one descriptor of the daemon. Bounds the sweep, too. */
const descriptorsMax = 65_536;

/** `line`: what `ebb attach` sent. Throws EbbError with a sentence for the user; nothing is left then. */
export async function attach(line: string, callbacks: Callbacks): Promise<Service> {
  const startedAtMs = Date.now();
  const options = parse(line);
  const { tree } = options;
  if (!hasCapability(Capability.sysAdmin)) {
    throw ebbError('EPERM', 'attaching a tree needs root (CAP_SYS_ADMIN)');
  }
  setOpenFilesLimitTo(descriptorsMax);
  const files = runFiles(tree, ensureRunDirectory());
  using _lock = lockTree(tree);
  const prepared = await prepare(line);
  const { ebbDirectory, treeId } = prepared;
  const guard = Guard.set(ebbDirectory);
  try {
    const { supervisor, ready } = await TreeSupervisor.start({
      ...callbacks,
      tree,
      ebbDirectory,
      socketPath: files.socket,
      guard,
      treeId,
      options,
      prepared,
      startedAtMs,
    });
    const run: RunRecord = {
      kind: 'tree',
      pid: process.pid,
      startTicks: processStartTicks(process.pid) ?? 0,
      mountPoint: tree,
      remote: ready.remote,
      cacheDirectory: ready.stateDirectory,
      socketPath: files.socket,
    };
    writeRunRecord(run);
    callbacks.log('info', `${run.remote} is attached to ${tree}`);
    return {
      facts: { ...ready.facts, run, supervisorPid: process.pid },
      ended: supervisor.ended.then(() => {
        removeRunRecord(tree);
        guard[Symbol.dispose]();
        return true;
      }),
      stop: async () => {
        const { stopped } = await supervisor.stop(true);
        if (stopped) await supervisor.finish();
      },
      revive: () => supervisor.revive(),
    };
  } catch (error) {
    guard[Symbol.dispose]();
    throw error;
  }
}

function parse(line: string): Opaque & { readonly tree: string } {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw ebbError('EINVAL', 'the supervisor was started without its options', { cause: error });
  }
  const options = value as Opaque;
  const tree = options['tree'];
  if (typeof tree !== 'string' || !path.isAbsolute(tree)) {
    throw ebbError('EINVAL', 'option tree: must be an absolute path');
  }
  return { ...options, tree };
}

/**
 * One supervisor at a time: the lock is on what TREE is now. While a tree is attached that is its data, whose lock the
 * one that serves it holds; else it is the directory below. A mount that killed processes left behind is removed.
 */
function lockTree(tree: string): OwnedFd {
  for (;;) {
    using directory = openFd(tree, OpenFlag.rdonly | OpenFlag.directory | OpenFlag.noatime);
    if (!tryLock(directory.fd)) {
      wakeSupervisor(tree);
      throw ebbError('EBUSY', `${tree} is attached already; see: ebb status ${tree}`);
    }
    if (treeMountAt(tree) === undefined) return new OwnedFd(directory.release());
    unmount(tree, UnmountFlag.detach | UnmountFlag.nofollow);
  }
}

/** A daemon that could not be started for a while is started now: that is what who attaches again wants. */
function wakeSupervisor(tree: string): void {
  const record = readRunRecords().find(
    ({ kind, mountPoint }) => kind === 'tree' && mountPoint === tree,
  );
  if (record === undefined || !isRunning(record)) return;
  try {
    process.kill(record.pid, 'SIGHUP');
  } catch {
    // It has just ended.
  }
}

type Prepared = Opaque & { readonly ebbDirectory: string; readonly treeId: string };

/**
 * What needs to know more than a supervisor does is done by a process of its own: the directories of the tree and of
 * its state. It has ended when this returns, and has not seen the tree watched.
 */
async function prepare(line: string): Promise<Prepared> {
  const script = fileURLToPath(new URL('../daemon/native-prepare.ts', import.meta.url));
  const child = spawn(process.execPath, [...process.execArgv, script], {
    cwd: '/',
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.on('error', () => undefined); // it died first: that it did not answer says so
  child.stdin.end(line);
  const answer = (await json(child.stdout).catch(() => ({}))) as Opaque;
  const { ok, ebbDirectory, treeId, code, error } = answer;
  if (ok === true && typeof ebbDirectory === 'string' && typeof treeId === 'string') {
    return { ...answer, ebbDirectory, treeId };
  }
  const known = typeof code === 'string' ? errnoCode(code) : undefined;
  const message = typeof error === 'string' ? error : 'the tree could not be prepared';
  throw ebbError(known ?? 'EIO', message);
}
