/**
 * Starts serve.ts as a process of its own and talks to it. The test itself never serves what it
 * looks at.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { patience } from '../support/patience.ts';
import { run } from '../support/run.ts';
import type { ChildProcess } from 'node:child_process';
import type { ServeRequest } from './serve.ts';

/** An empty directory in `directory` to mount on. */
export async function mountPointIn(directory: { readonly path: string }): Promise<string> {
  const mountPoint = path.join(directory.path, 'mount');
  await mkdir(mountPoint);
  return mountPoint;
}

/** The lines of the mount table about `mountPoint`, as the process sees them. */
export async function stateOf(mountPoint: string, pid: number | 'self' = 'self'): Promise<string> {
  const lines = (await readFile(`/proc/${pid}/mountinfo`, 'utf8')).split('\n');
  return lines.filter((line) => line.includes(` ${mountPoint} `)).join('\n');
}

export interface ServerEvent {
  readonly event: string;
  readonly [detail: string]: unknown;
}

const eventTimeoutMs = patience * 15_000;
const exitTimeoutMs = patience * 10_000;

function becoming(uid: number): string[] {
  return ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
}

/**
 * The start of a command line that becomes another user, in a mount namespace of its own where
 * /dev/fuse is open to everybody, as udev makes it; a container or a bare virtual machine may have
 * it closed.
 */
function asUser(uid: number, directory: string): string[] {
  const script =
    'mkdir "$0" && mount -t tmpfs none "$0" && mknod -m 666 "$0/fuse" c 10 229 && ' +
    'mount --bind "$0/fuse" /dev/fuse && exec "$@"';
  const device = path.join(directory, 'device');
  const namespace = ['unshare', '--mount', '--propagation', 'private'];
  return [...namespace, 'sh', '-c', script, device, ...becoming(uid)];
}

export class ServerProcess implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly events: ServerEvent[] = [];
  readonly #waiting = new Set<() => void>();
  readonly #mountPoint: string;
  readonly #uid: number;
  #stderr = '';

  /** `user`: run it as that uid, with no privileges. */
  constructor(request: ServeRequest, uid?: number) {
    this.#mountPoint = request.mountPoint;
    const script = path.join(import.meta.dirname, 'serve.ts');
    const command = [process.execPath, script, JSON.stringify(request)];
    const prefix = uid === undefined ? [] : asUser(uid, path.dirname(request.mountPoint));
    const [program = '', ...args] = [...prefix, ...command];
    this.#uid = uid ?? 0;
    this.child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], cwd: '/' });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#stderr += text));
    this.child.stdin?.on('error', () => undefined);
    this.child.on('close', () => this.#wake());
    if (this.child.stdout !== null) {
      createInterface({ input: this.child.stdout }).on('line', (line) => {
        this.events.push(JSON.parse(line) as ServerEvent);
        this.#wake();
      });
    }
  }

  /** Starts it and waits until INIT was answered. */
  static async start(request: ServeRequest, uid?: number): Promise<ServerProcess> {
    const server = new ServerProcess(request, uid);
    try {
      await server.event('connected');
      return server;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** Parameters of nsenter(1) to run a program as the server's user, where its mount is seen. */
  get inside(): string[] {
    return [`--target=${this.child.pid}`, '--mount', ...becoming(this.#uid)];
  }

  get connectionNumber(): number {
    return Number(this.events.find(({ event }) => event === 'serving')?.connection);
  }

  /** The first event of that name (and message), now or later. */
  async event(name: string, message?: string): Promise<ServerEvent> {
    const deadline = AbortSignal.timeout(eventTimeoutMs);
    for (;;) {
      const found = this.events.find(
        (event) => event.event === name && (message === undefined || event.message === message),
      );
      if (found !== undefined) return found;
      const isOver = this.child.exitCode !== null || this.child.signalCode !== null;
      if (isOver || deadline.aborted) {
        const why = isOver ? 'the server ended' : 'timeout';
        throw new Error(`no "${name} ${message ?? ''}": ${why}\n${this.#stderr}`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 1000);
        this.#waiting.add(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  send(command: string): void {
    this.child.stdin?.write(`${command}\n`);
  }

  /** Waits for the process to end; its exit code or signal. */
  async exit(): Promise<number | string | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      await once(this.child, 'exit', { signal: AbortSignal.timeout(exitTimeoutMs) });
    }
    return this.child.exitCode ?? this.child.signalCode;
  }

  /** Ends the server, which frees whoever hangs on the mount, then unmounts. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exit();
    await run('umount', ['--lazy', this.#mountPoint], { timeoutMs: 10_000 });
  }

  #wake(): void {
    for (const resume of this.#waiting) resume();
    this.#waiting.clear();
  }
}
