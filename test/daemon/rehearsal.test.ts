/** The rehearsal of a mount: it plays to the end, leaves nothing, and its failure costs nothing but the time saved. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { openSqliteCatalog } from '../../src/catalog/sqlite/catalog.ts';
import { Logbook } from '../../src/daemon/logbook.ts';
import { rehearse } from '../../src/daemon/mount/rehearsal.ts';
import { SocketKernel } from '../../src/fuse/socket-kernel.ts';
import type { PreparedThread } from '../../src/base/prepared-thread.ts';
import { FuseThreads, prepareFuseThread } from '../../src/fuse/thread.ts';
import type { ThreadSettings } from '../../src/mount/messages.ts';
import { setNonblocking } from '../../src/sys/fd.ts';
import { socketPair } from '../../src/sys/socket.ts';
import { withEbb } from '../support/mount.ts';
import { nginxLog, startNginx } from '../support/servers.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const moduleUrl = new URL('../../src/mount/thread.ts', import.meta.url);

/** Everything that the rehearsal had to say. */
async function rehearsed(thread: PreparedThread, directory: string): Promise<string[]> {
  const lines: string[] = [];
  const logbook = new Logbook(systemClock, 'debug', (line) => void lines.push(line));
  await rehearse({ thread, moduleUrl, directory, logbook, durationMaxMs: 30_000 });
  return lines;
}

/** The thread can still serve: answers INIT of another connection. */
async function serves(preparedThread: PreparedThread, directory: string): Promise<void> {
  const catalogPath = path.join(directory, 'catalog.sqlite');
  using _catalog = openSqliteCatalog(catalogPath);
  const workerData: ThreadSettings = {
    catalogPath,
    cacheDirectory: directory,
    openCount: new SharedArrayBuffer(4),
    staleHandles: new SharedArrayBuffer(4),
    generationKey: new Uint8Array(16),
    ttlMs: 1_000,
    fileMode: 0o444,
    directoryMode: 0o555,
    uid: 0,
    gid: 0,
    passthrough: false,
    handleTable: undefined,
    scanLog: undefined,
    requestJournal: undefined,
    predecessorFailed: false,
    predecessors: 0,
    startedAtSeconds: 0,
  };
  const [kernelEnd, deviceEnd] = socketPair();
  using device = deviceEnd;
  setNonblocking(device.fd, true);
  using kernel = new SocketKernel(kernelEnd);
  const deviceFileDescriptor = device.fd;
  const threads = await FuseThreads.start({
    deviceFileDescriptor,
    moduleUrl,
    workerData,
    preparedThread,
  });
  await kernel.init();
  await threads.connected;
  assert.equal(await threads.stop(), 'stopped');
}

const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

test('a rehearsal plays to the end, leaves no file and no descriptor, and the thread serves on', async () => {
  await using temporary = await temporaryDirectory('rehearsal');
  const thread = prepareFuseThread(moduleUrl);
  const directory = path.join(temporary.path, 'scratch');
  assert.deepEqual(await rehearsed(thread, directory), []);
  const before = openDescriptors();
  assert.deepEqual(await rehearsed(thread, directory), []);
  await waitFor(() => openDescriptors() <= before, { what: 'all descriptors closed' });
  assert.equal(existsSync(directory), false);
  await serves(thread, temporary.path);
});

test('a rehearsal that cannot be played is only a line for debugging, and the thread serves on', async () => {
  await using temporary = await temporaryDirectory('rehearsal');
  const thread = prepareFuseThread(moduleUrl);
  writeFileSync(path.join(temporary.path, 'file'), '');
  const lines = await rehearsed(thread, path.join(temporary.path, 'file/scratch'));
  assert.match(lines.join(''), / debug rehearsal, playing: /);
  assert.ok(lines.every((line) => line.includes(' debug ')));
  await serves(thread, temporary.path);
});

test('a prepared thread that cannot load its module is an error, not a wait', async () => {
  const thread = prepareFuseThread('file:///nowhere/module.ts');
  await waitFor(() => thread.failure !== undefined, { what: 'the failure' });
  const [kernelEnd, deviceEnd] = socketPair();
  using _kernel = kernelEnd;
  using device = deviceEnd;
  const deviceFileDescriptor = device.fd;
  await assert.rejects(
    FuseThreads.start({ deviceFileDescriptor, moduleUrl, preparedThread: thread }),
    /nowhere/,
  );
});

test('mounting asks the remote for its root and for nothing else', async () => {
  await using temporary = await temporaryDirectory('rehearsal-origin');
  writeFileSync(path.join(temporary.path, 'file'), 'content');
  const nginx = await startNginx({ root: temporary.path, workers: 1 });
  try {
    await withEbb({ remote: nginx.url }, async () => {
      const log = await nginxLog(nginx);
      const requests = [...log.matchAll(/"(\w+ \S+) HTTP/g)].map((match) => match[1]);
      assert.deepEqual([...new Set(requests)].sort(), ['GET /', 'HEAD /']);
    });
  } finally {
    await nginx.stop();
  }
});
