/**
 * One kept-alive connection of the fast lane. The socket is told where to read to (net's `onread`), so body bytes
 * go from the kernel straight into the receiver's memory. Only the head, chunks, and the first bytes after a pause come
 * through a scratch buffer; all connections share it, for it is emptied before any other can be read.
 *
 * A TLS socket hands over all records that it has read even when it is told to stop (TLSWrap::ClearOut in Node's
 * src/crypto/crypto_tls.cc), and the end of the connection behind them. What comes while the receiver makes us wait is
 * kept for its turn.
 */
import type { Socket } from 'node:net';

import { assert } from '../../../base/assert.ts';
import { KeptBytes, keptBytesMax } from '../kept-bytes.ts';
import { drainBytesMax } from '../transport.ts';
import type { AnswerReceiver, BodyTarget, TransportLimits } from '../transport.ts';
import { ChunkFraming, FramingError } from './chunk-framing.ts';
import { LaneError } from './lane-error.ts';
import { damaged, openSocket } from './lane-socket.ts';
import type { LaneEndpoint } from './lane-socket.ts';
import { parseResponseHead } from './response-head.ts';
import type { BodyKind, ParsedHead } from './response-head.ts';

export interface LaneEvents {
  /** Ready for the next request. */
  idle(connection: LaneConnection): void;
  /** Gone; comes exactly once. */
  closed(connection: LaneConnection): void;
}

/** `unusual`: nothing was delivered and the connection is gone; ask in another way. */
export type LaneResult = 'done' | 'unusual';

interface Exchange {
  readonly request: string;
  readonly kind: BodyKind;
  readonly receiver: AnswerReceiver;
  readonly signal: AbortSignal;
  readonly resolve: (result: LaneResult) => void;
  readonly reject: (reason: unknown) => void;
  readonly onAbort: () => void;
}

const nothing = new Uint8Array(0);

type State = 'connecting' | 'idle' | 'head' | 'body' | 'drain' | 'closed';

