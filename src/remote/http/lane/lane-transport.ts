/**
 * The fast lane: HEADs and GETs to one origin over kept-alive connections, each one answer at a time, no pipelining.
 * What it does not understand goes to the general transport; see docs/decisions/0004-ranged-get-lane.md.
 */
import { assert } from '../../../base/assert.ts';
import { ebbError } from '../../../base/errors.ts';
import { idleMsMax, tlsConnectOptions } from '../transport.ts';
import type {
  AnswerReceiver,
  HttpRequest,
  TlsOptions,
  Transport,
  TransportLimits,
} from '../transport.ts';
import { LaneConnection } from './lane-connection.ts';
import { LaneError } from './lane-error.ts';
import type { LaneEndpoint } from './lane-socket.ts';
import { headBytesMax } from './response-head.ts';

/** Holds a head. What follows it in the same read is copied once more, so it is not larger than that. */
const scratchBytes = headBytesMax;
const waitingRequestsMax = 100_000;
/** Idle for longer than this, a connection beside others is closed; servers keep them for 5 s (Apache) and more. */
const spareIdleMsMax = 4_000;
/** A request that goes out just when the server closes is lost: where the server says when, we are sooner. */
const idleMarginMs = 1_000;
/** After so many answers in a row that the lane did not understand, it is not tried any more. */
const unusualAnswersMax = 3;

export interface LaneTransportOptions extends TransportLimits {
  /** `https://host:port`: the only origin that requests go to. */
  readonly origin: string;
  readonly tls: TlsOptions;
  /** For answers that are not plain. Not closed by the lane. */
  readonly fallback: Transport;
}

interface Waiting {
  readonly give: (connection: LaneConnection) => void;
  readonly reject: (reason: unknown) => void;
}

export class LaneTransport implements Transport {
  readonly #options: LaneTransportOptions;
  readonly #endpoint: LaneEndpoint;
  readonly #scratch = new Uint8Array(scratchBytes);
  readonly #open = new Set<LaneConnection>();
  /** Free connections, the one used last at the end, with the timers that end them. */
  readonly #idle = new Map<LaneConnection, NodeJS.Timeout>();
  readonly #waiting = new Set<Waiting>();
  /** In a row; of listings and of everything else. */
  readonly #unusualAnswers = { chunked: 0, plain: 0 };
  #closed = false;

  constructor(options: LaneTransportOptions) {
    this.#options = options;
    const { protocol, hostname, port } = new URL(options.origin);
    const secure = protocol === 'https:';
    const host = hostname.replace(/^\[(.*)\]$/, '$1');
    const tls = secure ? tlsConnectOptions(options.tls) : undefined;
    this.#endpoint = { host, port: port === '' ? (secure ? 443 : 80) : Number(port), tls };
  }

  async send(request: HttpRequest, receiver: AnswerReceiver, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    assert(request.origin === this.#options.origin, 'the lane serves one origin');
    const { fallback, connections } = this.#options;
    const sort = request.mayBeChunked === true ? 'chunked' : 'plain';
    if (this.#unusualAnswers[sort] >= unusualAnswersMax) {
      return fallback.send(request, receiver, signal);
    }
    const text = requestText(request);
    for (let attempt = 0; ; attempt += 1) {
      const connection = await this.#connection(signal);
      if (signal.aborted) {
        if (connection.isIdle) this.#becameIdle(connection);
        throw signal.reason;
      }
      try {
        const kind = request.method === 'HEAD' ? 'bodiless' : sort;
        const result = await connection.run(text, receiver, signal, kind);
        if (result === 'unusual') {
          this.#unusualAnswers[sort] += 1;
          return await fallback.send(request, receiver, signal);
        }
        // Others may have found meanwhile that the lane is not for this server.
        if (this.#unusualAnswers[sort] < unusualAnswersMax) this.#unusualAnswers[sort] = 0;
        return undefined;
      } catch (error) {
        const reason = error instanceof LaneError ? error.reason : undefined;
        // Some of it was delivered: whoever asks again is to have another way, and not after others that went well.
        if (reason === 'misframed') this.#unusualAnswers[sort] = unusualAnswersMax;
        if (reason !== 'stale' || attempt > connections) throw error;
      }
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const reason = ebbError('ESHUTDOWN', `The connections to ${this.#options.origin} are closed.`);
    for (const waiting of this.#waiting) waiting.reject(reason);
    this.#waiting.clear();
    for (const connection of this.#open) connection.destroy(reason);
  }

  /** A free connection: an idle one, a new one, or the next that is given back. */
  async #connection(signal: AbortSignal): Promise<LaneConnection> {
    if (this.#closed) throw ebbError('ESHUTDOWN', `${this.#options.origin} was closed.`);
    const idle = [...this.#idle.keys()].at(-1);
    if (idle !== undefined) {
      this.#leaveIdle(idle);
      return idle;
    }
    if (this.#open.size < this.#options.connections) return this.#connect();
    if (this.#waiting.size >= waitingRequestsMax) {
      throw ebbError('EAGAIN', `${waitingRequestsMax} requests wait for ${this.#options.origin}.`);
    }
    return this.#wait(signal);
  }

  #wait(signal: AbortSignal): Promise<LaneConnection> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#waiting.delete(waiting);
        signal.removeEventListener('abort', onAbort);
      };
      const onAbort = (): void => waiting.reject(signal.reason);
      const waiting: Waiting = {
        give(connection) {
          leave();
          resolve(connection);
        },
        reject(reason) {
          leave();
          reject(reason);
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiting.add(waiting);
    });
  }

  #connect(): LaneConnection {
    const connection = new LaneConnection(this.#endpoint, this.#options, this.#scratch, {
      idle: (one) => this.#becameIdle(one),
      closed: (one) => this.#wasClosed(one),
    });
    this.#open.add(connection);
    return connection;
  }

  #becameIdle(connection: LaneConnection): void {
    const [next] = this.#waiting;
    if (next !== undefined) {
      next.give(connection);
      return;
    }
    const end = (): void => connection.destroy(new Error('idle'));
    const spare = this.#idle.size > 0;
    const serverMs = Math.max(0, (connection.idleMaxMs ?? Infinity) - idleMarginMs);
    const idleMs = Math.min(serverMs, spare ? spareIdleMsMax : idleMsMax);
    this.#idle.set(connection, setTimeout(end, idleMs).unref());
  }

  #leaveIdle(connection: LaneConnection): void {
    clearTimeout(this.#idle.get(connection));
    this.#idle.delete(connection);
  }

  #wasClosed(connection: LaneConnection): void {
    this.#leaveIdle(connection);
    this.#open.delete(connection);
    const [next] = this.#waiting;
    if (next !== undefined && !this.#closed) next.give(this.#connect());
  }
}

/** The head of a request. Its parts were checked where they came from; here it is made sure once more. */
function requestText(request: HttpRequest): string {
  const { host } = new URL(request.origin);
  const lines = [`${request.method} ${request.path} HTTP/1.1`, `host: ${host}`];
  for (const [name, value] of Object.entries(request.headers)) lines.push(`${name}: ${value}`);
  assert(/^[\u0021-\u007e]+$/.test(request.path), 'a path of printable characters');
  assert(
    lines.every((line) => /^[\t\u0020-\u007e\u0080-\u00ff]*$/.test(line)),
    'header fields without line breaks',
  );
  return `${lines.join('\r\n')}\r\n\r\n`;
}
