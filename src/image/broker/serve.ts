/**
 * An image mount from the broker's side: opens /dev/fuse, starts the server in its sandbox, mounts, waits. The server
 * parses; the broker never reads a byte of the image.
 *
 * Whatever happens to the server, the mount goes with it: it is not restarted, because what made it fail is still in
 * the image. Users of the mount get ECONNABORTED or ENOTCONN.
 */
import { ebbError, toEbbError } from '../../base/errors.ts';
import { Errno } from '../../base/errno.ts';
import { imageSubtype } from '../../base/mount-info.ts';
import type { Connection, MountOptions } from '../../fuse/connection.ts';
import { mountOpenDevice, mountUnprivileged, openDevice } from '../../fuse/connection.ts';
import { OwnedFd, setNonblocking } from '../../sys/fd.ts';
import { Capability, hasCapability } from '../../sys/process.ts';
import { decodeMapRequest, FrameType } from '../messages.ts';
import type { Opened, RecallFacts, ServerRequest } from '../messages.ts';
import type { SandboxedServer, ServerOptions } from '../sandbox/start.ts';
import { startServer } from '../sandbox/start.ts';
import { socketPair } from '../../sys/socket.ts';
import { areaOf, Backings, findMapDirectory } from './backings.ts';
import { ServerLink } from './frames.ts';
import type { Frame } from './frames.ts';
import { MountKeeper } from './keeper.ts';
import type { BrokerOptions } from './options.ts';
import { RecallDesk } from './recall-desk.ts';
import {
  failureOf,
  imageErrorText,
  nonsense,
  openedOf,
  parseFrame,
  serverScript,
  withNotes,
} from './server-words.ts';
import { localSource } from './source.ts';
import type { ImageSource } from './source.ts';

/** Anything will do to see whether maps can be mounted. */
const probeArea = { blockBytes: 4096, startBytes: 0, endBytes: 0 };
/** Files below this size are read in one request, at most. */
const readAheadBytes = 1024 * 1024;
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

class Broker {
  readonly #source: ImageSource;
  readonly #desk: RecallDesk | undefined;
  readonly #mapDirectory: string | undefined;
  readonly #server: SandboxedServer;
  readonly #link: ServerLink;
  readonly opened: Promise<Opened>;
  readonly ended: Promise<string | undefined>;
  readonly #settleOpened: { resolve: (opened: Opened) => void; reject: (error: Error) => void };
  #connection: Connection | undefined;
  #keeper: MountKeeper | undefined;
  #backings: Backings | undefined;
  #failure: string | undefined;
  #isUnmounted = false;

  /** `desk`: of a remote image. `mapDirectory`: see `findMapDirectory`. Closes source and desk. */
  constructor(
    server: SandboxedServer,
    source: ImageSource,
    desk: RecallDesk | undefined,
    mapDirectory: string | undefined,
  ) {
    this.#server = server;
    this.#source = source;
    this.#desk = desk;
    this.#mapDirectory = mapDirectory;
    const { promise, resolve, reject } = Promise.withResolvers<Opened>();
    this.opened = promise;
    this.#settleOpened = { resolve, reject };
    const link = Promise.withResolvers<undefined>();
    this.#link = new ServerLink(
      server.socket.release(),
      (frame) => this.#take(frame),
      (error) => {
        if (error !== undefined) this.#failure ??= error.message;
        link.resolve(undefined);
      },
    );
    this.ended = this.#untilTheEnd(link.promise);
    void desk?.lost.then(() => {
      if (!this.#isUnmounted)
        this.giveUp(ebbError('EIO', 'the server of the image takes no notices any more'));
    });
    void source.recall?.lost.then((why) => this.giveUp(ebbError('EIO', why)));
  }

  /** The server may serve. */
  mounted(connection: Connection, opened: Opened): void {
    this.#connection = connection;
    this.#backings = this.#startBackings(connection, opened);
    this.#keeper = new MountKeeper(connection.mountPoint, connection.isPrivileged);
    this.#link.answer(0);
  }

