/**
 * A TCP proxy that makes loopback as far away as another city: every byte arrives half a round trip
 * later, with full bandwidth; what is sent first waits a whole round trip more, as it would for the
 * handshake (the kernel accepts at once, so connect(2) itself is not delayed). No loss, no slow
 * start, no bandwidth limit.
 *
 *     await using proxy = await startDelayProxyProcess({ targetPort: 8080, roundTripMs: 20 });
 *     await fetch(`http://127.0.0.1:${proxy.port}/`);
 *
 * Buffers are passed on as they came, with the time when they are due: one timer and one queue per
 * direction. For measurements run it as a process of its own.
 */
import net from 'node:net';
import type { Socket } from 'node:net';
import { announceReady, startChildService } from './child-service.ts';

/**
 * Bytes on their way per direction and connection; above it the sender is paused. 10 ms at 3 GB/s.
 */
const inFlightMaxBytes = 32 * 1024 * 1024;
/** setTimeout rounds up to whole milliseconds: what is due this soon counts as due. */
const timerSlackMs = 0.5;
const socketBufferBytes = 1024 * 1024;

export interface DelayProxyOptions {
  readonly targetPort: number;
  /** Default 127.0.0.1. */
  readonly targetHost?: string;
  /** Both ways together. 0 <= roundTripMs. */
  readonly roundTripMs: number;
  /** Default: a free one. */
  readonly port?: number;
}

export interface DelayProxy extends AsyncDisposable {
  /** On 127.0.0.1. */
  readonly port: number;
}

export async function startDelayProxy(options: DelayProxyOptions): Promise<DelayProxy> {
  const sockets = new Set<Socket>();
  const track = (socket: Socket): Socket => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    return socket;
  };
  const server = net.createServer(
    { allowHalfOpen: true, noDelay: true, highWaterMark: socketBufferBytes },
    (client) => {
      const upstream = net.connect({
        port: options.targetPort,
        host: options.targetHost ?? '127.0.0.1',
        allowHalfOpen: true,
        noDelay: true,
      });
      join(track(client), track(upstream), options.roundTripMs);
    },
  );
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port: options.port ?? 0, host: '127.0.0.1', backlog: 1024 }, resolve);
  });
  return {
    port: (server.address() as net.AddressInfo).port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** The same in a process of its own. */
export async function startDelayProxyProcess(options: DelayProxyOptions): Promise<DelayProxy> {
  const child = await startChildService<{ port: number }>(import.meta.filename, [
    JSON.stringify(options),
  ]);
  return {
    port: child.ready.port,
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}

function join(client: Socket, upstream: Socket, roundTripMs: number): void {
  const oneWayMs = roundTripMs / 2;
  const establishedMs = performance.now() + roundTripMs;
  new DelayLine(client, upstream, { delayMs: oneWayMs, establishedMs }).start();
  new DelayLine(upstream, client, { delayMs: oneWayMs, establishedMs: 0 }).start();
}

interface InFlight {
  readonly dueMs: number;
  /** undefined: the end of the stream; `reset`: the connection broke. */
  readonly what: Buffer | 'end' | 'reset';
}

/** One direction of one connection. */
class DelayLine {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #delayMs: number;
  readonly #establishedMs: number;
  readonly #queue: InFlight[] = [];
  #first = 0;
  #queuedBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #blocked = false;
  #ended = false;

  constructor(
    from: Socket,
    to: Socket,
    times: { readonly delayMs: number; readonly establishedMs: number },
  ) {
    this.#from = from;
    this.#to = to;
    this.#delayMs = times.delayMs;
    this.#establishedMs = times.establishedMs;
  }

  start(): void {
    this.#from.on('data', (bytes: Buffer) => this.#add(bytes));
    this.#from.once('end', () => this.#add('end'));
    this.#from.on('error', () => {});
    this.#from.once('close', (hadError) => {
      if (hadError) this.#add('reset');
    });
    this.#to.on('drain', () => {
      this.#blocked = false;
      this.#flush();
    });
    this.#to.once('close', (hadError) => this.#stop(hadError));
  }

  #add(what: InFlight['what']): void {
    if (this.#to.destroyed) return;
    const sentMs = Math.max(performance.now(), this.#establishedMs);
    this.#queue.push({ dueMs: sentMs + this.#delayMs, what });
    if (typeof what !== 'string') this.#queuedBytes += what.length;
    if (this.#queuedBytes > inFlightMaxBytes) this.#from.pause();
    if (this.#timer === undefined && !this.#blocked) this.#schedule();
  }

  #schedule(): void {
    const next = this.#queue[this.#first];
    if (next === undefined) return;
    const waitMs = Math.max(0, Math.floor(next.dueMs - performance.now()));
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#flush();
    }, waitMs);
  }

  /** Passes on all that is due, in order, as long as the receiver takes it. */
  #flush(): void {
    if (this.#timer !== undefined || this.#blocked) return;
    const nowMs = performance.now() + timerSlackMs;
    let next = this.#queue[this.#first];
    if (next !== undefined && next.dueMs <= nowMs) this.#to.cork();
    while (next !== undefined && next.dueMs <= nowMs && !this.#blocked) {
      this.#first += 1;
      this.#pass(next.what);
      next = this.#queue[this.#first];
    }
    this.#to.uncork();
    if (this.#first > 1024 || this.#first === this.#queue.length) {
      this.#queue.splice(0, this.#first);
      this.#first = 0;
    }
    if (this.#queuedBytes <= inFlightMaxBytes / 2 && this.#from.isPaused()) this.#from.resume();
    if (!this.#blocked) this.#schedule();
  }

  #pass(what: InFlight['what']): void {
    if (what === 'end') {
      this.#ended = true;
      this.#to.end();
    } else if (what === 'reset') this.#to.resetAndDestroy();
    else {
      this.#queuedBytes -= what.length;
      this.#blocked = !this.#to.write(what);
    }
  }

  /**
   * The receiver is gone. Unless all had been said, its side is to know; a reset comes by the other
   * direction.
   */
  #stop(hadError: boolean): void {
    clearTimeout(this.#timer);
    this.#queue.length = 0;
    if (!this.#ended && !hadError) this.#from.destroy();
  }
}

if (import.meta.main) {
  const options = JSON.parse(process.argv[2] ?? '{}') as DelayProxyOptions;
  const proxy = await startDelayProxy(options);
  announceReady({ port: proxy.port }, async () => proxy[Symbol.asyncDispose]());
}
