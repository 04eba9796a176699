/** The progress line of `ebb attach`. */
import { systemClock } from '../../base/clock.ts';
import type { AttachProgress } from '../../daemon/start-api.ts';
import { RateMeter } from '../progress.ts';
import { ProgressLine } from '../progress-line.ts';
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
  readonly #line: ProgressLine;
  readonly #meter = new RateMeter();

  /** Draws nothing without a terminal. */
  constructor(terminal: Terminal | undefined) {
    this.#line = new ProgressLine(terminal);
  }

  show(progress: AttachProgress): void {
    this.#meter.add(progress.stubs, systemClock.monotonicMs());
    const rate = this.#meter.bytesPerSecond();
    this.#line.draw((columns) => renderAttachProgress(progress, rate, columns));
  }

  erase(): void {
    this.#line.erase();
  }
}
