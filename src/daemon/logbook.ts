/** The daemon's log: lines on standard error (a file in background mode) and the last ones in memory for `ebb log`. */
import type { Clock } from '../base/clock.ts';
import type { LogRecord } from './api.ts';
import { Repeats, countedEveryMs } from './repeats.ts';

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
  readonly #repeats = new Repeats();
  #timer: NodeJS.Timeout | undefined;

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

  /**
   * A warning that may come by the thousand (each recall on a full disk). `kind`: what of it is the same each time, in
   * words. Of each kind the first ones are said, all others are counted, and the counts said once a minute.
   */
  trouble(kind: string, message: string, fields?: LogRecord['fields']): void {
    const nowMs = this.#clock.monotonicMs();
    this.sayCounted(nowMs);
    if (this.#repeats.isToBeSaid(kind, message, nowMs)) return this.log('warn', message, fields);
    this.#lastError = message;
    this.#sayCountedLater();
  }

  /** What `trouble` has counted for a minute. Called by a timer, too. */
  sayCounted(nowMs: number): void {
    for (const { kind, count, withinMs, last } of this.#repeats.take(nowMs)) {
      const seconds = Math.round(withinMs / 1_000);
      this.log('warn', `${kind}: ${count} more within ${seconds} s, the last: ${last}`);
    }
  }

  #sayCountedLater(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.sayCounted(this.#clock.monotonicMs());
      if (this.#repeats.isCounting) this.#sayCountedLater();
    }, countedEveryMs).unref();
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
