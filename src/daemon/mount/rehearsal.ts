/**
 * Reads a few files through every layer before anybody waits for one: V8 compiles a function when it is called first,
 * and several hundred first calls made the first read of a mount ten times slower than its second. Everything is real
 * (both threads, catalog, tree, HTTP) except for the ends: a socket in the place of /dev/fuse, a web server of our own
 * in the place of the remote. See docs/decisions/0011-a-mount-rehearses.md.
 */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { systemClock } from '../../base/clock.ts';
import { ebbError } from '../../base/errors.ts';
import { encodeName } from '../../base/name.ts';
import { sipKeyBytes } from '../../base/siphash.ts';
import { ROOT_NODE_ID } from '../../catalog/catalog.ts';
import { Opcode } from '../../fuse/constants.ts';
import { SocketKernel } from '../../fuse/socket-kernel.ts';
import type { KernelRequest } from '../../fuse/socket-kernel.ts';
import { FuseThreads } from '../../fuse/thread.ts';
import type { PreparedThread } from '../../base/prepared-thread.ts';
import type { ReplyMessage } from '../../fuse/wire/message.ts';
import type { ThreadSettings, ToMain } from '../../mount/messages.ts';
import { Namespace } from '../../recall/namespace/namespace.ts';
import { openRemote } from '../../remote/open-remote.ts';
import { setNonblocking } from '../../sys/fd.ts';
import { socketPair } from '../../sys/socket.ts';
import { Logbook } from '../logbook.ts';
import { optionDefaults } from '../options.ts';
import { directoryNames, fileName, startRehearsalOrigin } from '../rehearsal-origin.ts';
import { rehearsing } from '../rehearsing.ts';
import type { RehearsalSurroundings } from '../rehearsing.ts';
import type { Teardown } from '../teardown.ts';
import { Contents } from './contents.ts';
import { KernelNotices } from './kernel-notices.ts';
import { makeServing, requestBytesMax } from './serving.ts';

const pageBytes = 4_096;
const readAheadMaxBytes = 1024 * 1024;
/** READs of one file: the first is recalled, the last ones are served from what came with it. */
const readOffsets = [0, pageBytes, 2 * pageBytes];
const directoryBytes = 8 * 1024;

export interface RehearsalOptions extends RehearsalSurroundings {
  /** The thread that will serve the mount, with nothing to do yet. */
  readonly thread: PreparedThread;
  readonly moduleUrl: URL;
}

/** Resolves when it is over, however it went, and nothing of it is left. Never rejects. See `rehearsing`. */
export function rehearse(options: RehearsalOptions): Promise<void> {
  return rehearsing(options, (teardown) => play(options, teardown));
}

async function play(
  { thread, moduleUrl, directory, logbook }: RehearsalOptions,
  teardown: Teardown,
): Promise<void> {
  const origin = await startRehearsalOrigin();
  teardown.add('closing the origin', () => origin[Symbol.asyncDispose]());
  const limits = { ...optionDefaults, retries: 0, readAheadMaxBytes };
  const remote = await openRemote({ ...limits, url: origin.url, proxy: '' });
  teardown.add('closing the remote', () => remote.close());
  const contents = await Contents.open(directory, origin.url, () => undefined);
  teardown.add('closing the cache', () => contents.abandon());
  const notices = new KernelNotices();
  const namespace = new Namespace({
    catalog: contents.catalog,
    remote,
    clock: systemClock,
    ttlMs: limits.ttlMs,
    deadlineMs: limits.deadlineMs,
    onChange: (change) => notices.changed(change),
    onProblem: () => undefined,
  });
  teardown.add('closing the namespace', () => namespace.close());
  const spoolDirectory = path.join(directory, 'spool');
  mkdirSync(spoolDirectory);
  const [kernelEnd, deviceEnd] = socketPair();
  teardown.add('closing the socket', () => deviceEnd.close());
  setNonblocking(deviceEnd.fd, true);
  const kernel = new SocketKernel(kernelEnd);
  teardown.add('closing the kernel', () => kernel[Symbol.dispose]());
  const settings: ThreadSettings = {
    openCount: new SharedArrayBuffer(4),
    staleHandles: new SharedArrayBuffer(4),
    generationKey: new Uint8Array(sipKeyBytes),
    catalogPath: contents.catalogPath,
    cacheDirectory: directory,
    ttlMs: limits.ttlMs,
    fileMode: limits.fileMode,
    directoryMode: limits.directoryMode,
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
  const { server } = makeServing({
    configuration: limits,
    clock: systemClock,
    remote,
    contents,
    namespace,
    spoolDirectory,
    settings,
    deviceFileDescriptor: deviceEnd.fd,
    threads: () => threads,
    reserve: () => undefined,
    onReadEnded: () => undefined,
    // Recalls that the end cuts off are nobody's business.
    logbook: new Logbook(systemClock, 'error', () => undefined),
    teardown,
  });
  const starting = FuseThreads.start({
    deviceFileDescriptor: deviceEnd.fd,
    moduleUrl,
    workerData: settings,
    preparedThread: thread,
    keepsThread: true,
    options: { dataInvalidation: 'explicit', maxWriteBytes: requestBytesMax },
    onMessage: (message) => server.take(message as ToMain),
    onProblem: ({ operation, message }) =>
      logbook.log('debug', `rehearsal, ${operation}: ${message}`),
  });
  // Whatever happens meanwhile, the thread has to be free again.
  teardown.add('stopping the thread', async () => (await starting).stop());
  teardown.add('closing the front end', () => {
    notices.disconnect();
    server.close();
  });
  // The thread may still be loading.
  await namespace.list(ROOT_NODE_ID);
  const threads = await starting;
  notices.connect(deviceEnd.fd, (message, wake) =>
    wake ? server.tell(message) : server.tellQuietly(message),
  );
  await kernel.init();
  for (const name of directoryNames) await readFile(kernel, name);
}

async function readFile(kernel: SocketKernel, directoryName: string): Promise<void> {
  const ask = async (request: KernelRequest): Promise<ReplyMessage> => {
    const reply = await kernel.ask({ ...request, pid: process.pid });
    if (reply.errno !== 0) throw ebbError('EIO', `${request.opcode}: errno ${reply.errno}`);
    return reply;
  };
  const look = async (nodeId: number, name: string): Promise<number> => {
    const reply = await ask({ opcode: Opcode.LOOKUP, nodeId, names: [encodeName(name)] });
    return reply.bodies[0]?.['nodeid'] ?? 0;
  };
  const directoryId = await look(ROOT_NODE_ID, directoryName);
  const nodeId = await look(directoryId, fileName);
  await ask({ opcode: Opcode.GETATTR, nodeId });
  const { bodies } = await ask({ opcode: Opcode.OPEN, nodeId });
  const fh = bodies[0]?.['fh'] ?? 0;
  for (const offset of readOffsets) {
    await ask({ opcode: Opcode.READ, nodeId, body: { fh, offset, size: pageBytes } });
  }
  await ask({ opcode: Opcode.RELEASE, nodeId, body: { fh } });
  await ask({ opcode: Opcode.OPENDIR, nodeId: directoryId });
  await ask({ opcode: Opcode.READDIRPLUS, nodeId: directoryId, body: { size: directoryBytes } });
  await ask({ opcode: Opcode.RELEASEDIR, nodeId: directoryId });
}