  stop(): void {
    if (this.#connection === undefined) return this.#server.kill();
    this.#connection.unmount({ lazy: true }).catch((error: unknown) => {
      this.#failure ??= toEbbError(error).message;
      this.#server.kill();
    });
  }

  /** Ends it all: something else failed. */
  giveUp(error: unknown): void {
    this.#failure ??= toEbbError(error).message;
    this.#server.kill();
  }

  #take({ type, payload }: Frame): void {
    switch (type) {
      case FrameType.opened:
        return this.#settleOpened.resolve(openedOf(parseFrame(payload)));
      case FrameType.failed: {
        const why = this.#desk?.lastFailure;
        const said = failureOf(payload);
        const failure = why === undefined ? said : ebbError(said.code, `${said.message} ${why}`);
        this.#failure = failure.message;
        this.#settleOpened.reject(failure);
        return this.#server.kill();
      }
      case FrameType.map:
        return this.#link.answer(this.#map(payload));
      case FrameType.mapAgain:
        return this.#link.answer(this.#backings?.openAgain(numberIn(payload)) ?? -Errno.EOPNOTSUPP);
      case FrameType.ask:
        return this.#link.answer(this.#desk?.ask(payload) ?? -Errno.EOPNOTSUPP);
      case FrameType.prefetch:
        return this.#desk?.prefetch(payload);
      case FrameType.unmap:
        return this.#backings?.close(numberIn(payload));
      case FrameType.serving:
        return this.#tuneReadAhead();
      case FrameType.ended:
        this.#isUnmounted = true;
        return this.#server.kill();
      default:
        throw ebbError('EPROTO', nonsense);
    }
  }

  /** Not before INIT, which would bring the kernel's own 128 KiB back. The size of READs of what is not mapped. */
  #tuneReadAhead(): void {
    const connection = this.#connection;
    if (connection === undefined || !connection.isPrivileged) return;
    try {
      connection.setReadAhead(readAheadBytes);
    } catch {
      // As slow as for who is not root.
    }
  }

  #startBackings({ fileDescriptor }: Connection, opened: Opened): Backings | undefined {
    const { blockBytes, startBytes } = opened;
    const directory = this.#mapDirectory;
    if (directory === undefined || startBytes === undefined) return undefined;
    const { image, imageBytes, recall } = this.#source;
    const area = areaOf(imageBytes, blockBytes, startBytes);
    if (area === undefined) return undefined;
    return Backings.tryStart(fileDescriptor, image.fd, area, { directory, recall });
  }

  #map(payload: Uint8Array): number {
    const request = decodeMapRequest(payload);
    if (request === undefined) throw ebbError('EPROTO', nonsense);
    return this.#backings?.open(request) ?? -Errno.EOPNOTSUPP;
  }

  async #untilTheEnd(linkEnded: Promise<undefined>): Promise<string | undefined> {
    await linkEnded;
    this.#server.kill();
    const how = await this.#server.ended;
    const connection = this.#connection;
    if (connection !== undefined && !this.#isUnmounted) {
      this.#failure ??= `the server of the image died (${how})`;
      // Who waits for an answer is let go, and the directory is free again.
      await connection.abort().catch(() => undefined);
      await connection.unmount({ lazy: true }).catch(() => undefined);
    }
    this.#backings?.[Symbol.dispose]();
    connection?.close();
    this.#source.image.close();
    this.#desk?.[Symbol.dispose]();
    this.#keeper?.[Symbol.dispose]();
    this.#settleOpened.reject(ebbError('EIO', `${imageErrorText}: ${this.#failure ?? how}.`));
    return this.#failure;
  }
}

/** One f64; anything else is no id of ours. */
function numberIn(payload: Uint8Array): number {
  if (payload.length !== 8) return 0;
  return new DataView(payload.buffer, payload.byteOffset, 8).getFloat64(0, true);
}

/** Tests put hostile code in the server's place. */
export type ServerPlace = Pick<ServerOptions, 'script' | 'scripts' | 'output'> & {
  readonly args: readonly string[];
};

/**
 * Mounts. Throws ENOENT, EACCES, EUCLEAN, EOPNOTSUPP, ..., EIO when `signal` fires: nothing is mounted then. Takes the
 * source over, also when it throws; what is behind a remote one may be closed when the mount has ended.
 */
export async function serveImage(
  options: BrokerOptions,
  place: ServerPlace = { script: serverScript, args: [] },
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
  const mapDirectory = isPrivileged ? findMapDirectory(image.fd, probeArea) : undefined;
  const request: ServerRequest = {
    imageBytes,
    offsetBytes: options.offsetBytes,
    partition: options.partition,
    journal: options.journal,
    mode: 'serve',
    passthrough: mapDirectory !== undefined,
    recall: recall && factsOf(recall),
  };
  const fuseOptions = mountOptions(options, name);
  const device = isPrivileged ? openDevice() : await mountUnprivileged(fuseOptions);
  const deviceFd = device instanceof OwnedFd ? device.fd : device.fileDescriptor;
  let broker: Broker | undefined;
  let desk: RecallDesk | undefined;
  try {
    // The server blocks in read(2): it has nothing to poll with.
    setNonblocking(deviceFd, false);
    const args = [JSON.stringify(request), ...place.args];
    const [ours, noticesFd] = recall === undefined ? [] : socketPair();
    using theirs = noticesFd;
    if (recall !== undefined && ours !== undefined) desk = new RecallDesk(recall, imageBytes, ours);
    const server = await startServer({
      ...place,
      args,
      deviceFd,
      imageFd: image.fd,
      noticesFd: theirs?.fd,
    });
    broker = new Broker(server, source, desk, mapDirectory);
    const opened = await openedInTime(broker, signal);
    const connection = connect(device, fuseOptions);
    setNonblocking(connection.fileDescriptor, false);
    broker.mounted(connection, opened);
    const { ended } = broker;
    return { opened: withNotes(opened, server), ended, stop: () => broker?.stop() };
  } catch (error) {
    broker?.giveUp(error);
    await broker?.ended;
    desk?.[Symbol.dispose]();
    if (!(device instanceof OwnedFd)) await device.unmount({ lazy: true }).catch(() => undefined);
    device.close();
    throw error;
  }
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
