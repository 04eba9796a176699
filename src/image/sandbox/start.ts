/**
 * Starts a server in its sandbox: launch.ts, then the gate of filter.ts, which is held open here until the server has
 * loaded its code. All of it but the gate can be on its way before it is known what the server is to do
 * (`launchServer`).
 */
import { execFile } from 'node:child_process';
import { readSync, writeSync } from '../../base/node-fs.ts';
import { setImmediate } from 'node:timers/promises';
import { Errno } from '../../base/errno.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { PollEvent, PollSet } from '../../sys/poll.ts';
import { continueOne, takeTurns } from '../../sys/seccomp.ts';
import { receiveFd } from '../../sys/socket.ts';
import { enterScript, forgetCodeCache } from './code-cache.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { sendTask } from './handover.ts';
import type { Task } from './handover.ts';
import { closedByte, loadedByte } from './inherited.ts';
import { confinement, inodeOf, launchServer, sourcesOf } from './launch.ts';
import type { Launched, LaunchOptions, Program, SandboxedServer } from './launch.ts';

/** Two Nodes start, on a machine that may be busy. */
const startTimeoutMs = 60_000;
/** Who waits here looks at the clock this often. */
const gatePollMs = 1000;
const refusalTextMax = 200;

export interface ServerOptions extends LaunchOptions, Task {
  /** What `launchServer` gave for these options. Default: it is launched now. */
  readonly launched?: Launched | undefined;
  /** What the caller does meanwhile: after it this thread is blocked until the server has loaded its code. */
  readonly beside?: Promise<unknown>;
}

/** A cache is replaced as a whole, and another version of Ebb may have put its code there. */
function isReplaced({ cache }: Program): boolean {
  return cache !== undefined && inodeOf(cache.directory) !== cache.inode;
}

/**
 * Resolves when the server has loaded its code and the gate behind it is closed. Without namespaces where unshare(1)
 * gives none (the filter alone holds everything that the tests try); whatever else ends a start is tried once more,
 * from the sources, and then an EIO with how it ended. `notes` says either. A code cache from which a start failed that
 * then succeeds without it is made anew.
 */
export async function startServer(options: ServerOptions): Promise<SandboxedServer> {
  const launched = options.launched ?? launchServer(options);
  const { program } = launched;
  try {
    return await startOnce(options, launched);
  } catch (error) {
    const refusal = options.namespaces === false ? undefined : await namespacesRefused();
    if (refusal !== undefined) {
      const server = await startServer({ ...options, namespaces: false, launched: undefined });
      const note = `The server of the image runs without namespaces, which this system refuses: ${refusal}.`;
      server.notes = [note, ...server.notes];
      return server;
    }
    const server = await startOnce(options, launchServer(options, sourcesOf(options.script)));
    if (program.cache !== undefined && !isReplaced(program)) {
      forgetCodeCache(program.cache.directory);
    }
    server.notes = [`${toEbbError(error).message} It was started again.`];
    return server;
  }
}

/**
 * Why unshare(1) gives no namespaces: a container, a careful system. undefined: it does, so that something else has
 * ended a start; a sandbox does not become weaker by that.
 */
async function namespacesRefused(): Promise<string | undefined> {
  const [command = 'setpriv', ...words] = confinement({}, [process.execPath, enterScript.source]);
  const options = { cwd: '/', timeout: startTimeoutMs, killSignal: 'SIGKILL' } as const;
  return new Promise((resolve) => {
    execFile(command, [...words, 'true'], options, (error, _stdout, stderr) => {
      // Killed, or too late: nobody has refused anything.
      const isRefused =
        error !== null && (typeof error.code === 'number' || error.code === 'ENOENT');
      const said = stderr.trim().split('\n').at(-1)?.slice(0, refusalTextMax);
      resolve(isRefused ? said || error.message : undefined);
    });
  });
}

async function startOnce(
  options: ServerOptions,
  { server, program }: Launched,
): Promise<SandboxedServer> {
  const { socket, ended } = server;
  try {
    sendTask(socket.fd, options);
    await Promise.allSettled([options.beside]);
    using listener = await receiveListener(socket.fd);
    takeTurns(listener.fd);
    passGate(listener.fd, socket.fd);
    if (isReplaced(program)) throw ebbError('EIO', 'its code was replaced while it was loaded');
  } catch (error) {
    server[Symbol.dispose]();
    const how = await ended;
    throw ebbError('EIO', `The server of the image did not start: ${how}.`, { cause: error });
  }
  writeSync(socket.fd, Uint8Array.of(closedByte));
  return server;
}

/** Throws ECONNRESET when it ended before. Blocks this thread, for a second at most at a time. */
async function receiveListener(socketFd: number): Promise<OwnedFd> {
  const waiting = new PollSet([{ fd: socketFd, events: PollEvent.in }]);
  const giveUpAt = performance.now() + startTimeoutMs;
  while (performance.now() < giveUpAt) {
    const listener = receiveFd(socketFd);
    if (listener !== undefined) return listener;
    waiting.wait(gatePollMs);
    await setImmediate();
  }
  throw ebbError('ETIMEDOUT', 'The server of the image did not start in time.');
}

/**
 * Lets the server do what it needs to load its code, until it says that it has: the caller closes the listener then.
 * Blocks this thread for as long (two tenths of a second).
 */
function passGate(listenerFd: number, socketFd: number): void {
  const waiting = new PollSet([
    { fd: listenerFd, events: PollEvent.in },
    { fd: socketFd, events: PollEvent.in },
  ]);
  const giveUpAt = performance.now() + startTimeoutMs;
  while (performance.now() < giveUpAt) {
    const ready = waiting.wait(gatePollMs);
    if (ready < 0 && ready !== -Errno.EINTR) break;
    if ((waiting.ready(0) & PollEvent.in) !== 0) continueOne(listenerFd);
    else if (waiting.ready(1) !== 0) {
      const byte = new Uint8Array(1);
      if (readSync(socketFd, byte) === 1 && byte[0] === loadedByte) return;
      break;
    } else if (waiting.ready(0) !== 0) break;
  }
  throw ebbError('EIO', 'The server of the image died while it was loading.');
}