export class LaneConnection {
  readonly #limits: TransportLimits;
  readonly #events: LaneEvents;
  readonly #scratch: Uint8Array;
  readonly #socket: Socket;
  #state: State = 'connecting';
  #exchange: Exchange | undefined;
  #target: BodyTarget | undefined;
  /** Of a body that comes in chunks. */
  #chunks: ChunkFraming | undefined;
  /** The memory that the kernel fills now, when it is the target's own. */
  #direct: Uint8Array | undefined;
  /** Beginning of a head that came in pieces. */
  #partialHead: Uint8Array | undefined;
  #leftBytes = 0;
  #keepAlive = true;
  /** The receiver has some of the body. */
  #hasFilled = false;
  #waiting = false;
  /** What came while the receiver makes us wait, in order; ours, not in the scratch buffer. */
  readonly #kept = new KeptBytes();
  /** The socket ended while the receiver makes us wait. */
  #endKept = false;
  #answers = 0;
  #failedBecause: unknown;
  #idleMaxMs: number | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** `scratch` may be shared by all connections of a thread. */
  constructor(
    endpoint: LaneEndpoint,
    limits: TransportLimits,
    scratch: Uint8Array,
    events: LaneEvents,
  ) {
    this.#limits = limits;
    this.#events = events;
    this.#scratch = scratch;
    this.#socket = openSocket(endpoint, {
      buffer: () => this.#nextMemory(),
      callback: (countBytes, memory) => this.#received(countBytes, memory),
    });
    this.#socket.on(endpoint.tls === undefined ? 'connect' : 'secureConnect', () => this.#ready());
    this.#socket.on('error', (error) => this.#end(error));
    this.#socket.on('end', () => this.#end(undefined));
    this.#socket.on('close', () => this.#end(undefined));
    this.#arm(limits.connectTimeoutMs, 'UND_ERR_CONNECT_TIMEOUT', 'no connection in time');
  }

  /** How long the server says it keeps the connection; undefined: it does not say. */
  get idleMaxMs(): number | undefined {
    return this.#idleMaxMs;
  }

  get isIdle(): boolean {
    return this.#state === 'idle';
  }

  /**
   * Sends a request (the text of its head) and moves the answer. One at a time. See `Transport.send`; rejects also
   * with a `LaneError`.
   */
  run(
    request: string,
    receiver: AnswerReceiver,
    signal: AbortSignal,
    kind: BodyKind = 'plain',
  ): Promise<LaneResult> {
    assert(this.#exchange === undefined, 'one request at a time on a connection');
    if (this.#state === 'closed') return Promise.reject(this.#closedBecause());
    assert(this.#state === 'idle' || this.#state === 'connecting', 'the connection is free');
    return new Promise((resolve, reject) => {
      const onAbort = (): void => this.#fail(signal.reason);
      this.#exchange = { request, kind, receiver, signal, resolve, reject, onAbort };
      signal.addEventListener('abort', onAbort, { once: true });
      if (this.#state === 'idle') this.#sendRequest(request);
    });
  }

  /** A connect(2) that fails at once is told of before whoever waited for the connection has his turn. */
  #closedBecause(): unknown {
    const stale = new LaneError('UND_ERR_SOCKET', 'the connection was closed', 'stale');
    return this.#answers === 0 ? (this.#failedBecause ?? stale) : stale;
  }

  /** Closes at once; a request under way rejects with `reason`. */
  destroy(reason: Error): void {
    this.#fail(reason);
  }

  #ready(): void {
    if (this.#state !== 'connecting') return;
    this.#state = 'idle';
    this.#disarm();
    if (this.#exchange === undefined) this.#events.idle(this);
    else this.#sendRequest(this.#exchange.request);
  }

  #sendRequest(request: string): void {
    this.#state = 'head';
    this.#partialHead = undefined;
    this.#arm(this.#limits.headersTimeoutMs, 'UND_ERR_HEADERS_TIMEOUT', 'no answer in time');
    this.#socket.write(request, 'latin1');
  }

  /** Where the kernel puts the next bytes. Called by the socket after every read. */
  #nextMemory(): Uint8Array {
    this.#direct = undefined;
    const target = this.#target;
    const isPlainBody = this.#state === 'body' && this.#chunks === undefined;
    if (!isPlainBody || this.#waiting || target === undefined) return this.#scratch;
    try {
      const memory = target.buffer();
      const fits = memory.length <= this.#leftBytes;
      this.#direct = fits ? memory : memory.subarray(0, this.#leftBytes);
      return this.#direct;
    } catch (error) {
      this.#fail(error);
      return this.#scratch;
    }
  }

  /** `false` stops reading until `resume`. */
  #received(countBytes: number, memory: Uint8Array): boolean {
    if (this.#waiting) {
      this.#keep(memory.subarray(0, countBytes));
      return false;
    }
    // Not for a head: its time counts from the request, however slowly it trickles.
    if (this.#state !== 'head') this.#timer?.refresh();
    if (this.#state === 'body' && memory === this.#direct) {
      this.#direct = undefined;
      this.#filledDirectly(countBytes);
    } else this.#interpret(memory.subarray(0, countBytes));
    return !this.#waiting;
  }

  /** Bytes in the scratch buffer: whatever the state makes of them. Nothing of them is kept. */
  #interpret(bytes: Uint8Array): void {
    if (this.#state === 'head') this.#readHead(bytes);
    else if (this.#state === 'body') this.#copy(bytes);
    else if (this.#state === 'drain') this.#drain(bytes);
    else this.#fail(new LaneError('UND_ERR_SOCKET', 'bytes that nobody asked for'));
  }

  #readHead(bytes: Uint8Array): void {
    const before = this.#partialHead;
    const whole = before === undefined ? bytes : Buffer.concat([before, bytes]);
    const head = parseResponseHead(whole, this.#exchange?.kind);
    if (head.is === 'incomplete') {
      this.#partialHead = Uint8Array.from(whole);
      return;
    }
    this.#partialHead = undefined;
    if (head.is === 'unusual') this.#giveUp();
    else this.#startBody(head, whole.subarray(head.headBytes));
  }

  #startBody(head: ParsedHead & { is: 'head' }, rest: Uint8Array): void {
    const { status, headers } = head;
    this.#keepAlive = head.keepAlive;
    this.#idleMaxMs = head.idleMaxMs;
    this.#leftBytes = head.bodyBytes;
    this.#chunks = head.bodyBytes === Infinity ? new ChunkFraming() : undefined;
    this.#hasFilled = false;
    this.#answers += 1;
    try {
      const target = this.#exchange?.receiver.head({ status, headers });
      this.#target = this.#exchange?.kind === 'bodiless' ? undefined : target;
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (this.#target === undefined) {
      this.#state = 'drain';
      this.#settle()?.resolve('done');
      if (this.#chunks !== undefined) this.#leftBytes = drainBytesMax;
      if (this.#leftBytes > drainBytesMax) this.#close();
      else this.#drain(rest);
      return;
    }
    this.#state = 'body';
    this.#arm(this.#limits.bodyTimeoutMs, 'UND_ERR_BODY_TIMEOUT', 'the answer stopped');
    this.#copy(rest);
  }

  /** Scratch bytes into the target, until it makes us wait. No bytes: only looks whether all have come. */
  #copy(bytes: Uint8Array): void {
    if (this.#chunks !== undefined) return this.#copyChunks(bytes, this.#chunks);
    if (bytes.length > this.#leftBytes) {
      this.#fail(new LaneError('UND_ERR_RES_CONTENT_LENGTH_MISMATCH', 'more bytes than promised'));
      return;
    }
    let rest = bytes;
    try {
      while (rest.length > 0 && this.#target !== undefined) {
        const memory = this.#target.buffer();
        const countBytes = Math.min(memory.length, rest.length);
        memory.set(rest.subarray(0, countBytes));
        rest = rest.subarray(countBytes);
        if (!this.#delivered(this.#target, countBytes, rest)) return;
      }
    } catch (error) {
      this.#fail(error);
    }
    if (this.#state === 'body' && this.#leftBytes === 0) this.#finish();
  }

  /** The same of a body in chunks. */
  #copyChunks(bytes: Uint8Array, chunks: ChunkFraming): void {
    let rest = bytes;
    try {
      while (rest.length > 0 && this.#target !== undefined && !chunks.isDone) {
        rest = rest.subarray(chunks.skip(rest));
        if (rest.length === 0 || chunks.dataBytes === 0) continue;
        const memory = this.#target.buffer();
        const countBytes = Math.min(memory.length, rest.length, chunks.dataBytes);
        memory.set(rest.subarray(0, countBytes));
        chunks.took(countBytes);
        rest = rest.subarray(countBytes);
        if (!this.#delivered(this.#target, countBytes, rest)) return;
      }
    } catch (error) {
      if (error instanceof FramingError) this.#misframed(error.message);
      else this.#fail(error);
    }
    if (this.#state !== 'body' || !chunks.isDone) return;
    if (rest.length > 0) this.#misframed('more bytes than promised');
    else this.#finish();
  }

  /** Chunks that are not beyond doubt: a matter for the general client, at once if nobody has seen any of it. */
  #misframed(why: string): void {
    if (this.#hasFilled) this.#fail(new LaneError('UND_ERR_SOCKET', why, 'misframed'));
    else this.#giveUp();
  }

  #giveUp(): void {
    this.#settle()?.resolve('unusual');
    this.#close();
  }

  /** The kernel has put bytes into the target's own memory. */
  #filledDirectly(countBytes: number): void {
    if (this.#target === undefined) return;
    try {
      if (!this.#delivered(this.#target, countBytes, nothing)) return;
    } catch (error) {
      this.#fail(error);
    }
    if (this.#state === 'body' && this.#leftBytes === 0) this.#finish();
  }

  /** Tells the target; false when it makes us wait. `rest` is what else lies in the scratch buffer. */
  #delivered(target: BodyTarget, countBytes: number, rest: Uint8Array): boolean {
    this.#leftBytes -= countBytes;
    this.#hasFilled = true;
    const wait = target.filled(countBytes);
    if (wait === undefined) return true;
    this.#waiting = true;
    this.#socket.pause();
    this.#disarm();
    this.#keep(rest);
    wait.then(
      () => this.#goOn(),
      (error: unknown) => {
        this.#waiting = false;
        this.#fail(error);
      },
    );
    return false;
  }

  #keep(bytes: Uint8Array): void {
    if (this.#state !== 'body') return;
    // The scratch buffer belongs to others while we wait.
    this.#kept.add(bytes.buffer === this.#scratch.buffer ? Uint8Array.from(bytes) : bytes);
    if (this.#kept.sizeBytes <= keptBytesMax) return;
    this.#fail(new LaneError('UND_ERR_SOCKET', 'the socket does not stop'));
  }

  #goOn(): void {
    this.#waiting = false;
    if (this.#state !== 'body') return;
    this.#arm(this.#limits.bodyTimeoutMs, 'UND_ERR_BODY_TIMEOUT', 'the answer stopped');
    // All in one, so that bytes behind the body are noticed before the next request can go out.
    this.#copy(this.#kept.take());
    if (this.#waiting) return;
    if (this.#endKept) this.#end(undefined);
    else this.#resume();
  }

  #resume(): void {
    if (this.#state !== 'closed') this.#socket.resume();
  }

  /** The rest of a body that nobody wants; of one in chunks `#leftBytes` is how much may come yet. */
  #drain(bytes: Uint8Array): void {
    this.#leftBytes -= bytes.length;
    if (this.#leftBytes < 0) this.#close();
    else if (this.#chunks !== undefined) this.#drainChunks(bytes, this.#chunks);
    else if (this.#leftBytes === 0) this.#release();
  }

  #drainChunks(bytes: Uint8Array, chunks: ChunkFraming): void {
    try {
      const rest = chunks.passOver(bytes);
      if (rest.length > 0) this.#close();
      else if (chunks.isDone) this.#release();
    } catch {
      // Its request is settled: only the connection is lost.
      this.#close();
    }
  }

  #finish(): void {
    this.#target = undefined;
    const exchange = this.#settle();
    this.#release();
    exchange?.resolve('done');
  }

  #release(): void {
    if (!this.#keepAlive) {
      this.#close();
      return;
    }
    this.#state = 'idle';
    this.#disarm();
    this.#events.idle(this);
  }

  /** The socket ended, with or without an error. */
  #end(error: Error | undefined): void {
    if (this.#state === 'closed') return;
    if (error === undefined && this.#waiting) {
      this.#endKept = true;
      this.#keepAlive = false;
      return;
    }
    const unanswered = this.#state === 'head' && this.#partialHead === undefined;
    const reason = unanswered && this.#answers > 0 ? 'stale' : undefined;
    if (error !== undefined && reason === undefined) {
      this.#fail(this.#state === 'connecting' ? error : damaged(error));
    } else this.#fail(new LaneError('UND_ERR_SOCKET', 'the server closed the connection', reason));
  }

  #fail(reason: unknown): void {
    this.#failedBecause ??= reason;
    const exchange = this.#settle();
    this.#close();
    exchange?.reject(reason);
  }

  /** Takes the exchange off: from here on its receiver and target are not touched. */
  #settle(): Exchange | undefined {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.#target = undefined;
    exchange?.signal.removeEventListener('abort', exchange.onAbort);
    return exchange;
  }

  #close(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#kept.take();
    this.#disarm();
    this.#socket.destroy();
    this.#events.closed(this);
  }

  #arm(timeoutMs: number, code: string, message: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fail(new LaneError(code, message)), timeoutMs);
  }

  #disarm(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
