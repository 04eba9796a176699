/** The processes that a demo starts: its web server and `ebb mount` / `ebb umount`. All are ended again. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { ebbError } from '../../base/errors.ts';
import type { ServedRequest } from './server.ts';

export interface DemoServer extends AsyncDisposable {
  /** `http://127.0.0.1:PORT/` */
  readonly url: string;
  /** What was asked for so far, oldest first; at most `servedRequestsMax`, the newest ones. */
  readonly requests: readonly ServedRequest[];
}

const servedRequestsMax = 100_000;

/** Starts the web server of a directory as a process of its own and waits until it listens. */
export async function startDemoServer(directory: string): Promise<DemoServer> {
  const script = fileURLToPath(new URL('server.ts', import.meta.url));
  const child = spawn(process.execPath, [...process.execArgv, script, directory], {
    stdio: ['pipe', 'pipe', 'inherit'],
    // Ctrl-C in the terminal is for the demo, which then ends the server after the mount.
    detached: true,
  });
  const ended = new Promise<void>((resolve) => void child.once('exit', () => resolve()));
  const requests: ServedRequest[] = [];
  const port = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', () => reject(ebbError('EIO', 'The web server of the demo did not start.')));
    createInterface({ input: child.stdout }).on('line', (line) => {
      const value = JSON.parse(line) as { port: number } | ServedRequest;
      if ('port' in value) resolve(value.port);
      else requests.push(value);
      if (requests.length > servedRequestsMax) requests.shift();
    });
  });
  return {
    url: `http://127.0.0.1:${port}/`,
    requests,
    [Symbol.asyncDispose]: async () => {
      child.stdin.end();
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/** Runs another verb of this program; resolves with its exit code and what it said. */
export function runEbb(words: readonly string[]): Promise<{ code: number; output: string }> {
  const script = fileURLToPath(new URL('../main.ts', import.meta.url));
  const child: ChildProcess = spawn(process.execPath, [...process.execArgv, script, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true, // see above
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code: code ?? 1, output: output.trimEnd() }));
  });
}
