/**
 * A native tree that is served, without supervisor and daemon: real file system, real stubs, catalog, engine, event
 * thread and server; only the remote is in memory, so that every request to it is seen and can be made to fail.
 *
 * This process answers the events, so it must not touch the tree's files itself: children do.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { openSqliteStubCatalog } from '../../src/catalog/stubs-sqlite/catalog.ts';
import type { StubCatalog } from '../../src/catalog/stub-catalog.ts';
import { consumedStepBytes } from '../../src/native/consumption.ts';
import type { NativeProblem } from '../../src/native/contracts.ts';
import type { NativePolicy } from '../../src/native/options.ts';
import { defaultNativePolicy } from '../../src/native/policy.ts';
import type { ToMain } from '../../src/native/messages.ts';
import { NativeServer } from '../../src/native/server.ts';
import { NativeThread } from '../../src/native/thread.ts';
import { RecallEngine } from '../../src/recall/engine.ts';
import type { RecallLimits } from '../../src/recall/limits.ts';
import { faultyRemote } from '../../src/remote/fault.ts';
import type { DecideFault } from '../../src/remote/fault.ts';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import type { Remote } from '../../src/remote/remote.ts';
import { tracedRemote } from '../../src/remote/trace.ts';
import type { RequestTrace } from '../../src/remote/trace.ts';
import { renameEntry } from '../../src/sys/entries.ts';
import { OpenFlag, openFd } from '../../src/sys/fd.ts';
import { createMemoryFile } from '../../src/sys/memory-file.ts';
import { attachMount, cloneMount } from '../../src/sys/mount-tree.ts';
import { Guard } from '../../src/supervisor/guard.ts';
import type { ReleaseResult } from '../../src/tree/release.ts';
import { NativeStubStore } from '../../src/tree/stubs/store.ts';
import type { StubFile, StubStore } from '../../src/tree/stubs/stub-store.ts';
import { patternBytes } from '../support/pattern.ts';
import { run, runOk } from '../support/run.ts';
import type { RunOptions, RunResult } from '../support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import type { LoopFilesystem, LoopFilesystemType } from '../support/temporary.ts';

export interface SceneOptions {
  readonly policy?: Partial<NativePolicy>;
  readonly limits?: Partial<RecallLimits>;
  /** Files up to this size are brought before they are opened; 0, the default: none are. */
  readonly siblingMaxBytes?: number;
  readonly mkfsArguments?: readonly string[];
  /** How long what was recalled may be unrecorded, unless somebody needs it to be recorded. Default: as of a daemon. */
  readonly commitIntervalMs?: number;
  /** Puts something around the remote. */
  readonly around?: (remote: Remote) => Remote;
}

export interface AddOptions {
  readonly mode?: number;
  readonly seed?: number;
  readonly bytes?: Uint8Array;
}

const seal = { treeId: '01234567-89ab-4cde-8f01-23456789abcd', secret: new Uint8Array(32).fill(7) };
const mtime = { seconds: 1_600_000_000, nanoseconds: 123_456_789 };

export interface NativeScene extends AsyncDisposable {
  readonly filesystem: LoopFilesystem;
  /** What users see. */
  readonly path: string;
  /** Native, outside of the tree's file system. */
  readonly scratch: string;
  readonly memory: MemoryRemote;
  readonly catalog: StubCatalog;
  readonly store: StubStore;
  /** Of what was read of changes and is not recorded. */
  readonly journalFd: number;
  readonly engine: RecallEngine;
  readonly server: NativeServer;
  readonly thread: NativeThread;
  readonly requests: readonly RequestTrace[];
  readonly problems: NativeProblem[];
  /** Files that the remote was told of because they were opened. */
  readonly expected: number[];
  /** Changes of files that the event thread told of. */
  changes: number;
  /** What the server did, as it tells. */
  steps: number;
  /** All that it told of, by kind. */
  readonly told: Map<ToMain['kind'], number>;
  /** What happens to the next requests; undefined: nothing. */
  fault: DecideFault | undefined;
  /** A stub with its object at the remote. */
  add(name: string, sizeBytes: number, options?: AddOptions): StubFile;
  /** A stub of an object that is there already, with version `v-NAME`. */
  stub(name: string, sizeBytes: number, mode?: number): StubFile;
  addTree(source: string): void;
  /** Bytes that the remote has sent since the last call. */
  fetchedBytes(): number;
  release(file: StubFile): Promise<ReleaseResult>;
  /** A shell script in a child whose working directory is the tree. */
  shell(script: string, options?: RunOptions): Promise<RunResult>;
  shellOk(script: string, options?: RunOptions): Promise<string>;
}

