/** Lines to standard output, content to descriptor 3: synchronously, from whichever thread reads the image. */
import { writeSync } from 'node:fs';
import { toEbbError } from '../../base/errors.ts';
import type { ReaderOutput } from '../../image/reader/lines.ts';

const contentDescriptor = 3;
const fullPauseMs = 5;
const sleeper = new Int32Array(new SharedArrayBuffer(4));

export const descriptorOutput: ReaderOutput = {
  line: (line) => writeAll(1, Buffer.from(`${JSON.stringify(line)}\n`)),
  data: (bytes) => writeAll(contentDescriptor, bytes),
};

/** The other end may have made a shared descriptor non-blocking: then this waits. EPIPE ends the process quietly. */
function writeAll(descriptor: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) {
    try {
      done += writeSync(descriptor, bytes, done);
    } catch (error) {
      const { code } = toEbbError(error);
      if (code === 'EPIPE') process.exit(0);
      if (code !== 'EAGAIN') throw error;
      Atomics.wait(sleeper, 0, 0, fullPauseMs);
    }
  }
}
