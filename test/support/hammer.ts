/** The C program that reads through a mount and compares (test/probes/hammer.c), as a child to talk to. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { patience } from './patience.ts';
import { killAtExit, killGroup } from './run.ts';

/** What a stress run saw. `errors` counts by errno; `wrong` says where a wrong byte was. */
export interface HammerReport {
  readonly reads: number;
  readonly bytes: number;
  readonly errors: Readonly<Record<string, number>>;
  readonly wrong?: string;
}

export interface Stress extends AsyncDisposable {
  /** Asks the readers to end and gives their reports; SIGKILL after `timeoutMs` makes it throw. */
  stop(timeoutMs?: number): Promise<HammerReport[]>;
  /** Waits until their time is over. */
  finish(timeoutMs: number): Promise<HammerReport[]>;
  /** True as soon as a reader has ended by itself: it saw a wrong byte, or failed. */
  readonly hasEnded: boolean;
}

export interface StressOptions {
  readonly helper: string;
  readonly mount: string;
  readonly source: string;
  /** Files, relative to both. No newlines. */
  readonly names: readonly string[];
  readonly readers: number;
  readonly seconds: number;
  readonly seed: number;
  readonly uid?: number;
  readonly gid?: number;
}

/** Starts `readers` processes that read random files in random ways. */
export function startStress(options: StressOptions): Stress {
  const children = Array.from({ length: options.readers }, (_unused, index) =>
    startReader(options, index),
  );
  const all = async (timeoutMs: number): Promise<HammerReport[]> => {
    const timer = setTimeout(
      () => children.forEach((child) => killGroup(child.process)),
      patience * timeoutMs,
    );
    try {
      return await Promise.all(children.map((child) => child.report));
    } finally {
      clearTimeout(timer);
    }
  };
  return {
    async stop(timeoutMs = 20_000) {
      for (const child of children) child.process.kill('SIGTERM');
      return all(timeoutMs);
    },
    finish: (timeoutMs) => all(timeoutMs),
    get hasEnded() {
      return children.some((child) => child.process.exitCode !== null);
    },
    async [Symbol.asyncDispose]() {
      for (const child of children) killGroup(child.process);
      await Promise.allSettled(children.map((child) => child.report));
    },
  };
}

interface Reader {
  readonly process: ChildProcess;
  readonly report: Promise<HammerReport>;
}

function startReader(options: StressOptions, index: number): Reader {
  const seed = String(options.seed * 1000 + index + 1);
  const { mount, source, seconds } = options;
  const child = spawn(options.helper, ['stress', seed, String(seconds), mount, source], {
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
    uid: options.uid,
    gid: options.gid,
  });
  killAtExit(child);
  child.stdin.on('error', () => {});
  child.stdin.end(`${options.names.join('\n')}\n`);
  const said: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (bytes: Buffer) => said.push(bytes));
  }
  const report = new Promise<HammerReport>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      const text = Buffer.concat(said).toString();
      // Told to end before it had begun.
      if (signal === 'SIGTERM' && text === '') resolve({ reads: 0, bytes: 0, errors: {} });
      else if (code === 0 || code === 9) resolve(JSON.parse(text) as HammerReport);
      else reject(new Error(`a reader ended with ${signal ?? code} (stuck in a read?): ${text}`));
    });
  });
  report.catch(() => {});
  return { process: child, report };
}

/** One reader that does what it is told, a line at a time. */
export class ServingHammer implements Disposable {
  readonly #child: ChildProcess;
  readonly #waiting: { resolve: (line: string) => void; reject: (error: Error) => void }[] = [];
  #failure: Error | undefined;

  constructor(helper: string) {
    const child = spawn(helper, ['serve'], { stdio: ['pipe', 'pipe', 'inherit'], detached: true });
    killAtExit(child);
    this.#child = child;
    child.stdin.on('error', () => {});
    createInterface({ input: child.stdout }).on('line', (line) =>
      this.#waiting.shift()?.resolve(line),
    );
    child.once('close', (code, signal) => this.#fail(`the reader ended with ${signal ?? code}`));
  }

  /** Sends a command; resolves with its answer. Rejects, and ends the reader, when none comes in `timeoutMs`. */
  ask(command: string, timeoutMs = 30_000): Promise<string> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#fail(`no answer to "${command}" in ${timeoutMs} ms`);
        killGroup(this.#child);
      }, patience * timeoutMs);
      const settled = (act: () => void): void => {
        clearTimeout(timer);
        act();
      };
      this.#waiting.push({
        resolve: (line) => settled(() => resolve(line)),
        reject: (error) => settled(() => reject(error)),
      });
      this.#child.stdin?.write(`${command}\n`);
    });
  }

  #fail(message: string): void {
    this.#failure ??= new Error(message);
    for (const each of this.#waiting.splice(0)) each.reject(this.#failure);
  }

  [Symbol.dispose](): void {
    killGroup(this.#child);
  }
}
