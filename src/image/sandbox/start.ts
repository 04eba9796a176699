/**
 * Starts a server in its sandbox: namespaces by unshare(1) and setpriv(1) of util-linux, the rest by enter.ts, and the
 * gate of filter.ts, which is held open here until the server has loaded its code. All of it but the gate can be on its
 * way before it is known what the server is to do (`launchServer`).
 */
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readFileSync, readSync, statSync, writeSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Errno } from '../../base/errno.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { PollEvent, PollSet } from '../../sys/poll.ts';
import { continueOne, takeTurns } from '../../sys/seccomp.ts';
import { receiveFd, socketPair } from '../../sys/socket.ts';
import {
  codeCacheDirectory,
  codeCacheStateFile,
  claimedCodeCache,
  enterScript,
  forgetCodeCache,
  isWholeCodeCache,
  serverScript,
} from './code-cache.ts';
import { openFd, OpenFlag } from '../../sys/fd.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { sendTask } from './handover.ts';
import type { Task } from './handover.ts';
import { closedByte, loadedByte } from './inherited.ts';
import { codeCacheEnvironment, launcherFlags } from './node-flags.ts';

/** Nobody; what it may read is what everybody may read. */
const nobody = 65_534;
/** Two Nodes start, on a machine that may be busy. */
const startTimeoutMs = 60_000;
const pollMs = 2;
/** The gate looks at the clock this often. */
const gatePollMs = 1000;
const refusalTextMax = 200;

/** What is known before the image is. */
export interface LaunchOptions {
  readonly script: string;
  /** Default true: false where namespaces turned out to be impossible. */
  readonly namespaces?: boolean;
  /** For tests: a directory that Landlock lets the server load code from, too. */
  readonly scripts?: string;
  /** Where its standard output and error go. Default: the broker's. */
  readonly output?: 'inherit' | 'ignore' | number;
}

export interface ServerOptions extends LaunchOptions, Task {
  /** What `launchServer` gave for these options. Default: it is launched now. */
  readonly launched?: Launched | undefined;
}

/** A running server. Disposing kills it. */
export class SandboxedServer implements Disposable {
  readonly child: ChildProcess;
  /** Our end of the socket pair. */
  readonly socket: OwnedFd;
  /** How it ended, for people. */
  readonly ended: Promise<string>;
  /** What was not as it should be about its start, for people. */
  notes: readonly string[] = [];

  constructor(child: ChildProcess, socket: OwnedFd, ended: Promise<string>) {
    this.child = child;
    this.socket = socket;
    this.ended = ended;
  }

  /** The kernel kills the rest of the chain with the first process of it. */
  kill(): void {
    this.child.kill('SIGKILL');
  }

  [Symbol.dispose](): void {
    this.kill();
    this.socket.close();
  }
}

/** Whether every user can read `file`: every directory above it lets them through. */
function isPublic(file: string): boolean {
  for (let directory = path.dirname(file); ; directory = path.dirname(directory)) {
    if ((statSync(directory).mode & 0o001) === 0) return false;
    if (directory === path.dirname(directory)) break;
  }
  return (statSync(file).mode & 0o004) !== 0;
}

interface Program {
  readonly enter: string;
  readonly server: string;
  readonly environment: Readonly<Record<string, string>>;
  /** undefined: the sources are run. */
  readonly cache?: { readonly directory: string; readonly inode: number | undefined };
}

/** undefined also when it lies where we may not look, as in the home directory of who has changed to another user. */
function inodeOf(file: string): number | undefined {
  try {
    return statSync(file, { throwIfNoEntry: false })?.ino;
  } catch {
    return undefined;
  }
}

/** What to run where there is no code cache. */
function sourcesOf(script: string): Program {
  return { enter: enterScript.source, server: script, environment: {} };
}

/** What to run: from the code cache, if there is one that the server, whoever it becomes, can read. */
function programOf(script: string): Program {
  const directory = codeCacheDirectory();
  // Before it is looked at: see `isReplaced`.
  const inode = directory === undefined ? undefined : inodeOf(directory);
  const cache = claimedCodeCache();
  const isReadable =
    cache !== undefined && (process.geteuid?.() !== 0 || isPublic(codeCacheStateFile(cache)));
  if (!isReadable) return sourcesOf(script);
  return {
    enter: path.join(cache, enterScript.name),
    // Tests have servers of their own.
    server: script === serverScript.source ? path.join(cache, serverScript.name) : script,
    environment: codeCacheEnvironment(cache),
    cache: { directory: cache, inode },
  };
}

