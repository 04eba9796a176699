/**
 * An image mount from the broker's side: opens /dev/fuse, starts the server in its sandbox, mounts, waits. The server
 * parses; the broker never reads a byte of the image.
 *
 * Whatever happens to the server, the mount goes with it: it is not restarted, because what made it fail is still in
 * the image. Users of the mount get ECONNABORTED or ENOTCONN.
 */
import { ebbError } from '../../base/errors.ts';
import { imageSubtype } from '../../base/mount-info.ts';
import type { Connection, MountOptions } from '../../fuse/connection.ts';
import { mountOpenDevice, mountUnprivileged, openDevice, realPath } from '../../fuse/connection.ts';
import { OwnedFd, setNonblocking } from '../../sys/fd.ts';
import { Capability, hasCapability } from '../../sys/process.ts';
import type { Opened, RecallFacts, ServerRequest } from '../messages.ts';
import { serverScript } from '../sandbox/code-cache.ts';
import type { SandboxedServer } from '../sandbox/launch.ts';
import { startServer } from '../sandbox/start.ts';
import type { ServerOptions } from '../sandbox/start.ts';
import { socketPair } from '../../sys/socket.ts';
import type { Broker } from './broker.ts';
import type { MountKeeper } from './keeper.ts';
import type { BrokerOptions } from './options.ts';
import type { RecallDesk } from './recall-desk.ts';
import { withNotes } from './server-words.ts';
import { localSource } from './source.ts';
import type { ImageRecall, ImageSource } from './source.ts';

/** Anything will do to see whether maps can be mounted. */
const probeArea = { blockBytes: 4096, startBytes: 0, endBytes: 0 };
/** How long the server may take to open an image before it is given up. */
const openTimeoutMs = 60_000;

export interface ImageMount {
  readonly opened: Opened;
  /** Resolves when nothing is mounted any more: why, for the log; undefined when it was unmounted. */
  readonly ended: Promise<string | undefined>;
  /** Takes the mount away, lazily. */
  stop(): void;
}

function mountOptions(options: BrokerOptions, name: string): MountOptions {
  return {
    mountPoint: options.mountPoint,
    fsname: name,
    subtype: imageSubtype,
    readOnly: true,
    allowOther: options.allowOther,
    defaultPermissions: true,
  };
}

/** Who serves: tests put hostile code in the server's place. `args`: behind the request. */
export type ServerPlace = Pick<
  ServerOptions,
  'script' | 'scripts' | 'output' | 'args' | 'launched'
> & {
  /** Default: that of `ComputingWatch`. */
  readonly computingMaxMs?: number;
};

/**
 * Mounts. Throws ENOENT, EACCES, EUCLEAN, EOPNOTSUPP, ..., EIO when `signal` fires: nothing is mounted then. Takes the
 * source over, also when it throws; what is behind a remote one may be closed when the mount has ended.
 */
export async function serveImage(
  options: BrokerOptions,
  place: ServerPlace = { script: serverScript.source, args: [] },
  source: ImageSource = localSource(options.imagePath),
  signal: AbortSignal = new AbortController().signal,
): Promise<ImageMount> {
  try {
    return await serveSource(options, place, source, signal);
  } catch (error) {
    source.image.close();
    throw error;
  }
}

