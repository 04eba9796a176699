/** What the kernel says while a test runs. Root. */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { toEbbError } from '../../src/base/errors.ts';

/** CONSOLE_EXT_LOG_MAX of the kernel. */
const recordMaxBytes = 8192;
const record = Buffer.alloc(recordMaxBytes);

export class KernelLog implements Disposable {
  readonly #fd = openSync('/dev/kmsg', constants.O_RDONLY | constants.O_NONBLOCK);

  /** What was said before is nobody's business. */
  constructor() {
    this.lines();
  }

  /** What was said since the last call. */
  lines(): string[] {
    const lines: string[] = [];
    for (;;) {
      try {
        const count = readSync(this.#fd, record);
        if (count === 0) return lines;
        // Level, number, time and flags stand before the first semicolon (Documentation/ABI/testing/dev-kmsg).
        const text = record.toString('latin1', 0, count);
        lines.push(text.slice(text.indexOf(';') + 1).trimEnd());
      } catch (error) {
        const { code } = toEbbError(error);
        if (code === 'EAGAIN') return lines;
        // Records were overwritten before they were read: on with the oldest there is.
        if (code !== 'EPIPE') throw error;
      }
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
