/**
 * What the kernel tests of fanotify share: small file systems of their own, a program that touches files in one way,
 * and a listener in the test's process. The listener must never touch what it watches, so all touching is done by
 * children, and files are made through `inside` before marks exist or through an ignore-marked mount.
 */
import path from 'node:path';
import { spawn } from 'node:child_process';
import { EventReader } from '../../src/fanotify/event-reader.ts';
import { eventNames } from '../../src/fanotify/constants.ts';
import type { EventTrouble, IncomingEvent } from '../../src/fanotify/event-reader.ts';
import type { Group } from '../../src/fanotify/group.ts';
import { killAtExit, killGroup, run, runOk } from '../support/run.ts';
import { waitFor } from '../support/wait-for.ts';

/** Why a kernel test cannot run here; false when it can. */
export const skip = process.getuid?.() === 0 ? false : 'needs root';

/** Compiles touch.c into a directory; returns the program's path. */
export async function compileTouch(directory: string): Promise<string> {
  const program = path.join(directory, 'touch');
  const source = path.join(import.meta.dirname, 'touch.c');
  const flags = ['-O2', '-Wall', '-Wextra', '-o', program, source];
  await runOk('gcc', flags, { timeoutMs: 60_000, debianPackage: 'gcc' });
  return program;
}

/** What touch.c said. */
export interface Touched {
  readonly result: number;
  readonly errno: number;
  /** Bytes that were read and are not zero; undefined when the method reads none. */
  readonly nonzero: number | undefined;
}

export function parseTouched(line: string): Touched {
  const words = line.trim().split(' ').map(Number);
  const [result = NaN, errno = NaN, nonzero] = words;
  if (words.some(Number.isNaN)) throw new Error(`touch said ${JSON.stringify(line)}`);
  return { result, errno, nonzero };
}

export interface SeenEvent {
  readonly names: string;
  readonly fd: number;
  readonly pid: number;
  /** `offset+count`, or undefined when the event has none. */
  readonly range: string | undefined;
}

/** Serves a group while something else goes on: reads without waiting, whenever the event loop comes round. */
export class Listener {
  readonly events: SeenEvent[] = [];
  readonly troubles: EventTrouble[] = [];
  overflows = 0;
  readonly #reader: EventReader;
  readonly #handle: (event: IncomingEvent) => void;

  /** `handle` must answer; default: allows. */
  constructor(
    group: Group,
    handle = (event: IncomingEvent): void => {
      if (event.needsAnswer) event.allow();
    },
  ) {
    this.#reader = new EventReader(group, (trouble) => this.troubles.push(trouble));
    this.#handle = handle;
  }

  /** Handles what is there now. */
  poll(): void {
    while (this.#reader.fill() > 0) {
      this.#reader.handleAll(
        (event) => {
          const range = event.hasRange ? `${event.offset}+${event.count}` : undefined;
          const { fd, pid } = event;
          this.events.push({ names: eventNames(event.mask).join('|'), fd, pid, range });
          this.#handle(event);
        },
        () => (this.overflows += 1),
      );
    }
  }

  /** Serves until `work` settles. */
  async during<T>(work: Promise<T>): Promise<T> {
    const timer = setInterval(() => this.poll(), 1);
    try {
      const result = await work;
      this.poll();
      return result;
    } finally {
      clearInterval(timer);
    }
  }

  async until(count: number): Promise<void> {
    await waitFor(
      () => {
        this.poll();
        return this.events.length >= count;
      },
      { what: `${count} events`, intervalMs: 1 },
    );
  }
}

/** Runs touch.c to its end. Rejects when a signal or a time limit ended it. */
export async function touch(
  program: string,
  ...parameters: readonly (string | number)[]
): Promise<Touched> {
  const { stdout } = await runOk(program, parameters.map(String), { timeoutMs: 20_000 });
  return parseTouched(stdout.toString());
}

/** The same, in another mount namespace: `unshare -m`. */
export async function touchUnshared(
  program: string,
  ...parameters: readonly (string | number)[]
): Promise<Touched> {
  const all = ['-m', program, ...parameters.map(String)];
  const { stdout } = await runOk('unshare', all, { timeoutMs: 20_000 });
  return parseTouched(stdout.toString());
}

/** A file that touch.c holds open (method `hold`): reads when told. */
export interface Held extends Disposable {
  read(): Promise<Touched>;
}

export async function hold(
  program: string,
  ...parameters: readonly (string | number)[]
): Promise<Held> {
  const child = spawn(program, ['hold', ...parameters.map(String)], { detached: true });
  killAtExit(child);
  let text = '';
  child.stdout.setEncoding('latin1').on('data', (chunk: string) => (text += chunk));
  const lines = (): string[] => text.split('\n');
  await waitFor(() => lines().length > 1, { what: 'the holder to open' });
  return {
    async read() {
      child.stdin.write('go\n');
      return parseTouched(
        await waitFor(() => (lines().length > 2 ? lines()[1] : undefined), {
          what: 'the holder to read',
        }),
      );
    },
    [Symbol.dispose]() {
      killGroup(child);
    },
  };
}

/** A sparse file of `sizeBytes` at `file`, made by a child: nothing in it but a hole. */
export async function makeSparse(file: string, sizeBytes: number): Promise<void> {
  const made = await run('truncate', ['-s', String(sizeBytes), file]);
  if (made.code !== 0) throw new Error(made.stderr.toString());
}
