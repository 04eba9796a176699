/**
 * The broker once its server runs: takes what the server says, none of which is believed, and sees to it that server
 * and mount end together.
 */
import { ebbError, toEbbError } from '../../base/errors.ts';
import { Errno } from '../../base/errno.ts';
import type { Connection } from '../../fuse/connection.ts';
import { openFd, OpenFlag } from '../../sys/fd.ts';
import { uniqueMountId } from '../../sys/stat.ts';
import { decodeMapRequest, FrameType, mountedAnswer } from '../messages.ts';
import type { Opened } from '../messages.ts';
import type { SandboxedServer } from '../sandbox/launch.ts';
import { areaOf, Backings } from './backings.ts';
import { ComputingWatch } from './computing-watch.ts';
import { ServerLink } from './frames.ts';
import type { Frame } from './frames.ts';
import type { MountKeeper } from './keeper.ts';
import type { RecallDesk } from './recall-desk.ts';
import { failureOf, imageErrorText, nonsense, openedOf, parseFrame } from './server-words.ts';
import type { ImageSource } from './source.ts';

/** Files below this size are read in one request, at most. */
const readAheadBytes = 1024 * 1024;
/** How long a server may take to die. One that waits for a disk cannot: then the mount ends without it. */
const dyingMaxMs = 3000;

export class Broker {
  readonly #source: ImageSource;
  readonly #desk: RecallDesk | undefined;
  readonly #mapDirectory: string | undefined;
  readonly #server: SandboxedServer;
  readonly #link: ServerLink;
  readonly #keeper: MountKeeper;
  readonly opened: Promise<Opened>;
  readonly ended: Promise<string | undefined>;
  readonly #settleOpened: { resolve: (opened: Opened) => void; reject: (error: Error) => void };
  #connection: Connection | undefined;
  /** `topMount` of the mount point; undefined: unknown, or not mounted yet. */
  #mountId: bigint | undefined;
  #watch: ComputingWatch | undefined;
  #backings: Backings | undefined;
  #failure: string | undefined;
  #isUnmounted = false;
  /** How it died once it was killed; undefined: it does not. */
  #died: Promise<string | undefined> | undefined;

  /** `desk`: of a remote image. `mapDirectory`: see `findMapDirectory`. Closes source and desk, and ends the keeper. */
  constructor(
    server: SandboxedServer,
    source: ImageSource,
    keeper: MountKeeper,
    desk: RecallDesk | undefined,
    mapDirectory: string | undefined,
  ) {
    this.#server = server;
    this.#source = source;
    this.#keeper = keeper;
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

  /** The server may serve. `computingMaxMs`: see `ComputingWatch`. */
  mounted(connection: Connection, opened: Opened, computingMaxMs?: number): void {
    this.#connection = connection;
    this.#mountId = topMount(connection.mountPoint);
    this.#backings = this.#startBackings(connection, opened);
    this.#keeper.keep(connection);
    const { pid = 0 } = this.#server.child;
    this.#watch = new ComputingWatch(pid, (stuck) => this.giveUp(stuck), computingMaxMs);
    const { mapped, plain } = mountedAnswer;
    this.#link.answer(this.#backings === undefined ? plain : mapped);
  }

  stop(): void {
    // What lies over it is not ours to take away; without its server it is of no use below.
    if (this.#connection === undefined || !this.#isOnTop()) return void this.#kill();
    this.#connection.unmount({ lazy: true }).catch((error: unknown) => {
      this.#failure ??= toEbbError(error).message;
      void this.#kill();
    });
  }

  /** Ends it all: something else failed. */
  giveUp(error: unknown): void {
    this.#failure ??= toEbbError(error).message;
    void this.#kill();
  }

  #kill(): Promise<string | undefined> {
    this.#server.kill();
    this.#died ??= this.#server.endedWithin(dyingMaxMs).finally(() => this.#link.close());
    return this.#died;
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
        return void this.#kill();
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
        return void this.#kill();
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
    this.#watch?.[Symbol.dispose]();
    const how = (await this.#kill()) ?? 'it waits for the disk of the image';
    const connection = this.#connection;
    if (connection !== undefined) await this.#takeAway(connection, how);
    this.#backings?.[Symbol.dispose]();
    connection?.close();
    this.#source.image.close();
    this.#desk?.[Symbol.dispose]();
    this.#keeper[Symbol.dispose]();
    this.#settleOpened.reject(ebbError('EIO', `${imageErrorText}: ${this.#failure ?? how}.`));
    return this.#failure;
  }

  /**
   * The server is gone, and the mount goes with it. That it was unmounted is not the server's to say: it hears the same
   * when somebody has cut the connection, and may say anything. What lies over our mount meanwhile is not ours to take;
   * that one, and one that was detached, end when the connection is closed.
   */
  async #takeAway(connection: Connection, how: string): Promise<void> {
    if (!this.#isUnmounted) this.#failure ??= `the server of the image died (${how})`;
    if (!this.#isOnTop()) return;
    this.#failure ??= 'the connection of the mount was cut';
    // Who waits for an answer is let go, and the directory is free again.
    await connection.abort().catch(() => undefined);
    // That may have taken it away already.
    if (this.#isOnTop()) await connection.unmount({ lazy: true }).catch(() => undefined);
  }

  /** Whether an unmount of the mount point would take away our mount. */
  #isOnTop(): boolean {
    const connection = this.#connection;
    if (connection === undefined) return false;
    if (this.#mountId === undefined) return !this.#isUnmounted;
    return topMount(connection.mountPoint) === this.#mountId;
  }
}

/** Which mount is on top of a directory; the kernel alone is asked. undefined: it cannot be told. */
function topMount(directory: string): bigint | undefined {
  try {
    using root = openFd(directory, OpenFlag.path | OpenFlag.directory);
    return uniqueMountId(root.fd);
  } catch {
    return undefined;
  }
}

/** One f64; anything else is no id of ours. */
function numberIn(payload: Uint8Array): number {
  if (payload.length !== 8) return 0;
  return new DataView(payload.buffer, payload.byteOffset, 8).getFloat64(0, true);
}
