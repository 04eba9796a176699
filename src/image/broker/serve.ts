/**
 * An image mount from the broker's side: opens image and /dev/fuse, starts the server in its sandbox, mounts, waits.
 * The server parses; the broker never reads a byte of the image.
 *
 * Whatever happens to the server, the mount goes with it: it is not restarted, because what made it fail is still in
 * the image. Users of the mount get ECONNABORTED or ENOTCONN.
 */
import { fstatSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ebbError, toEbbError } from '../../base/errors.ts';
import type { ErrnoCode } from '../../base/errno.ts';
import { Errno } from '../../base/errno.ts';
import type { Connection, MountOptions } from '../../fuse/connection.ts';
import { mountOpenDevice, mountUnprivileged, openDevice } from '../../fuse/connection.ts';
import { openFd, OpenFlag, OwnedFd, setNonblocking } from '../../sys/fd.ts';
import { Capability, hasCapability } from '../../sys/process.ts';
import { FrameType } from '../messages.ts';
import type { Failed, Opened, ServerRequest } from '../messages.ts';
import type { SandboxedServer } from '../sandbox/start.ts';
import { startServer } from '../sandbox/start.ts';
import { ServerLink } from './frames.ts';
import type { Frame } from './frames.ts';
import { MountKeeper } from './keeper.ts';
import type { BrokerOptions } from './options.ts';

export const serverScript = fileURLToPath(new URL('../server/main.ts', import.meta.url));
const imageErrorText = 'The image cannot be mounted';
/** How long the server may take to open an image before it is given up. */
const openTimeoutMs = 60_000;

/** Of what the server says in words. */
const textMax = 1000;
const notesMax = 20;

export interface ImageMount {
  readonly opened: Opened;
  /** Resolves when nothing is mounted any more: why, for the log; undefined when it was unmounted. */
  readonly ended: Promise<string | undefined>;
  /** Takes the mount away, lazily. */
  stop(): void;
}

/** Size of a regular file; others have none that means anything. */
export function imageSize(fd: number, imagePath: string): number {
  const stat = fstatSync(fd);
  if (!stat.isFile()) throw ebbError('EINVAL', `${imagePath} is not a regular file.`);
  return stat.size;
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
  readonly #server: SandboxedServer;
  readonly #link: ServerLink;
  readonly opened: Promise<Opened>;
  readonly ended: Promise<string | undefined>;
  readonly #settleOpened: { resolve: (opened: Opened) => void; reject: (error: Error) => void };
  #connection: Connection | undefined;
  #keeper: MountKeeper | undefined;
  #failure: string | undefined;
  #isUnmounted = false;

  constructor(server: SandboxedServer) {
    this.#server = server;
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
  mounted(connection: Connection): void {
    this.#connection = connection;
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
        return this.#settleOpened.resolve(openedOf(parse(payload)));
      case FrameType.failed: {
        const { code, message } = parse(payload) as Partial<Failed>;
        this.#failure = `${imageErrorText}: ${String(message).slice(0, textMax)}`;
        const known = Object.hasOwn(Errno, String(code)) ? (code as ErrnoCode) : 'EIO';
        this.#settleOpened.reject(ebbError(known, this.#failure));
        return this.#server.kill();
      }
      case FrameType.map:
        return this.#link.answer(-Errno.EOPNOTSUPP);
      case FrameType.ended:
        this.#isUnmounted = true;
        return this.#server.kill();
      default:
        throw ebbError('EPROTO', 'The server of the image sends nonsense.');
    }
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
    connection?.close();
    this.#keeper?.[Symbol.dispose]();
    this.#settleOpened.reject(ebbError('EIO', `${imageErrorText}: ${this.#failure ?? how}.`));
    return this.#failure;
  }
}

/** JSON of a process that is not believed: an object, or EPROTO. Its fields are checked where they are used. */
function parse(payload: Uint8Array): object {
  try {
    const value: unknown = JSON.parse(Buffer.from(payload).toString());
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // As any other nonsense.
  }
  throw ebbError('EPROTO', 'The server of the image sends nonsense.');
}

/** Only what can be shown and counted with; the rest of what it says is dropped. */
function openedOf(value: object): Opened {
  const said = value as Readonly<Record<string, unknown>>;
  const text = (one: unknown): string => (typeof one === 'string' ? one.slice(0, textMax) : '');
  const notes = Array.isArray(said['notes']) ? said['notes'].slice(0, notesMax).map(text) : [];
  const { blockBytes, startBytes } = said;
  return {
    blockBytes: typeof blockBytes === 'number' ? blockBytes : 0,
    startBytes: typeof startBytes === 'number' ? startBytes : undefined,
    label: text(said['label']),
    uuid: text(said['uuid']),
    notes,
  };
}

/** Mounts. Throws ENOENT, EACCES, EUCLEAN, EOPNOTSUPP, ...: nothing is mounted then. */
export async function serveImage(options: BrokerOptions): Promise<ImageMount> {
  if (options.native) throw ebbError('EOPNOTSUPP', 'Native mounts of images are not there yet.');
  if (options.partition !== undefined) {
    throw ebbError('EOPNOTSUPP', 'Partitions of images are not read yet: use offset=.');
  }
  using image: OwnedFd = openFd(options.imagePath, OpenFlag.rdonly);
  const request: ServerRequest = {
    imageBytes: imageSize(image.fd, options.imagePath),
    offsetBytes: options.offsetBytes,
    partition: options.partition,
    mode: 'serve',
    passthrough: false,
  };
  const isPrivileged = hasCapability(Capability.sysAdmin);
  const device = isPrivileged ? openDevice() : await mountUnprivileged(mountOptions(options));
  const deviceFd = device instanceof OwnedFd ? device.fd : device.fileDescriptor;
  let broker: Broker | undefined;
  try {
    // The server blocks in read(2): it has nothing to poll with.
    setNonblocking(deviceFd, false);
    const args = [JSON.stringify(request)];
    const server = await startServer({
      script: serverScript,
      args,
      deviceFd,
      imageFd: image.fd,
    });
    broker = new Broker(server);
    const opened = await openedInTime(broker);
    const connection = connect(device, options);
    setNonblocking(connection.fileDescriptor, false);
    broker.mounted(connection);
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