export async function nativeScene(
  type: LoopFilesystemType,
  options: SceneOptions = {},
): Promise<NativeScene> {
  await using owned = new AsyncDisposableStack();
  const { mkfsArguments, commitIntervalMs } = options;
  const image = { type, sizeBytes: 2 * 1024 ** 3, ...(mkfsArguments && { mkfsArguments }) };
  const filesystem = owned.use(await loopFilesystem(image));
  const scratch = owned.use(await temporaryDirectory('native')).path;
  const tree = path.join(filesystem.path, 'tree');
  const ebb = path.join(tree, '.ebb');
  mkdirSync(ebb, { recursive: true, mode: 0o700 });
  for (const name of ['data', 'new', 'poison']) mkdirSync(path.join(ebb, name), { mode: 0o755 });
  const problems: NativeProblem[] = [];
  const requests: RequestTrace[] = [];
  const guard = owned.use(Guard.set(ebb));
  const catalogPath = path.join(scratch, 'catalog.sqlite');
  const catalog = owned.use(openSqliteStubCatalog(catalogPath));
  using directory = openFd('.', OpenFlag.rdonly | OpenFlag.directory, 0, guard.privateMount.fd);
  const store: StubStore = owned.use(
    new NativeStubStore({
      privateFd: directory.fd,
      seal,
      records: catalog,
      ...(commitIntervalMs !== undefined && { limits: { commitIntervalMs } }),
      onProblem: ({ id, message, cause }) => problems.push({ fileId: id, message, cause }),
    }),
  );
  const memory = new MemoryRemote();
  const traced = tracedRemote(
    faultyRemote(memory, (call) => scene.fault?.(call)),
    { onRequest: (request) => requests.push(request) },
  );
  const remote = options.around?.(traced) ?? traced;
  const engine = new RecallEngine({ remote, ...(options.limits && { limits: options.limits }) });
  owned.defer(() => engine.close());
  const { siblingMaxBytes: sizeMaxBytes = 0 } = options;
  const journal = owned.use(createMemoryFile('changes'));
  const groups = {
    access: guard.access.fd,
    open: guard.open.fd,
    changes: guard.changes.fd,
    changeJournal: journal.fd,
  };
  const policy = { ...defaultNativePolicy, ...options.policy };
  const server = new NativeServer({
    groups,
    post: (message) => thread.post(message),
    store,
    recall: engine,
    policy,
    expectRead: (file) => scene.expected.push(file.id),
    ...(sizeMaxBytes > 0 && {
      siblingsOf: {
        inDirectory: (of, limit) => catalog.siblings({ of, sizeMaxBytes, limit }),
        namesakes: (of, limit) => catalog.namesakes({ of, sizeMaxBytes, limit }),
      },
    }),
    onAccesses: () => undefined,
    onStep: () => void (scene.steps += 1),
    onRescan: () => problems.push({ fileId: undefined, message: 'rescan', cause: undefined }),
    onProblem: (problem) => problems.push(problem),
  });
  const { pending } = server;
  const onMessage = (message: ToMain): void => {
    if (message.kind === 'changed') scene.changes += 1;
    scene.told.set(message.kind, (scene.told.get(message.kind) ?? 0) + 1);
    server.take(message);
  };
  const thread = await NativeThread.start({
    groups,
    treeId: seal.treeId,
    catalogPath,
    pending,
    consumedStepBytes: consumedStepBytes(0),
    policy,
    hasPoison: store.hasPoison,
    onMessage,
  });
  owned.defer(async () => {
    server.close();
    await runOk('umount', ['-l', tree]);
    await thread.stop();
  });
  using exposed = cloneMount(path.join(ebb, 'data'));
  attachMount(exposed.fd, tree);
  const all = owned.move();
  let fetchedSince = 0;
  const scene: NativeScene = {
    filesystem,
    path: tree,
    scratch,
    memory,
    catalog,
    store,
    journalFd: journal.fd,
    engine,
    server,
    thread,
    requests,
    problems,
    expected: [],
    changes: 0,
    steps: 0,
    told: new Map(),
    fault: undefined,
    add(name, sizeBytes, { mode = 0o644, seed = 1, bytes = patternBytes(seed, sizeBytes) } = {}) {
      memory.putFile(name, bytes, { mode, mtime, version: `v-${name}` });
      return scene.stub(name, bytes.length, mode);
    },
    stub: (name, sizeBytes, mode = 0o644) => addStub(scene, name, sizeBytes, mode),
    addTree(source) {
      for (const entry of readdirSync(source, { recursive: true, withFileTypes: true })) {
        const from = path.join(entry.parentPath, entry.name);
        const name = path.relative(source, from);
        if (entry.isDirectory()) {
          // Directories raise no events.
          mkdirSync(path.join(tree, name), { recursive: true });
        } else if (entry.isFile()) {
          const bytes = readFileSync(from);
          scene.add(name, bytes.length, { bytes, mode: statSync(from).mode & 0o777 });
        }
      }
    },
    fetchedBytes() {
      const total = requests.reduce((sum, request) => sum + request.bytes, 0);
      const since = total - fetchedSince;
      fetchedSince = total;
      return since;
    },
    async release(file) {
      // On ext4 and btrfs a commit moves ctime.
      await store.settled(file.id);
      const before = server.moment(file);
      await server.changesTakenIn();
      const [result] = await store.release([file], {
        prove: ({ version, sizeBytes }) => Promise.resolve({ version, sizeBytes }),
        isBusy: (id) => server.isBusy(id) || engine.isBusy(id),
        beforeFreeing: (fd, one) => server.beforeFreeing(fd, one, before),
        whileLeased: () => server.turn.lease(),
      });
      if (result === undefined) throw new Error('one file, one result');
      return result;
    },
    shell: (script, runOptions) =>
      run('/bin/sh', ['-c', `cd "$TREE" || exit 126\n${script}`], {
        timeoutMs: 60_000,
        ...runOptions,
        env: { TREE: tree, SCRATCH: scratch, ...runOptions?.env },
      }),
    async shellOk(script, runOptions) {
      const result = await scene.shell(script, runOptions);
      const said = `${script}\n${result.stderr.toString()}${JSON.stringify(problems)}`;
      assert.ok(!result.timedOut, `${said}: did not end`);
      assert.equal(result.code, 0, said);
      return result.stdout.toString();
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
  return scene;
}

function addStub(scene: NativeScene, name: string, sizeBytes: number, mode: number): StubFile {
  const { store, catalog } = scene;
  const id = catalog.reserveIds(1);
  const version = `v-${name}`;
  const stub = { id, key: name, version, sizeBytes, mtime, mode } as const;
  const staged = String(id);
  const facts = store.create(store.stagingFd, Buffer.from(staged), {
    ...stub,
    uid: undefined,
    gid: undefined,
    xattrs: undefined,
  });
  catalog.insert([{ ...facts, lost: false, accessedAtMs: 1 }]);
  renameEntry(store.stagingFd, staged, store.rootFd, name, 'replace');
  const file = store.get(id);
  if (file === undefined) throw new Error('a new stub is there');
  return file;
}

/** All of it is here and for certain: nobody is told any more when it is opened. */
export async function settle(scene: NativeScene, name: string, file: StubFile): Promise<void> {
  await scene.shellOk(`cat ${name} > /dev/null`);
  await scene.store.settled(file.id);
  await scene.shellOk(`cat ${name} > /dev/null`);
}
