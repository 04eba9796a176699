/** The general transport: undici, HTTP/1.1, keep-alive, proxies. Body bytes are copied once, into the target. */
import { Agent, EnvHttpProxyAgent, errors, ProxyAgent } from 'undici';
import type { Dispatcher } from 'undici';

import { drainBytesMax, idleMsMax, tlsConnectOptions } from './transport.ts';
import type {
  AnswerReceiver,
  BodyTarget,
  HttpRequest,
  TlsOptions,
  Transport,
  TransportLimits,
} from './transport.ts';
import { field, parseLength } from './attributes.ts';
import { KeptBytes, keptBytesMax } from './kept-bytes.ts';

export interface UndiciTransportOptions extends TransportLimits {
  readonly tls: TlsOptions;
  /** A proxy's URL; `environment`: what http_proxy, https_proxy and no_proxy say; undefined: none. */
  readonly proxy: string | undefined;
}

export class UndiciTransport implements Transport {
  readonly #dispatcher: Dispatcher;
  readonly #limits: TransportLimits;

  constructor(options: UndiciTransportOptions) {
    this.#limits = options;
    this.#dispatcher = makeDispatcher(options);
  }

  send(request: HttpRequest, receiver: AnswerReceiver, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const handler = new AnswerHandler(request.method, receiver, signal, resolve, reject);
      this.#dispatcher.dispatch(
        {
          origin: request.origin,
          path: request.path,
          method: request.method,
          headers: request.headers,
          headersTimeout: this.#limits.headersTimeoutMs,
          bodyTimeout: this.#limits.bodyTimeoutMs,
        },
        handler,
      );
    });
  }

  async close(): Promise<void> {
    await this.#dispatcher.destroy();
  }
}

function makeDispatcher(options: UndiciTransportOptions): Dispatcher {
  const tls = tlsConnectOptions(options.tls);
  const shared = {
    connections: options.connections,
    connectTimeout: options.connectTimeoutMs,
    headersTimeout: options.headersTimeoutMs,
    bodyTimeout: options.bodyTimeoutMs,
    pipelining: 1,
    // Where the server does not say how long it keeps connections.
    keepAliveTimeout: idleMsMax,
    allowH2: false,
  };
  const connect = { ...tls, timeout: options.connectTimeoutMs };
  if (options.proxy === undefined) return new Agent({ ...shared, connect });
  // A proxy by https is no server of the remote's: it is shown no client certificate, and `insecure` is not about it.
  const { ca } = options.tls;
  const proxyTls = tlsConnectOptions({
    ca,
    clientCertificate: undefined,
    clientKey: undefined,
    insecure: false,
  });
  if (options.proxy === 'environment') {
    // `connect` is for the hosts that no_proxy excepts.
    return new EnvHttpProxyAgent({ ...shared, requestTls: tls, proxyTls, connect });
  }
  return new ProxyAgent({ ...shared, uri: options.proxy, requestTls: tls, proxyTls });
}

type Controller = Dispatcher.DispatchController;

/** Moves one answer into its receiver. Settles exactly once, and touches the target's memory never after. */
class AnswerHandler implements Dispatcher.DispatchHandler {
  readonly #method: string;
  readonly #receiver: AnswerReceiver;
  readonly #signal: AbortSignal;
  readonly #resolve: () => void;
  readonly #reject: (reason: unknown) => void;
  #controller: Controller | undefined;
  #target: BodyTarget | undefined;
  #drainedBytes = 0;
  #settled = false;
  /** For a `filled`; the connection is paused meanwhile. */
  #waiting = false;
  /** What came while the target makes us wait: a connection that ends hands over all that it has read. */
  readonly #kept = new KeptBytes();
  /** The answer has ended while the target makes us wait: what is to be done after that. */
  #end: (() => void) | undefined;

  constructor(
    method: string,
    receiver: AnswerReceiver,
    signal: AbortSignal,
    resolve: () => void,
    reject: (reason: unknown) => void,
  ) {
    this.#method = method;
    this.#receiver = receiver;
    this.#signal = signal;
    this.#resolve = resolve;
    this.#reject = reject;
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  readonly #onAbort = (): void => this.#fail(this.#signal.reason);

  onRequestStart(controller: Controller): void {
    this.#controller = controller;
    if (this.#settled) controller.abort(stopped);
  }

  onResponseStart(
    controller: Controller,
    status: number,
    headers: Dispatcher.ResponseData['headers'],
  ): void {
    if (status < 200 || this.#settled) return;
    try {
      this.#target = this.#receiver.head({ status, headers });
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (this.#target !== undefined || this.#method === 'HEAD') return;
    const lengthBytes = parseLength(field(headers, 'content-length')) ?? Infinity;
    this.#succeed();
    if (lengthBytes > drainBytesMax) controller.abort(stopped);
  }

  onResponseData(controller: Controller, chunk: Buffer): void {
    if (this.#target === undefined) {
      this.#drainedBytes += chunk.length;
      if (this.#drainedBytes > drainBytesMax) controller.abort(stopped);
    } else if (this.#waiting) this.#keep(chunk);
    else if (!this.#settled) this.#deliver(this.#target, chunk);
  }

  onResponseEnd(): void {
    this.#ended(() => this.#succeed());
  }

  onResponseError(_controller: Controller, error: Error): void {
    this.#ended(() => this.#fail(error));
  }

  #ended(end: () => void): void {
    if (this.#waiting) this.#end ??= end;
    else end();
  }

  /** Copies until the target makes us wait; then the rest follows when it is ready. */
  #deliver(target: BodyTarget, chunk: Uint8Array): void {
    let rest = chunk;
    try {
      while (rest.length > 0) {
        const memory = target.buffer();
        const countBytes = Math.min(memory.length, rest.length);
        memory.set(countBytes === rest.length ? rest : rest.subarray(0, countBytes));
        rest = rest.subarray(countBytes);
        const wait = target.filled(countBytes);
        if (wait !== undefined) {
          this.#wait(wait, target, rest);
          return;
        }
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #wait(wait: Promise<void>, target: BodyTarget, rest: Uint8Array): void {
    this.#controller?.pause();
    this.#waiting = true;
    this.#keep(rest);
    wait.then(
      () => {
        this.#waiting = false;
        if (this.#settled) return;
        this.#deliver(target, this.#kept.take());
        if (this.#waiting || this.#settled) return;
        if (this.#end === undefined) this.#controller?.resume();
        else this.#end();
      },
      (error: unknown) => {
        this.#waiting = false;
        this.#fail(error);
      },
    );
  }

  #keep(bytes: Uint8Array): void {
    this.#kept.add(bytes);
    if (this.#kept.sizeBytes <= keptBytesMax) return;
    this.#fail(new errors.SocketError('the socket does not stop'));
  }

  #succeed(): void {
    if (this.#settle()) this.#resolve();
  }

  #fail(reason: unknown): void {
    if (!this.#settle()) return;
    this.#reject(reason);
    this.#controller?.abort(reason instanceof Error ? reason : stopped);
  }

  #settle(): boolean {
    if (this.#settled) return false;
    this.#settled = true;
    this.#signal.removeEventListener('abort', this.#onAbort);
    return true;
  }
}

const stopped = new Error('The rest of the answer is not wanted.');
