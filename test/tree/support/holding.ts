/** Other processes that use a file: see holding-process.ts. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { patience } from '../../support/patience.ts';

export interface Holder extends AsyncDisposable {
  readonly process: ChildProcessByStdio<Writable, Readable, null>;
  /** Everything it said after "ready". */
  output(): string;
}

/** Resolves when it does. */
export async function hold(
  action: 'open' | 'map' | 'race',
  file: string,
  flag = '',
): Promise<Holder> {
  const program = path.join(import.meta.dirname, 'holding-process.ts');
  const child = spawn(process.execPath, [program, action, file, flag], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (data: Buffer) => (output += data.toString()));
  while (!output.startsWith('ready\n')) {
    assert.equal(child.exitCode, null, 'the other process runs');
    await sleep(5);
  }
  return {
    process: child,
    output: () => output.slice('ready\n'.length),
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/** A process that is stopped in open(2) by the lease on the file when this returns. Blocks until then. */
export function openerThatWaits(file: string): ReturnType<typeof spawn> {
  const child = spawn('sh', ['-c', 'exec 3< "$0"; exec sleep 60', file], { stdio: 'ignore' });
  const clock = new Int32Array(new SharedArrayBuffer(4));
  for (let tries = 0; tries < patience * 2_000; tries += 1) {
    if (readFileSync(`/proc/${child.pid}/wchan`, 'latin1').includes('lease')) return child;
    Atomics.wait(clock, 0, 0, 5);
  }
  child.kill('SIGKILL');
  throw new Error('the opener did not wait for the lease');
}

/**
 * A process opens and reads `file` again and again while `release` runs again and again (it says whether it did;
 * `recalled` brings the bytes back), until there was enough. Resolves to how often the reader saw what.
 */
export async function race(
  { file, flag }: { readonly file: string; readonly flag: string },
  release: () => Promise<boolean>,
  recalled: () => Promise<void>,
  enough: (released: number, output: string) => boolean,
): Promise<Record<string, number>> {
  await using holder = await hold('race', file, flag);
  const until = performance.now() + patience * 70_000;
  for (let released = 0; !enough(released, holder.output());) {
    assert.ok(performance.now() < until, `released only ${released} times`);
    if (await release()) {
      released += 1;
      await recalled();
    }
    await sleep(1);
  }
  const exited = once(holder.process.stdout, 'end');
  holder.process.stdin.end();
  await exited;
  const last = holder.output().trim().split('\n').at(-1) ?? '';
  return JSON.parse(last) as Record<string, number>;
}
