/** Kernel file handles on mounts, taken and opened by a process of their own (handle-process.ts). */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import path from 'node:path';
import { patience } from './patience.ts';
import type { ChurnRequest, ChurnResult } from './handle-churn.ts';
import type { HandleRequest } from './handle-process.ts';
import { killAtExit } from './run.ts';

/** The value, or the name of the errno. */
export type HandleAnswer<Value> =
  | { readonly value: Value; readonly code?: undefined }
  | { readonly value?: undefined; readonly code: string };

const answerTimeoutMs = 30_000;

export class HandleProcess implements AsyncDisposable {
  readonly #child: ChildProcess;

  constructor() {
    this.#child = fork(path.join(import.meta.dirname, 'handle-process.ts'), [], { detached: true });
    killAtExit(this.#child);
  }

  /** The handle of a file as hexadecimal digits. */
  async take(file: string): Promise<string> {
    const { value, code } = await this.#ask<string>({ kind: 'take', file });
    if (value === undefined) throw new Error(`name_to_handle_at of ${file}: ${code}`);
    return value;
  }

  /** The beginning of the file that the handle means; of a directory its own handle, taken anew. */
  open(mount: string, handle: string): Promise<HandleAnswer<string>> {
    return this.#ask({ kind: 'open', mount, handle });
  }

  /** Those of `handles` that the kernel takes. */
  async taken(mount: string, handles: readonly string[], timeoutMs?: number): Promise<string[]> {
    const { value, code } = await this.#ask<string[]>({ kind: 'try', mount, handles }, timeoutMs);
    if (value === undefined) throw new Error(`open_by_handle_at: ${code}`);
    return value;
  }

  /** Opens a file for `readHeld`, and reads it. */
  hold(file: string): Promise<HandleAnswer<string>> {
    return this.#ask({ kind: 'hold', file });
  }

  readHeld(): Promise<HandleAnswer<string>> {
    return this.#ask({ kind: 'readHeld' });
  }

  async churn(request: ChurnRequest, timeoutMs: number): Promise<ChurnResult> {
    const { value, code } = await this.#ask<ChurnResult>({ kind: 'churn', ...request }, timeoutMs);
    if (value === undefined) throw new Error(`churn: ${code}`);
    return value;
  }

  async #ask<Value>(
    request: HandleRequest,
    timeoutMs = answerTimeoutMs,
  ): Promise<HandleAnswer<Value>> {
    return await new Promise((resolve, reject) => {
      const child = this.#child;
      const settle = (act: () => void): void => {
        clearTimeout(timer);
        child.removeAllListeners('message');
        child.removeListener('exit', ended);
        act();
      };
      const ended = (): void => settle(() => reject(new Error(`it ended during ${request.kind}`)));
      const timer = setTimeout(
        () => settle(() => reject(new Error(`${request.kind} took ${timeoutMs} ms`))),
        patience * timeoutMs,
      );
      child.once('exit', ended);
      child.once('message', (answer) => settle(() => resolve(answer as HandleAnswer<Value>)));
      child.send(request);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill('SIGKILL');
    await ended;
  }
}
