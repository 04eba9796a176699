/**
 * Starting one of our own helper programs (lying origin, delay proxy) as a child process: it prints
 * one JSON line when it is ready and ends when its standard input closes, so it can never outlive
 * its parent.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { patience } from './patience.ts';
import { killAtExit, killGroup } from './run.ts';

export interface ChildService<Ready> extends AsyncDisposable {
  readonly pid: number;
  /** What the child said when it was ready. */
  readonly ready: Ready;
}

export interface ChildServiceOptions {
  /** Default 15,000. */
  readonly timeoutMs?: number;
  /** More environment variables. */
  readonly env?: Readonly<Record<string, string>>;
}

const stopGraceMs = 3000;

/**
 * Runs `script` (a `.ts` file) with this Node; resolves with its first line of output, parsed as
 * JSON.
 */
export async function startChildService<Ready>(
  script: string,
  parameters: readonly string[],
  options: ChildServiceOptions = {},
): Promise<ChildService<Ready>> {
  const child = spawn(process.execPath, [script, ...parameters], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
    env: { ...process.env, ...options.env },
  });
  killAtExit(child);
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const timeoutMs = options.timeoutMs ?? 15_000;
  try {
    const line = await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`${script} was not ready after ${timeoutMs} ms`)),
        patience * timeoutMs,
      );
      const lines = createInterface({ input: child.stdout });
      const settle = (act: () => void): void => {
        clearTimeout(timer);
        act();
      };
      lines.once('line', (text) => settle(() => resolve(text)));
      child.once('error', (error) => settle(() => reject(error)));
      child.once('exit', (code) =>
        settle(() => reject(new Error(`${script} ended with ${code} before it was ready`))),
      );
    });
    child.stdin.on('error', () => {});
    return {
      pid: child.pid ?? 0,
      ready: JSON.parse(line) as Ready,
      async [Symbol.asyncDispose]() {
        child.stdin.end();
        const timer = setTimeout(() => killGroup(child), stopGraceMs);
        await ended;
        clearTimeout(timer);
      },
    };
  } catch (error) {
    killGroup(child);
    throw error;
  }
}

/**
 * The child's side: says that it is ready, and runs `stop` when the parent closed our standard
 * input.
 */
export function announceReady(ready: unknown, stop: () => Promise<void>): void {
  process.stdout.write(`${JSON.stringify(ready)}\n`);
  process.stdin.resume();
  process.stdin.once('close', () => {
    void stop().finally(() => process.exit(0));
  });
}
