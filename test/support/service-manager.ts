/** A stand-in for systemd that keeps descriptors and starts one service again (service-manager.py). */
import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
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

export class ServiceManager implements Disposable {
  readonly events: ServiceEvent[] = [];
  /** What the service printed to standard error. */
  log = '';
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;

  /** `directory`: for its socket. `storeMax`: how many descriptors it keeps. */
  constructor(
    directory: string,
    storeMax: number,
    command: readonly string[],
    env: Readonly<Record<string, string>>,
  ) {
    this.#child = spawn('python3', [script, directory, String(storeMax), ...command], {
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
      env: { ...process.env, ...env },
    });
    killAtExit(this.#child);
    this.#child.stdin.on('error', () => {});
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      // What the service prints comes the same way.
      if (line.startsWith('{"')) this.events.push(JSON.parse(line) as ServiceEvent);
    });
    this.#child.stderr.on('data', (bytes: Buffer) => {
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
    this.#child.stdin.write('release\n');
  }

  /** What is kept under names with this beginning is dropped. */
  forget(beginning: string): void {
    this.#child.stdin.write(`forget ${beginning}\n`);
  }

  /** To itself: SIGSTOP, SIGCONT. */
  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  [Symbol.dispose](): void {
    killGroup(this.#child);
  }
}
