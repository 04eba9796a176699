/**
 * An image mount from the broker's side: opens image and /dev/fuse, starts the server in its sandbox, mounts, waits.
 * The server parses; the broker never reads a byte of the image.
 *
 * Whatever happens to the server, the mount goes with it: it is not restarted, because what made it fail is still in
 * the image. Users of the mount get ECONNABORTED or ENOTCONN.
 */
import { ebbError, toEbbError } from '../../base/errors.ts';
import { Errno } from '../../base/errno.ts';
import type { Connection, MountOptions } from '../../fuse/connection.ts';
import { mountOpenDevice, mountUnprivileged, openDevice } from '../../fuse/connection.ts';
import { openFd, OpenFlag, OwnedFd, setNonblocking } from '../../sys/fd.ts';
import { Capability, hasCapability } from '../../sys/process.ts';
import { decodeMapRequest, FrameType } from '../messages.ts';
import type { Opened, ServerRequest } from '../messages.ts';
import type { SandboxedServer, ServerOptions } from '../sandbox/start.ts';
import { startServer } from '../sandbox/start.ts';
import { areaOf, Backings, findMapDirectory } from './backings.ts';
import { ServerLink } from './frames.ts';
import type { Frame } from './frames.ts';
import { MountKeeper } from './keeper.ts';
import type { BrokerOptions } from './options.ts';
import {
  failureOf,
  imageErrorText,
  imageSize,
  nonsense,
  openedOf,
  parseFrame,
  serverScript,
} from './server-words.ts';

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

function mountOptions(options: BrokerOptions): MountOptions {
  return {
    mountPoint: options.mountPoint,
    fsname: options.imagePath,
    subtype: 'ebb',
    readOnly: true,
    allowOther: options.allowOther,
    defaultPermissions: true,
  };
}

class Broker {
  readonly #image: OwnedFd;
  readonly #imageBytes: number;
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

  /** Takes the image over. `mapDirectory`: see `findMapDirectory`. */
  constructor(
    server: SandboxedServer,
    image: OwnedFd,
    imageBytes: number,
    mapDirectory: string | undefined,
  ) {
    this.#server = server;
    this.#image = image;
    this.#imageBytes = imageBytes;
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
        const failure = failureOf(payload);
        this.#failure = failure.message;
        this.#settleOpened.reject(failure);
        return this.#server.kill();
      }
      case FrameType.map:
        return this.#link.answer(this.#map(payload));
      case FrameType.unmap:
        return this.#backings?.close(numberIn(payload));
      case FrameType.ended:
        this.#isUnmounted = true;
        return this.#server.kill();
      default:
        throw ebbError('EPROTO', nonsense);
    }
  }

  #startBackings({ fileDescriptor }: Connection, opened: Opened): Backings | undefined {
    const { blockBytes, startBytes } = opened;
    const directory = this.#mapDirectory;
    if (directory === undefined || startBytes === undefined) return undefined;
    const area = areaOf(this.#imageBytes, blockBytes, startBytes);
    if (area === undefined) return undefined;
    return Backings.tryStart(fileDescriptor, this.#image.fd, area, directory);
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
    this.#image.close();
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

/** Mounts. Throws ENOENT, EACCES, EUCLEAN, EOPNOTSUPP, ...: nothing is mounted then. */
export async function serveImage(
  options: BrokerOptions,
  place: ServerPlace = { script: serverScript, args: [] },
): Promise<ImageMount> {
  const isPrivileged = hasCapability(Capability.sysAdmin);
  using opening = openFd(options.imagePath, OpenFlag.rdonly);
  const imageBytes = imageSize(opening.fd, options.imagePath);
  const mapDirectory = isPrivileged ? findMapDirectory(opening.fd, probeArea) : undefined;
  const request: ServerRequest = {
    imageBytes,
    offsetBytes: options.offsetBytes,
    partition: options.partition,
    mode: 'serve',
    passthrough: mapDirectory !== undefined,
  };
  const device = isPrivileged ? openDevice() : await mountUnprivileged(mountOptions(options));
  const deviceFd = device instanceof OwnedFd ? device.fd : device.fileDescriptor;
  let broker: Broker | undefined;
  try {
    // The server blocks in read(2): it has nothing to poll with.
    setNonblocking(deviceFd, false);
    const args = [JSON.stringify(request), ...place.args];
    const server = await startServer({
      ...place,
      args,
      deviceFd,
      imageFd: opening.fd,
    });
    broker = new Broker(server, new OwnedFd(opening.release()), imageBytes, mapDirectory);
    const opened = await openedInTime(broker);
    const connection = connect(device, options);
    setNonblocking(connection.fileDescriptor, false);
    broker.mounted(connection, opened);
    const { ended } = broker;
    return { opened, ended, stop: () => broker?.stop() };
  } catch (error) {
    broker?.giveUp(error);
    await broker?.ended;
    if (!(device instanceof OwnedFd)) await device.unmount({ lazy: true }).catch(() => undefined);
    device.close();
    throw error;
  }
}

/** With privileges the image is mounted only now, when it is known to be one. */
function connect(device: OwnedFd | Connection, options: BrokerOptions): Connection {
  return device instanceof OwnedFd ? mountOpenDevice(device, mountOptions(options)) : device;
}

async function openedInTime(broker: Broker): Promise<Opened> {
  const timer = setTimeout(
    () => broker.giveUp(ebbError('ETIMEDOUT', 'the image could not be opened in time')),
    openTimeoutMs,
  );
  try {
    return await broker.opened;
  } finally {
    clearTimeout(timer);
  }
}
