/** The daemon's log: lines on standard error (a file in background mode) and the last ones in memory for `ebb log`. */
import type { Clock } from '../base/clock.ts';
import type { LogRecord } from './api.ts';

const rememberedRecordsMax = 10_000;
/** A follower that does not read loses the oldest lines, not the daemon's memory. */
const followerQueueMax = 1_000;

const levels = ['debug', 'info', 'warn', 'error'] as const;

type Follower = (record: LogRecord) => void;

export class Logbook {
  readonly #clock: Clock;
  readonly #minimum: number;
  readonly #write: (line: string) => void;
  readonly #followers = new Set<Follower>();
  #records: LogRecord[] = [];
  #lastError: string | null = null;

  constructor(clock: Clock, minimum: LogRecord['level'], write: (line: string) => void) {
    this.#clock = clock;
    this.#minimum = levels.indexOf(minimum);
    this.#write = write;
  }

  get lastError(): string | null {
    return this.#lastError;
  }

  log(level: LogRecord['level'], message: string, fields?: LogRecord['fields']): void {
    if (level === 'error' || level === 'warn') this.#lastError = message;
    if (levels.indexOf(level) < this.#minimum) return;
    const record: LogRecord = {
      timeMs: this.#clock.nowMs(),
      level,
      message,
      ...(fields && { fields }),
    };
    this.#records.push(record);
    if (this.#records.length > rememberedRecordsMax * 2) {
      this.#records = this.#records.slice(-rememberedRecordsMax);
    }
    this.#write(
      `${new Date(record.timeMs).toISOString()} ${level} ${message}${fieldsText(fields)}\n`,
    );
    for (const follower of this.#followers) follower(record);
  }

  /** The last `lines` records, then, with `follow`, every new one until the signal fires. */
  async *read(lines: number, follow: boolean, signal: AbortSignal): AsyncGenerator<LogRecord> {
    const queue = lines === 0 ? [] : this.#records.slice(-Math.min(lines, rememberedRecordsMax));
    let wake: () => void = () => undefined;
    const follower: Follower = (record) => {
      queue.push(record);
      if (queue.length > followerQueueMax + lines) queue.shift();
      wake();
    };
    if (follow) this.#followers.add(follower);
    const aborted = (): void => wake();
    signal.addEventListener('abort', aborted);
    try {
      for (;;) {
        for (let record = queue.shift(); record !== undefined; record = queue.shift()) yield record;
        if (!follow || signal.aborted) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      signal.removeEventListener('abort', aborted);
      this.#followers.delete(follower);
    }
  }
}

function fieldsText(fields: LogRecord['fields']): string {
  if (fields === undefined) return '';
  return Object.entries(fields)
    .map(([name, value]) => ` ${name}=${JSON.stringify(value)}`)
    .join('');
}
