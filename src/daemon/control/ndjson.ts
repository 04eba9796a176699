/**
 * Streams values as NDJSON: lines are gathered into writes of tens of kilobytes, a slow reader holds the
 * producer back, and the main thread gets a turn between writes, since a listing of a million names comes
 * from synchronous catalog reads and the same thread answers recalls.
 */
import type { ServerResponse } from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';

/** Lines are gathered up to this many UTF-16 units before they are written. */
const gatherMaxLength = 64 * 1024;
/** The event loop gets a turn at least every so many lines. */
const linesPerTurnMax = 500;

/**
 * Sends every value of `source`, then, when `last` is given, `last(return value)`; ends the response. Stops, and
 * ends `source` by its `return`, when the client goes away. Rejects with what `source` throws.
 */
export async function sendNdjson<Value, Result>(
  response: ServerResponse,
  source: AsyncIterable<Value, Result>,
  last?: (result: Result) => unknown,
): Promise<void> {
  const writer = new LineWriter(response);
  const iterator = source[Symbol.asyncIterator]();
  let ended = false;
  try {
    while (!writer.gone) {
      const step = await iterator.next();
      if (step.done === true) {
        ended = true;
        if (last !== undefined) await writer.add(last(step.value));
        break;
      }
      const wait = writer.add(step.value);
      if (wait !== undefined) await wait;
    }
  } catch (error) {
    ended = true;
    await writer.flush();
    throw error;
  } finally {
    if (!ended) await iterator.return?.();
  }
  await writer.flush();
  writeHead(response);
  response.end();
}

function writeHead(response: ServerResponse): void {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
}

class LineWriter {
  readonly #response: ServerResponse;
  #gathered = '';
  #lines = 0;
  #flushPlanned = false;

  constructor(response: ServerResponse) {
    this.#response = response;
  }

  get gone(): boolean {
    return this.#response.destroyed || this.#response.closed;
  }

  /** Takes a line; what it returns, if anything, is to be awaited before the next one. */
  add(value: unknown): Promise<void> | undefined {
    this.#gathered += `${JSON.stringify(value)}\n`;
    this.#lines += 1;
    if (this.#gathered.length >= gatherMaxLength) return this.flush();
    if (!this.#flushPlanned) {
      // A lone line (progress, a log record) leaves as soon as the event loop turns.
      this.#flushPlanned = true;
      setImmediate(() => {
        this.#flushPlanned = false;
        this.#write();
      });
    }
    return this.#lines % linesPerTurnMax === 0 ? nextTurn() : undefined;
  }

  /** Writes what is gathered and waits while the client is slow. */
  async flush(): Promise<void> {
    if (this.#write() || this.gone) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#response.off('drain', done);
        this.#response.off('close', done);
        resolve();
      };
      this.#response.on('drain', done);
      this.#response.on('close', done);
    });
  }

  /** Whether the socket takes more right now. */
  #write(): boolean {
    if (this.gone) return true;
    // Without a line the status stays open: the source may still fail with one of its own.
    if (this.#gathered === '') return !this.#response.writableNeedDrain;
    writeHead(this.#response);
    const text = this.#gathered;
    this.#gathered = '';
    return this.#response.write(text);
  }
}