/** A power cut may leave empty files. */
function isWhole({ cache }: Program): boolean {
  return cache === undefined || isWholeCodeCache(cache.directory);
}

/** A cache is replaced as a whole, and another version of Ebb may have put its code there. */
function isReplaced({ cache }: Program): boolean {
  return cache !== undefined && inodeOf(cache.directory) !== cache.inode;
}

/** Whether there is such a user and such a group: a user namespace that somebody without rights made has only root. */
function knowsNobody(): boolean {
  return ['uid_map', 'gid_map'].every((map) =>
    readFileSync(`/proc/self/${map}`, 'latin1')
      .trimEnd()
      .split('\n')
      .some((line) => {
        const [first = 0, , count = 0] = line.trim().split(/\s+/).map(Number);
        return first <= nobody && nobody < first + count;
      }),
  );
}

/** What stands before Node on the command line. */
function confinement(
  options: Pick<ServerOptions, 'namespaces'>,
  files: readonly string[],
): string[] {
  const identity =
    process.geteuid?.() === 0 && knowsNobody() && files.every((file) => isPublic(file))
      ? [`--reuid=${nobody}`, `--regid=${nobody}`, '--clear-groups']
      : [];
  const words = ['setpriv', '--pdeathsig=KILL', ...identity, '--'];
  if (options.namespaces === false) return words;
  return [
    ...words,
    'unshare',
    '--user',
    `--map-user=${nobody}`,
    `--map-group=${nobody}`,
    // For enter.ts, which gives them up; no process outside of the namespaces has to fear them.
    '--keep-caps',
    '--mount',
    '--net',
    '--ipc',
    '--uts',
    '--cgroup',
    '--pid',
    '--fork',
    '--kill-child=KILL',
    '--',
  ];
}

/** A server on its way, which waits for its task. Whoever gives it none disposes of the server. */
export interface Launched {
  readonly server: SandboxedServer;
  readonly program: Program;
}

/**
 * Resolves when the server has loaded its code and the gate behind it is closed. Without namespaces where unshare(1)
 * gives none (the filter alone holds everything that the tests try); whatever else ends a start is tried once more,
 * from the sources, and then an EIO with how it ended. `notes` says either. A code cache from which a start failed that
 * then succeeds without it is made anew.
 */
export async function startServer(options: ServerOptions): Promise<SandboxedServer> {
  const launched = wholeOr(options.launched ?? launchServer(options), options);
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

/** One from the sources instead of one from a cache that is not whole. It knows nothing of the image yet. */
function wholeOr(launched: Launched, options: LaunchOptions): Launched {
  if (isWhole(launched.program)) return launched;
  launched.server[Symbol.dispose]();
  return launchServer(options, sourcesOf(options.script));
}

/** Its process is there when this returns. */
export function launchServer(
  options: LaunchOptions,
  program: Program = programOf(options.script),
): Launched {
  const [ours, theirs] = socketPair();
  using socket = theirs;
  // Numbers that are taken, so that Node opens nothing there: handover.ts.
  using nothing = openFd('/dev/null', OpenFlag.rdwr);
  const { enter, server: script, environment } = program;
  const [command = 'setpriv', ...words] = confinement(options, [
    process.execPath,
    enterScript.source,
  ]);
  const output = options.output ?? 'inherit';
  const child = spawn(command, [...words, process.execPath, ...launcherFlags, enter, script], {
    cwd: '/',
    env: {
      EBB_SANDBOX_NAMESPACES: options.namespaces === false ? '0' : '1',
      PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin',
      ...environment,
      ...(options.scripts === undefined ? {} : { EBB_SANDBOX_SCRIPTS: options.scripts }),
    },
    stdio: ['ignore', output, output, nothing.fd, nothing.fd, socket.fd, nothing.fd],
  });
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
  return { server: new SandboxedServer(child, ours, ended), program };
}

async function startOnce(task: Task, { server, program }: Launched): Promise<SandboxedServer> {
  const { socket, ended } = server;
  try {
    sendTask(socket.fd, task);
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

/** Throws ECONNRESET when it ended before. */
async function receiveListener(socketFd: number): Promise<OwnedFd> {
  const giveUpAt = performance.now() + startTimeoutMs;
  while (performance.now() < giveUpAt) {
    const listener = receiveFd(socketFd);
    if (listener !== undefined) return listener;
    await sleep(pollMs);
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
