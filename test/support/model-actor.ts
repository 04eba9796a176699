/** A process that does the same to two files, a stub and a plain one, and says whether that was the same. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { killAtExit } from './run.ts';

/** What to do, and what with: see model-actor.py. */
export type Act = readonly [what: string, a: number, b: number, c: number];

export interface ModelActor extends Disposable {
  /** `same`, `refused` (both, with the same error), or what was different. */
  does(stub: string, plain: string, what: Act): Promise<string>;
}

/** `directory`: what names are relative to. */
export function startModelActor(directory: string): ModelActor {
  const program = path.join(import.meta.dirname, 'model-actor.py');
  const child = spawn('python3', [program, directory], { stdio: ['pipe', 'pipe', 'inherit'] });
  killAtExit(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    async does(stub, plain, what) {
      child.stdin.write(`${JSON.stringify({ stub, plain, do: what })}\n`);
      const line = await lines.next();
      return line.done === true ? 'the actor died' : line.value;
    },
    [Symbol.dispose]: () => void child.kill('SIGKILL'),
  };
}
