/** One mount for a mount program: the image's server in its sandbox, and nobody with rights. */
import { ebbError, toEbbError } from '../../base/errors.ts';
import { setNonblocking } from '../../sys/fd.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { MountFlag } from '../../sys/mount.ts';
import { ComputingWatch } from '../broker/computing-watch.ts';
import { ServerLink } from '../broker/frames.ts';
import { failureOf, nonsense } from '../broker/server-words.ts';
import { openSource } from '../broker/source.ts';
import type { ImageSource } from '../broker/source.ts';
import { FrameType, mountedAnswer } from '../messages.ts';
import type { ServerRequest } from '../messages.ts';
import { refreshCodeCache, serverScript } from '../sandbox/code-cache.ts';
import { startServer } from '../sandbox/start.ts';
import type { SandboxedServer } from '../sandbox/launch.ts';
import type { MountProgram } from './mount-program.ts';
import { parseServiceWords } from './words.ts';

const flags = MountFlag.rdonly | MountFlag.nosuid | MountFlag.nodev;
/** How long the server may take to open an image before it is given up. */
const openTimeoutMs = 60_000;

/** Resolves when nothing is mounted any more: why, undefined when it was unmounted. Throws before it is mounted. */
export async function serveForMountProgram(program: MountProgram): Promise<string | undefined> {
  const { words, device } = program.greet();
  using server = await start(program, words, device);
  const served = new ServedMount(server.running);
  await served.opened;
  const { image: source, mountPoint, allowOther } = server.options;
  const options = `default_permissions${allowOther ? ',allow_other' : ''}`;
  program.mount({ source, mountPoint, options, flags });
  served.mounted();
  program.bye(0);
  refreshCodeCache();
  return await served.ended;
}

interface Started extends Disposable {
  readonly options: ReturnType<typeof parseServiceWords>;
  readonly running: SandboxedServer;
}

/** Afterwards the server alone holds the image and /dev/fuse: when it dies, the mount's users are told at once. */
async function start(
  program: MountProgram,
  words: readonly string[],
  device: OwnedFd,
): Promise<Started> {
  using fuse = device;
  // The server blocks in read(2): it has nothing to poll with.
  setNonblocking(fuse.fd, false);
  const options = parseServiceWords(words);
  const source: ImageSource = openSource(options.image, program.open(options.image));
  using image = source.image;
  const { offsetBytes, partition, journal } = options;
  const request: ServerRequest = {
    imageBytes: source.imageBytes,
    offsetBytes,
    partition,
    journal,
    mode: 'serve',
  };
  const running = await startServer({
    script: serverScript.source,
    args: [JSON.stringify(request)],
    deviceFd: fuse.fd,
    imageFd: image.fd,
  });
  return { options, running, [Symbol.dispose]: () => running.kill() };
}

/** What the server says, none of which is believed. */
class ServedMount {
  readonly opened: Promise<void>;
  readonly ended: Promise<string | undefined>;
  readonly #link: ServerLink;
  readonly #server: SandboxedServer;
  #watch: ComputingWatch | undefined;
  #failure: string | undefined;
  #isUnmounted = false;

  constructor(server: SandboxedServer) {
    this.#server = server;
    const opened = Promise.withResolvers<void>();
    const late = ebbError('ETIMEDOUT', 'the image could not be opened in time');
    const timer = setTimeout(() => this.#giveUp(late), openTimeoutMs);
    this.opened = opened.promise.finally(() => clearTimeout(timer));
    const closed = Promise.withResolvers<void>();
    const take = (type: number, payload: Uint8Array): void => {
      if (type === FrameType.opened) opened.resolve();
      else if (type === FrameType.failed) this.#giveUp(failureOf(payload));
      else if (type === FrameType.ended) {
        this.#isUnmounted = true;
        server.kill();
      } else if (type !== FrameType.serving) throw ebbError('EPROTO', nonsense);
    };
    this.#link = new ServerLink(
      server.socket.release(),
      (frame) => take(frame.type, frame.payload),
      (error) => {
        if (error !== undefined) this.#failure ??= error.message;
        closed.resolve();
      },
    );
    this.ended = closed.promise.then(async () => {
      this.#watch?.[Symbol.dispose]();
      server.kill();
      const how = await server.ended;
      const why = this.#failure ?? `the server of the image died (${how})`;
      opened.reject(ebbError('EIO', why));
      return this.#isUnmounted ? undefined : why;
    });
  }

  /** The server may serve. */
  mounted(): void {
    this.#watch = new ComputingWatch(this.#server.child.pid ?? 0, (stuck) => this.#giveUp(stuck));
    this.#link.answer(mountedAnswer.plain);
  }

  #giveUp(error: unknown): void {
    this.#failure ??= toEbbError(error).message;
    this.#server.kill();
  }
}
