/** Who has a file open while its tree goes. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { killGroup } from './run.ts';

/** A program that has a file open and reads a byte when told to. Gives what it said: `ok`, or the errno's name. */
export class Holder implements Disposable {
  readonly #child;
  readonly #lines;

  constructor(file: string) {
    const script =
      'import os,sys\nf=os.open(sys.argv[1],os.O_RDONLY)\nprint("open",flush=True)\n' +
      'for l in sys.stdin:\n try:\n  os.pread(f,1,int(l));print("ok",flush=True)\n' +
      ' except OSError as e: print(e.errno,flush=True)\n';
    this.#child = spawn('python3', ['-c', script, file], {
      stdio: ['pipe', 'pipe', 'inherit'],
      detached: true,
    });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  async said(): Promise<string> {
    const line = await this.#lines.next();
    return line.done === true ? 'end' : line.value;
  }

  async read(offset: number): Promise<string> {
    this.#child.stdin.write(`${offset}\n`);
    return await this.said();
  }

  [Symbol.dispose](): void {
    killGroup(this.#child);
  }
}
