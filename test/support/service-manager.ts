/** A stand-in for systemd that keeps descriptors and starts one service again (service-manager.py). */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { descendantsOf, killTogether, processLives } from './processes.ts';
import { killAtExit, killGroup } from './run.ts';
import { waitFor } from './wait-for.ts';

export interface ServiceEvent {
  readonly event: 'started' | 'ready' | 'stored' | 'removed' | 'forgotten' | 'released' | 'ended';
  /** Names of what is in the store, after that. */
  readonly stored: readonly string[];
  /** Of `started`: the service's main process. */
  readonly pid?: number;
  /** Of `ended`. */
  readonly code?: number;
}

const script = path.join(import.meta.dirname, 'service-manager.py');

export class ServiceManager implements AsyncDisposable {
  readonly events: ServiceEvent[] = [];
  /** What the service printed to standard error. */
  log = '';
  readonly #child: ChildProcess;
  readonly #stdin: Writable;

  /** `directory`: for its socket. `storeMax`: how many descriptors it keeps. */
  constructor(
    directory: string,
    storeMax: number,
    command: readonly string[],
    env: Readonly<Record<string, string>>,
  ) {
    const child = spawn('python3', [script, directory, String(storeMax), ...command], {
      stdio: ['pipe', 'ignore', 'pipe', 'pipe'],
      detached: true,
      env: { ...process.env, ...env },
    });
    killAtExit(child);
    const [stdin, , stderr, events] = child.stdio;
    assert(stdin !== null && stderr !== null);
    this.#child = child;
    this.#stdin = stdin;
    stdin.on('error', () => {});
    createInterface({ input: events as Readable }).on('line', (line) => {
      this.events.push(JSON.parse(line) as ServiceEvent);
    });
    stderr.on('data', (bytes: Buffer) => {
      this.log = (this.log + bytes.toString()).slice(-16_384);
    });
  }

  /** Main processes so far. */
  get pids(): number[] {
    return this.events.flatMap(({ event, pid }) => (event === 'started' && pid ? [pid] : []));
  }

  /** Resolves with the last of `count` events of this kind. */
  async until(event: ServiceEvent['event'], count: number): Promise<ServiceEvent> {
    return await waitFor(() => this.events.filter((one) => one.event === event)[count - 1], {
      what: `"${event}" of the service for the ${count}. time; its log: ${this.log}`,
      timeoutMs: 60_000,
    });
  }

  /** Everything is dropped, and the service is not started again. */
  release(): void {
    this.#stdin.write('release\n');
  }

  /** What is kept under names with this beginning is dropped. */
  forget(beginning: string): void {
    this.#stdin.write(`forget ${beginning}\n`);
  }

  /** To itself: SIGSTOP, SIGCONT. */
  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends all that it has started, whatever that waits for, and then itself. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { pid, exitCode } = this.#child;
    if (pid === undefined || exitCode !== null) return;
    // Stopped, it starts nothing meanwhile. It is the parent of what its service left, and is gone last.
    this.signal('SIGSTOP');
    const left = descendantsOf(pid);
    killTogether(left);
    killGroup(this.#child);
    await waitFor(() => ![pid, ...left].some(processLives), { what: 'the service to be gone' });
  }
}