async function serveSource(
  options: BrokerOptions,
  place: ServerPlace,
  source: ImageSource,
  signal: AbortSignal,
): Promise<ImageMount> {
  const { name, image, imageBytes, recall } = source;
  const isPrivileged = hasCapability(Capability.sysAdmin);
  const request: ServerRequest = {
    imageBytes,
    offsetBytes: options.offsetBytes,
    partition: options.partition,
    journal: options.journal,
    mode: 'serve',
    recall: recall && factsOf(recall),
  };
  const mountPoint = realPath(options.mountPoint);
  const fuseOptions = mountOptions({ ...options, mountPoint }, name);
  const device = isPrivileged ? openDevice() : await mountUnprivileged(fuseOptions);
  const deviceFd = device instanceof OwnedFd ? device.fd : device.fileDescriptor;
  let broker: Broker | undefined;
  let desk: RecallDesk | undefined;
  let keeper: MountKeeper | undefined;
  try {
    // The server blocks in read(2): it has nothing to poll with.
    setNonblocking(deviceFd, false);
    const args = [JSON.stringify(request), ...place.args];
    const [ours, noticesFd] = recall === undefined ? [] : socketPair();
    using theirs = noticesFd;
    if (recall !== undefined && ours !== undefined) desk = await openDesk(recall, imageBytes, ours);
    // The rest of us is loaded while the server starts, on another processor.
    const [server, rest] = await startBeside(
      { ...place, args, deviceFd, imageFd: image.fd, noticesFd: theirs?.fd },
      async () => {
        const loaded = await loadRest(source, isPrivileged);
        keeper = new loaded.MountKeeper(mountPoint, isPrivileged);
        return { ...loaded, keeper };
      },
    );
    broker = new rest.Broker(server, source, rest.keeper, desk, rest.mapDirectory);
    const opened = await openedInTime(broker, signal);
    const connection = connect(device, fuseOptions);
    setNonblocking(connection.fileDescriptor, false);
    broker.mounted(connection, opened, place.computingMaxMs);
    const { ended } = broker;
    const shown = withNotes(opened, { notes: [...rest.notes, ...server.notes] });
    return { opened: shown, ended, stop: () => broker?.stop() };
  } catch (error) {
    broker?.giveUp(error);
    await broker?.ended;
    desk?.[Symbol.dispose]();
    keeper?.[Symbol.dispose]();
    if (!(device instanceof OwnedFd)) await device.unmount({ lazy: true }).catch(() => undefined);
    device.close();
    throw error;
  }
}

/** A server, and what is done while it starts; no server is left when that rejects. */
export async function startBeside<T>(
  options: ServerOptions,
  beside: () => Promise<T>,
): Promise<[SandboxedServer, T]> {
  const done = beside();
  const starting = startServer({ ...options, beside: done });
  try {
    return await Promise.all([starting, done]);
  } catch (error) {
    const [server] = await Promise.allSettled([starting, done]);
    if (server.status === 'fulfilled') server.value[Symbol.dispose]();
    throw error;
  }
}

interface Rest {
  readonly Broker: typeof Broker;
  readonly MountKeeper: typeof MountKeeper;
  readonly mapDirectory: string | undefined;
  readonly notes: readonly string[];
}

async function loadRest(source: ImageSource, isPrivileged: boolean): Promise<Rest> {
  const { Broker } = await import('./broker.ts');
  const { MountKeeper } = await import('./keeper.ts');
  const { findMapDirectory } = await import('./backings.ts');
  const { writerNotes } = await import('./writers.ts');
  const mapDirectory = isPrivileged ? findMapDirectory(source.image.fd, probeArea) : undefined;
  return { Broker, MountKeeper, mapDirectory, notes: writerNotes(source) };
}

async function openDesk(
  recall: ImageRecall,
  imageBytes: number,
  noticesFd: OwnedFd,
): Promise<RecallDesk> {
  const { RecallDesk } = await import('./recall-desk.ts');
  return new RecallDesk(recall, imageBytes, noticesFd);
}

/** With privileges the image is mounted only now, when it is known to be one. */
function connect(device: OwnedFd | Connection, options: MountOptions): Connection {
  return device instanceof OwnedFd ? mountOpenDevice(device, options) : device;
}

function factsOf({ chunkBytes, deadlineMs, readAheadMaxBytes }: RecallFacts): RecallFacts {
  return { chunkBytes, deadlineMs, readAheadMaxBytes };
}

async function openedInTime(broker: Broker, signal: AbortSignal): Promise<Opened> {
  const timer = setTimeout(
    () => broker.giveUp(ebbError('ETIMEDOUT', 'the image could not be opened in time')),
    openTimeoutMs,
  );
  const stop = (): void => broker.giveUp(signal.reason);
  signal.addEventListener('abort', stop);
  try {
    if (signal.aborted) stop();
    return await broker.opened;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}
