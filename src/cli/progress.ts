/** The progress line: bar, share, rate, time left. Pure rendering, and a meter that takes time as an argument. */
import type { Progress } from '../daemon/api.ts';
import { visible } from './terminal.ts';
import { formatBytes, formatCount, formatDuration, formatRate } from './units.ts';

/** The rate is taken over the last samples within this time, so that it follows what happens now. */
const rateWindowMs = 5000;
const samplesMax = 64;
const barColumns = 20;

interface Sample {
  readonly timeMs: number;
  readonly bytes: number;
}

/** Remembers how the bytes came, for the current rate. */
export class RateMeter {
  readonly #samples: Sample[] = [];

  /** Adds the total so far at a time; both never go back. */
  add(bytes: number, timeMs: number): void {
    const last = this.#samples.at(-1);
    const spacingMs = rateWindowMs / samplesMax;
    if (last !== undefined && this.#samples.length > 1 && timeMs - last.timeMs < spacingMs) {
      this.#samples.pop();
    }
    this.#samples.push({ timeMs, bytes });
    while (this.#samples.length > 2 && (this.#samples[0]?.timeMs ?? 0) < timeMs - rateWindowMs) {
      this.#samples.shift();
    }
  }

  /** Bytes per second over the window; undefined before anything can be said. */
  bytesPerSecond(): number | undefined {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (first === undefined || last === undefined || last.timeMs <= first.timeMs) return undefined;
    return ((last.bytes - first.bytes) * 1000) / (last.timeMs - first.timeMs);
  }
}

/** `[#######.............]`; `share` is clamped to 0..1. */
export function renderBar(share: number, columns: number): string {
  const full = Math.round(Math.max(0, Math.min(1, share)) * columns);
  return `[${'#'.repeat(full)}${'.'.repeat(columns - full)}]`;
}

/**
 * One line of at most `columns` columns: bar, percent, bytes, files, rate, time left, and as much of the name
 * (its end) as fits. Narrow terminals lose the name, then the bar.
 */
export function renderProgress(
  progress: Pick<Progress, 'path' | 'totalDoneBytes' | 'totalBytes' | 'filesDone' | 'filesTotal'>,
  bytesPerSecond: number | undefined,
  columns: number,
): string {
  const { totalDoneBytes, totalBytes, filesDone, filesTotal } = progress;
  const share = totalBytes > 0 ? totalDoneBytes / totalBytes : filesShare(filesDone, filesTotal);
  const percent = `${Math.floor(Math.max(0, Math.min(1, share)) * 100)}%`.padStart(4);
  const bytes = `${formatBytes(totalDoneBytes)} of ${formatBytes(totalBytes)}`;
  const files = `${formatCount(filesDone)}/${formatCount(filesTotal)} files`;
  const rate = bytesPerSecond === undefined ? '' : `  ${formatRate(bytesPerSecond)}`;
  const left = timeLeft(totalBytes - totalDoneBytes, bytesPerSecond);
  const facts = `${percent}  ${bytes}  ${files}${rate}${left}`;
  const withBar = `${renderBar(share, barColumns)}${facts}`;
  const line = withBar.length <= columns ? withBar : facts.slice(0, columns);
  const room = columns - line.length - 2;
  return room >= 8 ? `${line}  ${tail(visible(progress.path), room)}` : line;
}

function filesShare(done: number, total: number): number {
  return total > 0 ? done / total : 0;
}

function timeLeft(bytes: number, bytesPerSecond: number | undefined): string {
  if (bytesPerSecond === undefined || bytesPerSecond < 1 || bytes <= 0) return '';
  return `  ${formatDuration((bytes * 1000) / bytesPerSecond)} left`;
}

function tail(text: string, columns: number): string {
  return text.length <= columns ? text : `...${text.slice(text.length - columns + 3)}`;
}
