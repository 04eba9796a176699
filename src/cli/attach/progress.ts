/** The progress line of `ebb attach`. */
import { systemClock } from '../../base/clock.ts';
import type { AttachProgress } from '../../daemon/api.ts';
import { RateMeter } from '../progress.ts';
import { visible } from '../terminal.ts';
import type { Terminal } from '../terminal.ts';
import { formatBytes, formatCount, plural } from '../units.ts';

/** `12,345 files in 67 directories, 8.9 GiB  10,234 files/s  sets/2026`, at most `columns` wide. Pure. */
export function renderAttachProgress(
  { stubs, directories, bytes, path }: AttachProgress,
  stubsPerSecond: number | undefined,
  columns: number,
): string {
  const where = plural(directories, 'directory', 'directories');
  const rate =
    stubsPerSecond === undefined ? '' : `  ${formatCount(Math.round(stubsPerSecond))} files/s`;
  const facts = `${plural(stubs, 'file')} in ${where}, ${formatBytes(bytes)}${rate}`;
  if (facts.length > columns) return facts.slice(0, columns);
  const room = columns - facts.length - 2;
  const shown = visible(path);
  if (room < 8 || shown === '') return facts;
  return `${facts}  ${shown.length <= room ? shown : `...${shown.slice(shown.length - room + 3)}`}`;
}

export class AttachProgressLine {
  readonly #terminal: Terminal | undefined;
  readonly #meter = new RateMeter();
  #isDrawn = false;

  /** Draws nothing without a terminal. */
  constructor(terminal: Terminal | undefined) {
    this.#terminal = terminal?.drawsProgress === true ? terminal : undefined;
  }

  show(progress: AttachProgress): void {
    if (this.#terminal === undefined) return;
    this.#meter.add(progress.stubs, systemClock.monotonicMs());
    const columns = this.#terminal.columns - 1;
    const line = renderAttachProgress(progress, this.#meter.bytesPerSecond(), columns);
    this.#terminal.draw(`\r\u001b[K${line}`);
    this.#isDrawn = true;
  }

  erase(): void {
    if (this.#isDrawn) this.#terminal?.draw('\r\u001b[K');
    this.#isDrawn = false;
  }
}
