/**
 * The process that becomes a server, on its way: namespaces by unshare(1) and setpriv(1) of util-linux, the rest by
 * enter.ts, which waits for a task then (start.ts). Everything after it waits for this, so it needs few modules.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readFileSync, statSync } from '../../base/node-fs.ts';
import path from 'node:path';
import { endOf } from '../../base/child-end.ts';
import { openFd, OpenFlag } from '../../sys/fd.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { socketPair } from '../../sys/socket.ts';
import {
  codeCacheDirectory,
  codeCacheStateFile,
  currentCodeCache,
  enterScript,
  serverScript,
} from './code-cache.ts';
import { codeCacheEnvironment, launcherFlags } from './node-flags.ts';

/** Nobody; what it may read is what everybody may read. */
const nobody = 65_534;

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

  /**
   * `ended`; undefined after `timeoutMs`: what waits for a disk that does not answer cannot be killed. Nobody waits for
   * it any more then, nor does this process when it wants to end.
   */
  async endedWithin(timeoutMs: number): Promise<string | undefined> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => resolve(undefined), timeoutMs);
    try {
      const how = await Promise.race([this.ended, promise]);
      if (how === undefined) this.child.unref();
      return how;
    } finally {
      clearTimeout(timer);
    }
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

export interface Program {
  readonly enter: string;
  readonly server: string;
  readonly environment: Readonly<Record<string, string>>;
  /** undefined: the sources are run. */
  readonly cache?: { readonly directory: string; readonly inode: number | undefined };
}

/** undefined also when it lies where we may not look, as in the home directory of who has changed to another user. */
export function inodeOf(file: string): number | undefined {
  try {
    return statSync(file, { throwIfNoEntry: false })?.ino;
  } catch {
    return undefined;
  }
}

/** What to run where there is no code cache. */
export function sourcesOf(script: string): Program {
  return { enter: enterScript.source, server: script, environment: {} };
}

/** What to run: from the code cache, if there is one that the server, whoever it becomes, can read. */
function programOf(script: string): Program {
  const directory = codeCacheDirectory();
  // Before it is looked at: see `isReplaced`.
  const inode = directory === undefined ? undefined : inodeOf(directory);
  const cache = currentCodeCache();
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
export function confinement(
  options: Pick<LaunchOptions, 'namespaces'>,
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
  const ended = endOf(child).then(({ how }) => how);
  return { server: new SandboxedServer(child, ours, ended), program };
}
